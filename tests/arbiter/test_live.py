"""A real arbiter with a worker of a few lines (small_server.py): processes, signals, descriptors."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import (
    LEAST_DEADLINE_S,
    ROOT,
    children_of,
    descriptors_of,
    has_at_most,
    is_alive,
    steady_descriptors,
    wait_until,
)

pytestmark = pytest.mark.live

PROGRAM = pathlib.Path(__file__).parent / "small_server.py"
TCP = [["tcp", "127.0.0.1", 0]]


class Small:
    """One server in its folder."""

    def __init__(self, folder: pathlib.Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.log_path = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.settings = {"bind": TCP, "workers": 2, "timeout": 10.0, **settings}

    def start(self, *prefix: str) -> "Small":
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [*prefix, sys.executable, str(PROGRAM), json.dumps(self.settings)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        return self

    def code(self, **fields: Any) -> None:
        """Replace the workers' code, as a deployment does."""
        new = self.folder / "boot.json.new"
        new.write_text(json.dumps(fields))
        new.replace(self.folder / "boot.json")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def wait_log(self, pattern: str, count: int = 1, timeout_s: float = 10.0) -> None:
        wait_until(lambda: len(re.findall(pattern, self.log())) >= count, timeout_s, pattern)

    def ready(self) -> "Small":
        self.wait_log("workers? serves?")
        return self

    def ask(self, line: str = "hello") -> dict[str, Any]:
        return json.loads(self.raw(line))  # type: ignore[no-any-return]

    def connect(self, line: str) -> socket.socket:
        """A client that has sent a line."""
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", self.log())
        assert found
        client = socket.create_connection(("127.0.0.1", int(found[1])), 20.0)
        client.sendall(line.encode())
        return client

    @contextlib.contextmanager
    def stubborn(self) -> Iterator[None]:
        """A request is being served, and is not going to be answered."""
        with self.connect("stubborn"):
            wait_until((self.folder / "stubborn").exists, 10.0, "the request has begun")
            yield

    def raw(self, line: str) -> bytes:
        with self.connect(line) as client:
            with contextlib.suppress(ConnectionResetError):  # the worker died in the middle
                return client.recv(10000)
        return b""

    def children(self) -> list[int]:
        return children_of(self.pid)

    def wait_children(self, count: int) -> None:
        wait_until(lambda: len(self.children()) == count, 10.0, f"{count} children")

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_end(self, timeout_s: float = 10.0) -> int:
        assert self.process is not None
        return self.process.wait(max(timeout_s, LEAST_DEADLINE_S))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.wait_end()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            left = self.children()
            self.process.kill()
            self.process.wait()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):  # it noticed by itself
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def small(tmp_path: pathlib.Path) -> Iterator[Any]:
    made: list[Small] = []

    def make(**settings: Any) -> Small:
        server = Small(tmp_path, settings)
        made.append(server)
        server.code(version=1)
        return server

    yield make
    for server in made:
        server.end()
        print(server.log())


def test_start_serve_stop(small: Any, tmp_path: pathlib.Path) -> None:
    pidfile = tmp_path / "pid"
    server = small(pidfile=str(pidfile), bind=[*TCP, ["unix", str(tmp_path / "socket")]]).start().ready()
    assert pidfile.read_text() == f"{server.pid}\n"
    assert server.ask()["version"] == 1
    workers = server.children()
    assert len(workers) == 2
    assert server.stop() == 0
    assert not any(is_alive(pid) for pid in workers)
    assert sorted(os.listdir(tmp_path)) == ["boot.json", "log"]
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("preload", [False, True])
def test_workers_keep_no_descriptor_too_many(small: Any, preload: bool) -> None:
    """Standard streams, log, channel, hand-off (2), stacks, listener; the worker's own: wake (2), client, listing.

    Mailboxes: two sending ends for each of the two slots, two receiving ends, the files of retained values and of
    turns. And the files of the shared state, counters and locks.
    """
    server = small(preload_app=preload).start().ready()
    server.send(signal.SIGHUP)
    server.wait_log("Reload complete")
    assert len(server.ask("descriptors")) == 3 + 1 + 4 + 1 + 4 + (2 * 2 + 2 + 2) + 2
    assert server.stop() == 0


