"""A server that is started at a terminal: what it prints first, in which colours, and how it is stopped."""

import os
import pathlib
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.conftest import LEAST_DEADLINE_S, ROOT, wait_until

pytestmark = pytest.mark.live


class Terminal:
    """A terminal, and a server in its foreground."""

    def __init__(self, folder: pathlib.Path, environ: dict[str, str], *arguments: str) -> None:
        self._ours, its = os.openpty()
        self.text = ""
        self.process = subprocess.Popen(
            [
                "setsid",
                "--ctty",
                sys.executable,
                "-m",
                "wsgicluster",
                "-b",
                "127.0.0.1:0",
                *arguments,
                "tests.apps.basic",
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "WSGICLUSTER_TIMOUT": "1", **environ},
            stdin=its,
            stdout=its,
            stderr=its,
        )
        os.close(its)

    def read_until(self, words: str) -> None:
        """Read what is printed, up to these words."""
        deadline = time.monotonic() + LEAST_DEADLINE_S
        while words not in self.text:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"without {words!r}:\n{self.text}"
            self.text += os.read(self._ours, 4096).decode()

    def type(self, keys: bytes) -> None:
        """Type."""
        os.write(self._ours, keys)

    def close(self) -> None:
        """End it, if it still runs."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    found: list[Terminal] = []
    yield found
    for terminal in found:
        terminal.close()


def test_what_it_prints_first_and_that_a_key_stops_it(terminals: list[Terminal], tmp_path: pathlib.Path) -> None:
    terminal = Terminal(tmp_path, {"NO_COLOR": ""}, "--threads", "2", "-n", "shop")
    terminals.append(terminal)
    terminal.read_until("Started: 1 worker serves")
    lines = terminal.text.splitlines()
    shape = re.compile(r"\[[-0-9: +]+\] \[\d+\] (?:\x1b\[33m)?\[[A-Z]+\](?:\x1b\[0m)? \S")
    assert all(map(shape.match, lines))
    assert "\x1b[33m[WARNING]\x1b[0m environment: WSGICLUSTER_TIMOUT" in lines[0]
    assert terminal.text.count("\x1b") == 2 * terminal.text.count("[WARNING]")
    said = "\n".join(line.split("[INFO] ", 1)[-1] for line in lines)
    assert re.search(r"^Starting wsgicluster \S+ \(core: (compiled|plain Python)", said, re.MULTILINE)
    assert re.search(r"^Using worker: gthread \(1 worker with 2 threads each\) on \w+ 3\.\d+", said, re.MULTILINE)
    stop = rf"^To stop: Ctrl-C, wsgiclusterctl -n shop stop or kill -TERM {terminal.process.pid}$"
    assert re.search(stop, said, re.MULTILINE)
    terminal.type(b"\x03")
    terminal.read_until("Stopped")
    assert terminal.process.wait(LEAST_DEADLINE_S) == 0


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_colours_are_left_out(environ: dict[str, str], terminals: list[Terminal], tmp_path: pathlib.Path) -> None:
    terminals.append(Terminal(tmp_path, environ))
    terminals[0].read_until("Listening at")
    assert "[WARNING] environment: WSGICLUSTER_TIMOUT" in terminals[0].text
    assert "\x1b" not in terminals[0].text


def test_a_log_file_has_no_colours(terminals: list[Terminal], tmp_path: pathlib.Path) -> None:
    log = tmp_path / "log"
    terminals.append(Terminal(tmp_path, {}, "--error-logfile", str(log)))
    wait_until(lambda: log.exists() and "Listening at" in log.read_text(), 5)
    assert "[WARNING] environment: WSGICLUSTER_TIMOUT" in log.read_text()
    assert "\x1b" not in log.read_text()
