"""The step into the background: what the process that was started shows, and with which code it exits.

That process is a child of the test, and the daemon its grandchild, which does what the test says and ends.
"""

import os
import pathlib
import signal
import sys
from collections.abc import Callable

import pytest

from tests.conftest import wait_until
from tests.forked import Forked
from wsgicluster.arbiter.service import daemonize
from wsgicluster.arbiter.service.daemonize import Background
from wsgicluster.errors import ServerError

DEADLINE_S = 20.0


class Started:
    """One start of a daemon."""

    def __init__(self, folder: pathlib.Path, daemon: Callable[[Background], object]) -> None:
        self._shown = folder / "shown"
        self._shown.touch()
        self._pid = folder / "pid"
        self._daemon = daemon
        self.child = Forked(self._start)

    def _start(self) -> None:
        shown = os.open(self._shown, os.O_WRONLY | os.O_APPEND)
        os.dup2(shown, 1)
        os.dup2(shown, 2)
        # As it is in a process of its own: pytest's own object would keep what is written.
        sys.stderr = os.fdopen(2, "w", closefd=False)
        background = Background.enter()
        signal.alarm(30)  # it has no parent here, and must not stay
        partial = self._pid.with_suffix(".partial")
        partial.write_text(f"{os.getpid()} {os.getsid(0)} {os.getppid()}")
        partial.rename(self._pid)
        self._daemon(background)
        os._exit(0)

    @property
    def shown(self) -> str:
        """What is on the terminal."""
        return self._shown.read_text()

    def daemon(self) -> int:
        """The daemon's process ID, once there is one."""
        wait_until(self._pid.exists, DEADLINE_S, "there is a daemon")
        return int(self._pid.read_text().split()[0])

    def session(self) -> int:
        """The daemon's session."""
        self.daemon()
        return int(self._pid.read_text().split()[1])


Start = Callable[[Callable[[Background], object]], Started]


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Start:
    return lambda daemon: Started(tmp_path, daemon)


def test_it_exits_with_0_once_the_first_worker_is_ready(start: Start) -> None:
    started = start(lambda background: background.succeeded())
    with started.child as child:
        assert child.code() == 0
    assert started.shown == ""
    # No terminal, neither now nor later: another session, whose leader it is not.
    assert started.session() not in (os.getsid(0), started.daemon())


def test_a_failure_is_shown_on_one_line_and_its_code_is_kept(start: Start) -> None:
    started = start(lambda background: background.failed(3, "worker 1\n  could not\tboot " + "x" * 2000))
    with started.child as child:
        assert child.code() == 3
    (line,) = started.shown.splitlines()
    assert line.startswith("wsgicluster: error: worker 1 could not boot xxx")
    assert len(line) < 1100


def test_a_daemon_that_ends_without_a_word_is_a_failed_start(start: Start) -> None:
    started = start(lambda background: None)
    with started.child as child:
        assert child.code() == ServerError.exit_code
    assert "the server ended before its first worker was ready; see its log" in started.shown


def test_one_that_takes_long_is_named_once(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(daemonize, "REMARK_S", 0.05)
    go = tmp_path / "go"

    def daemon(background: Background) -> None:
        wait_until(go.exists, DEADLINE_S)
        background.succeeded()

    started = start(daemon)
    with started.child as child:
        wait_until(lambda: "waiting for the first worker" in started.shown, DEADLINE_S)
        go.touch()
        assert child.code() == 0
    assert started.shown.count("waiting for the first worker") == 1
    assert "; Ctrl-C stops it" in started.shown


@pytest.mark.parametrize("keeps", [True, False], ids=["to a log", "to the terminal"])
def test_the_terminal_is_closed_unless_output_leads_to_a_log(start: Start, tmp_path: pathlib.Path, keeps: bool) -> None:
    def daemon(background: Background) -> None:
        background.detach(keep_output=keeps)
        os.write(1, b"printed")
        (tmp_path / "input").write_text(os.readlink("/proc/self/fd/0"))
        background.succeeded()

    started = start(daemon)
    with started.child as child:
        assert child.code() == 0
    assert started.shown == ("printed" if keeps else "")
    assert (tmp_path / "input").read_text() == os.devnull


def test_a_daemon_outlives_the_process_that_was_to_be_told(start: Start, tmp_path: pathlib.Path) -> None:
    go, done = tmp_path / "go", tmp_path / "done"

    def daemon(background: Background) -> None:
        wait_until(go.exists, DEADLINE_S)
        background.succeeded()
        done.touch()

    started = start(daemon)
    with started.child as child:
        started.daemon()
        child.send(signal.SIGKILL)
        assert child.code() == -signal.SIGKILL
    go.touch()
    wait_until(done.exists, DEADLINE_S)