@pytest.mark.parametrize("preload", [False, True])
def test_the_arbiter_s_descriptors_do_not_grow(small: Any, preload: bool) -> None:
    server = small(preload_app=preload).start().ready()
    before = steady_descriptors(server.pid)
    for number in range(2, 6):
        server.send(signal.SIGHUP)
        server.wait_log("Reload complete", number - 1)
        assert server.raw("exit1") == b""
    workers = 3 if preload else 2
    server.wait_children(workers)
    wait_until(lambda: has_at_most(server.pid, before), 10.0, "descriptors are few again")
    # A worker that has just exited is reaped in the arbiter's next turn.
    wait_until(lambda: not children_of(server.pid, zombies=True), 10.0, "all that have exited are reaped")


@pytest.mark.parametrize("preload", [False, True])
def test_reload_good_broken_good(small: Any, preload: bool) -> None:
    server = small(preload_app=preload).start().ready()
    server.code(version=2, fail="broken code")
    server.send(signal.SIGHUP)
    server.wait_log("Reload aborted: generation 2 failed to start; generation 1 keeps serving")
    assert server.ask()["version"] == 1
    assert server.log().count("Traceback of broken code") == 1
    server.code(version=3)
    server.send(signal.SIGHUP)
    server.wait_log("Reload complete")
    server.wait_children(2 + preload)
    assert server.ask()["version"] == 3
    assert server.stop() == 0


def test_code_that_dies_at_once_is_not_trusted(small: Any) -> None:
    server = small().start().ready()
    server.code(version=2, die_s=0.05)
    server.send(signal.SIGHUP)
    server.wait_log("Reload aborted: generation 2 failed to start; generation 1 keeps serving")
    assert server.ask()["version"] == 1


@pytest.mark.parametrize("preload", [False, True])
def test_broken_at_start(small: Any, tmp_path: pathlib.Path, preload: bool) -> None:
    server = small(pidfile=str(tmp_path / "pid"), workers=4, preload_app=preload)
    server.code(fail="no database")
    server.start()
    assert server.wait_end() == 4
    assert server.log().count("Traceback of no database") == 1
    assert sorted(os.listdir(tmp_path)) == ["boot.json", "log"]


def test_dying_at_start(small: Any) -> None:
    server = small()
    server.code(boot_exit=9)
    server.start()
    assert server.wait_end() == 3
    assert "exit code 9, while booting" in server.log()


def test_wrong_settings_change_nothing(small: Any, tmp_path: pathlib.Path) -> None:
    server = small().start().ready()
    (tmp_path / "settings.json").write_text('{"wrong": "timeout: not a time"}')
    server.send(signal.SIGHUP)
    server.wait_log("Reload aborted: timeout: not a time.*; the present settings stay in force")
    (tmp_path / "settings.json").write_text('{"workers": 3, "backlog": 7}')
    server.send(signal.SIGHUP)
    server.wait_log("Reload complete: 3 workers serve")
    assert "backlog has changed, which needs a restart" in server.log()


def test_a_reload_that_is_aborted_reverts_the_log(small: Any, tmp_path: pathlib.Path) -> None:
    server = small().start().ready()
    server.code(fail="broken")
    (tmp_path / "settings.json").write_text(json.dumps({"errorlog": str(tmp_path / "new.log")}))
    server.send(signal.SIGHUP)
    new = tmp_path / "new.log"
    wait_until(lambda: new.exists() and "Reload aborted" in new.read_text(), 10.0, "aborted in the new log")
    server.send(signal.SIGTTIN)
    server.wait_log("SIGTTIN")


def test_scaling(small: Any) -> None:
    server = small().start().ready()
    server.send(signal.SIGTTIN)
    server.wait_children(3)
    for number, wanted in enumerate((2, 1, 1), start=1):
        server.send(signal.SIGTTOU)
        server.wait_log("SIGTTOU", number)
        server.wait_children(wanted)
    server.send(signal.SIGWINCH)
    server.wait_log("not a daemon")
    server.send(signal.SIGUSR2)
    server.wait_log("SIGUSR2: no new server is started")
    server.send(signal.SIGUSR1)
    server.wait_log("reopening the logs")
    assert server.stop() == 0


@pytest.mark.parametrize("preload", [False, True])
def test_a_crash_is_reported_once_and_replaced(small: Any, preload: bool) -> None:
    server = small(preload_app=preload).start().ready()
    server.raw("segv")
    server.wait_log(r"crashed: signal SIGSEGV, up .* requests? served, peak .*, in GET /segv from 127\.0\.0\.1:9")
    server.wait_children(2 + preload)
    for pid in [p for p in server.children() if p != server.children()[0]]:
        os.kill(pid, signal.SIGKILL)
    server.wait_log("was killed from outside")
    server.wait_children(2 + preload)
    assert server.stop() == 0


def test_workers_that_die_again_and_again_back_off(small: Any) -> None:
    server = small(workers=1).start().ready()
    server.code(boot_exit=9)
    server.raw("exit1")
    server.wait_log("3 quick deaths in a row, next try in 1 s; degraded: 0 of 1 worker serves")
    server.code(version=2)
    server.send(signal.SIGHUP)
    server.wait_log("Reload complete")
    assert server.ask()["version"] == 2
    server.wait_log("The worker serves again")
    assert server.log().count("serves again") == 1


def test_a_hang_is_reported_with_its_stack_and_replaced_first(small: Any) -> None:
    server = small(timeout=1.0).start().ready()
    assert server.raw("hang") == b""
    server.wait_log(r"hung in GET /hang from 127\.0\.0\.1:9 for \d.*timeout of 1\.0 s passed, it was waiting and")
    assert "in wedge" in server.log()
    assert "in fork" not in server.log()
    server.wait_children(2)
    assert server.ask()["pid"] in server.children()


@pytest.mark.parametrize("preload", [False, True])
def test_a_boot_that_hangs(small: Any, preload: bool) -> None:
    server = small(timeout=2.5, workers=1, preload_app=preload)
    server.code(boot_s=60)
    server.start()
    assert server.wait_end() == 3
    assert "did not become ready in time: timeout" in server.log()
    assert "in load_application" in server.log()


@pytest.mark.parametrize("preload", [False, True])
def test_recycling(small: Any, preload: bool) -> None:
    server = small(workers=1, preload_app=preload).start().ready()
    old = server.ask("recycle requests")["pid"]
    wait_until(lambda: not is_alive(old), 5.0, "recycled")
    new = server.ask()
    assert (new["slot"], new["generation"]) == (1, 1)
    assert new["pid"] != old
    server.wait_log("exited: recycled after its number of requests")
    server.code(version=2)
    server.ask("recycle source")
    server.wait_log("Reload complete")
    server.wait_children(1 + preload)
    assert server.ask()["version"] == 2


def test_a_graceful_stop_cuts_what_takes_too_long(small: Any, tmp_path: pathlib.Path) -> None:
    server = small(workers=1, graceful_timeout=0.5).start().ready()
    with server.stubborn():
        assert server.stop() == 5
    assert "1 request was cut off (GET /stubborn), 1 worker had to be killed; the exit code is 5" in server.log()
    assert re.search(r"was cut off after graceful_timeout of 0\.5 s, in GET /stubborn", server.log())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop(small: Any, number: signal.Signals) -> None:
    server = small(workers=1).start().ready()
    workers = server.children()
    with server.stubborn():
        assert server.stop(number) == 0
    assert not any(is_alive(pid) for pid in workers)


def test_a_stop_during_the_first_boot(small: Any) -> None:
    server = small()
    server.code(boot_s=30)
    server.start()
    wait_until(lambda: "started" in server.log() if server.log_path.exists() else False, 5.0, "workers boot")
    assert server.stop() == 0


def test_a_storm_of_signals(small: Any) -> None:
    server = small(workers=3).start().ready()
    server.code(version=2)
    storm = [signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR1, signal.SIGTTOU, signal.SIGCHLD, signal.SIGUSR2]
    for _ in range(30):
        for number in storm:
            server.send(number)
    server.code(version=3)
    server.send(signal.SIGHUP)
    wait_until(lambda: server.log().rstrip().endswith("serve") or "Reload complete" in server.log(), 15.0, "calm")
    wait_until(lambda: len(server.children()) == 3 and server.ask()["version"] == 3, 15.0, "newest code, 3 workers")
    assert server.stop() == 0
    assert "Traceback" not in server.log()


def test_a_taken_address(small: Any, tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        server = small(bind=[["tcp", "127.0.0.1", port]], pidfile=str(tmp_path / "pid")).start()
        assert server.wait_end() == 1
    assert f"127.0.0.1:{port}: the address is in use by process {os.getpid()} (" in server.log()
    assert sorted(os.listdir(tmp_path)) == ["boot.json", "log"]


def test_a_held_pid_file(small: Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    server = small(pidfile=str(tmp_path / "pid")).start()
    assert server.wait_end() == 1
    assert f"held by process {os.getpid()}" in server.log()
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"


def test_workers_leave_when_the_arbiter_is_killed(small: Any) -> None:
    server = small(preload_app=True).start().ready()
    workers = server.children()
    server.send(signal.SIGKILL)
    server.wait_end()
    wait_until(lambda: not any(is_alive(pid) for pid in workers), 5.0, "all have left")


@pytest.mark.parametrize("broken", [False, True])
def test_daemon(small: Any, tmp_path: pathlib.Path, broken: bool) -> None:
    pidfile = tmp_path / "pid"
    with socket.create_server(("127.0.0.1", 0)) as holder:
        bind = [["tcp", "127.0.0.1", holder.getsockname()[1]]] if broken else TCP
        server = small(daemon=True, pidfile=str(pidfile), bind=bind, errorlog=str(tmp_path / "error.log")).start()
        assert server.wait_end() == (1 if broken else 0)
    if broken:
        assert "the address is in use" in server.log()
        return
    daemon = int(pidfile.read_text())
    assert os.getsid(daemon) not in (daemon, os.getsid(0))
    assert {descriptors_of(daemon)[number] for number in (0, 1, 2)} == {"/dev/null"}
    wait_until(lambda: " serve" in (tmp_path / "error.log").read_text(), 5.0, "serves")
    os.kill(daemon, signal.SIGWINCH)
    wait_until(lambda: children_of(daemon) == [], 5.0, "retired")
    os.kill(daemon, signal.SIGTTIN)
    wait_until(lambda: len(children_of(daemon)) == 1, 5.0, "one is back")
    os.kill(daemon, signal.SIGHUP)
    wait_until(lambda: len(children_of(daemon)) == 2, 5.0, "all are back")
    os.kill(daemon, signal.SIGTERM)
    wait_until(lambda: not is_alive(daemon), 5.0, "stopped")
    assert not pidfile.exists()


def test_an_idle_arbiter_sleeps(small: Any) -> None:
    # Without a control socket: a wsgiclusterctl that looks for its server asks every one of this user.
    server = small(timeout=30.0, control_socket_disable=True).start().ready()

    def switches() -> int:
        text = pathlib.Path(f"/proc/{server.pid}/status").read_text()
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)
        assert found
        return int(found[1])

    # The next look is 7.5 s after the last one: three seconds in which nothing happens bring no wake-up at all.
    server.ask()
    seen, since = switches(), time.monotonic()

    def is_calm() -> bool:
        nonlocal seen, since
        if switches() != seen:
            seen, since = switches(), time.monotonic()
        return time.monotonic() - since >= 3.0

    wait_until(is_calm, 20.0, "three seconds without a wake-up")
