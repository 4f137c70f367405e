"""From fork to exit: what a worker's process does before and after it serves, and how it exits.

Each worker is a child of the test, which plays the arbiter and the client.
"""

import contextlib
import os
import pathlib
import re
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.forked import Forked
from wsgicluster.errors import AppLoadError, BootError
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import BootFailed, Broken, Channel, ChannelClosed, Message, Ready, RecycleWanted
from wsgicluster.ipc.scoreboard import Cell, Scoreboard, ServerState, WorkerState
from wsgicluster.logs.logs import LogOptions, Logs
from wsgicluster.settings import Settings
from wsgicluster.system.signals import ARBITER_EXITED
from wsgicluster.worker import SyncWorker
from wsgicluster.worker.boot import BootInputs, boot_worker, load_application
from wsgicluster.worker.lifecycle import reloader

HELLO = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""
DEADLINE_S = 20.0


class Boot:
    """What the arbiter has of one worker: its ends of everything, and what it reads in the worker's files."""

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        self.folder = folder
        self.module = name
        self.source = folder / f"{name}.py"
        self.stack = contextlib.ExitStack()
        self.listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listener.setblocking(False)
        self.board = Scoreboard(str(folder))
        self.stack.callback(self.board.close)
        self.board.server.cells[Cell.STATE] = ServerState.STOPPING
        self.channel, self.theirs = Channel.pair()
        self.stack.callback(self.channel.close)
        self.stack.callback(self.theirs.close)
        self.hand_off = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in self.hand_off:
            sock.setblocking(False)
            self.stack.enter_context(sock)
        self.stacks = os.open(folder / "stacks", os.O_RDWR | os.O_CREAT)
        self.stack.callback(os.close, self.stacks)
        self.page = self.board.take(1, 1)
        self.messages: list[Message] = []

    def fork(self, source: str = HELLO, application: Any = None, smoke_test: bool = False, **settings: Any) -> Forked:
        """Boot a worker whose application has this source, unless it is given; as a mold does it then."""
        self.source.write_text(source)
        assignment = Assignment(
            1, 1, self.page, self.board, self.theirs, (self.listener,), *self.hand_off, self.stacks, smoke_test
        )
        values = Settings(**{"wsgi_app": self.module, "graceful_timeout": 10.0, **settings})

        def boot() -> None:
            self.channel.close()
            logs = Logs(LogOptions(errorlog=str(self.folder / "error.log"), accesslog=str(self.folder / "access.log")))
            boot_worker(logs, values, assignment, BootInputs(application))

        child = self.stack.enter_context(Forked(boot))
        self.theirs.close()
        return child

    @property
    def said(self) -> str:
        """The error log."""
        return (self.folder / "error.log").read_text()

    def message(self, kind: type[Message]) -> Any:
        """The first message of a kind; waits for it."""

        def found() -> list[Message]:
            with contextlib.suppress(ChannelClosed):
                while (message := self.channel.receive()) is not None:
                    self.messages.append(message)
            return [each for each in self.messages if isinstance(each, kind)]

        return wait_until(found, DEADLINE_S, f"{kind.__name__}; there are {self.messages}")[0]

    def ask(self) -> bytes:
        """The whole response to one request."""
        with socket.create_connection(self.listener.getsockname(), DEADLINE_S) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            received = b""
            while data := client.recv(65536):
                received += data
        return received


@pytest.fixture
def boot(tmp_path: pathlib.Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Boot]:
    monkeypatch.syspath_prepend(tmp_path)
    name = re.sub(r"\W", "_", f"booted_{request.node.name}")
    found = Boot(tmp_path, name)
    with found.stack:
        yield found


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_it_serves_and_exits_with_0_when_it_is_told_to_leave(boot: Boot, kind: str) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    worker = boot.fork(worker_class=kind)
    assert boot.message(Ready).boot_s >= 0
    assert boot.page.cells[Cell.STATE] == WorkerState.READY
    assert boot.ask().endswith(b"\r\n\r\nhello")
    worker.send(signal.SIGTERM)
    assert worker.code() == 0
    assert boot.page.cells[Cell.STATE] == WorkerState.DRAINING
    assert (boot.folder / "access.log").read_text() == "127.0.0.1\n"
    with pytest.raises(ChannelClosed):
        boot.channel.receive()


def test_an_application_that_cannot_be_imported_is_told_to_the_arbiter(boot: Boot) -> None:
    worker = boot.fork("import no_such_module_anywhere")
    failed = boot.message(BootFailed)
    assert failed.exit_code == worker.code() == AppLoadError.exit_code
    assert "no_such_module_anywhere" in failed.summary
    assert f"{boot.module}.py" in failed.trace


def test_what_is_no_application_is_told_to_the_arbiter(boot: Boot) -> None:
    worker = boot.fork("application = 3")
    assert "is not callable" in boot.message(BootFailed).summary
    assert worker.code() == AppLoadError.exit_code


class WithoutArbiter:
    """An application whose import goes on in some way once there is no arbiter, which it does not hear of."""

    def __init__(self, boot: Boot, then: str) -> None:
        self._boot = boot
        self._mark = boot.folder / "mark"
        self._wait, self._go = os.pipe()
        boot.stack.callback(os.close, self._wait)
        self.source = (
            f"import os, pathlib, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [{int(ARBITER_EXITED)}])\n"
            f"pathlib.Path({str(self._mark)!r}).touch()\nos.read({self._wait}, 1)\n{then}\n"
        )

    def end_arbiter(self) -> None:
        """There is none from now on."""
        wait_until(self._mark.exists, DEADLINE_S, "the import has begun")
        self._boot.channel.close()
        os.write(self._go, b"x")
        os.close(self._go)


@pytest.mark.skipif(not ARBITER_EXITED, reason="no signal says that the arbiter has exited")
def test_a_failure_keeps_its_exit_code_when_there_is_no_arbiter_to_be_told(boot: Boot) -> None:
    application = WithoutArbiter(boot, "raise LookupError('no table')")
    worker = boot.fork(application.source)
    application.end_arbiter()
    assert worker.code() == AppLoadError.exit_code


@pytest.mark.skipif(not ARBITER_EXITED, reason="no signal says that the arbiter has exited")
def test_a_fault_of_our_own_is_logged_when_there_is_no_arbiter_to_be_told(boot: Boot) -> None:
    application = WithoutArbiter(boot, HELLO)
    worker = boot.fork(application.source, max_requests=1, max_requests_jitter="many")
    application.end_arbiter()
    assert worker.code() == BootError.exit_code
    assert "worker 1: internal error" in boot.said


def test_a_smoke_test_that_fails_is_told_and_the_worker_never_serves(boot: Boot) -> None:
    source = "def application(environ, start_response):\n    raise LookupError('no table')\n"
    worker = boot.fork(source, smoke_test=True, smoke=("/health",))
    failed = boot.message(BootFailed)
    assert "smoke: GET /health failed: LookupError: no table" in failed.summary
    assert "no table" in failed.trace
    assert worker.code() == BootError.exit_code


def test_a_smoke_test_that_passes_is_logged(boot: Boot) -> None:
    worker = boot.fork(smoke_test=True, smoke=("/health", "/"))
    boot.message(Ready)
    assert "worker 1: smoke test passed: /health, /" in boot.said
    worker.send(signal.SIGTERM)
    assert worker.code() == 0


def test_a_fault_of_our_own_is_told_with_its_traceback(boot: Boot) -> None:
    worker = boot.fork(max_requests=1, max_requests_jitter="many")
    broken = boot.message(Broken)
    assert broken.summary.startswith("TypeError: ")
    assert "recycling_of" in broken.trace
    assert worker.code() == BootError.exit_code
    assert "internal error" not in boot.said


def test_without_an_arbiter_a_worker_that_boots_exits_at_once(boot: Boot) -> None:
    mark = boot.folder / "mark"
    worker = boot.fork(f"import pathlib, signal\npathlib.Path({str(mark)!r}).touch()\nsignal.pause()\n")
    wait_until(mark.exists, DEADLINE_S)
    boot.channel.close()
    assert worker.code() == 0


def test_without_an_arbiter_a_worker_that_serves_finishes_and_exits(boot: Boot) -> None:
    worker = boot.fork()
    boot.message(Ready)
    assert boot.ask().endswith(b"hello")
    boot.channel.close()
    assert worker.code() == 0
    assert boot.page.cells[Cell.STATE] == WorkerState.ORPHANED


def test_a_worker_that_hangs_while_it_boots_leaves_the_stacks_of_its_greenlets(boot: Boot) -> None:
    pytest.importorskip("gevent")
    # Again and again: where the hub begins to wait just behind a signal, its handler runs at the next event only.
    worker = boot.fork(
        "import gevent, os, signal, socket\nhere, there = socket.socketpair()\ndef stuck():\n    here.recv(1)\n"
        "def abort():\n    while True:\n        os.kill(os.getpid(), signal.SIGABRT)\n        gevent.sleep(0.01)\n"
        "waiting = gevent.spawn(stuck)\ngevent.spawn(abort)\nwaiting.join()\n",
        worker_class="gevent",
    )
    assert worker.code() == 1
    assert "in stuck" in (boot.folder / "stacks").read_text()


def test_signals_that_the_import_has_taken_are_taken_back_and_this_is_said(boot: Boot) -> None:
    worker = boot.fork(f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{HELLO}")
    boot.message(Ready)
    assert "The application has set handlers for ['SIGTERM']" in boot.said
    worker.send(signal.SIGTERM)
    assert worker.code() == 0


def test_a_process_that_the_import_forks_does_not_become_a_second_worker(boot: Boot) -> None:
    worker = boot.fork(f"import os\nos.fork()\n{HELLO}")
    boot.message(Ready)
    wait_until(lambda: "a child forked by the application returned into the server" in boot.said, DEADLINE_S)
    assert len([each for each in boot.messages if isinstance(each, Ready)]) == 1
    worker.send(signal.SIGTERM)
    assert worker.code() == 0


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_process_that_a_request_forks_and_that_returns_is_ended(boot: Boot, kind: str) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    worker = boot.fork(
        'import os\ndef application(environ, start_response):\n    os.fork()\n    start_response("200 OK", [])\n'
        "    return [str(os.getpid()).encode()]\n",
        worker_class=kind,
    )
    boot.message(Ready)
    assert boot.ask().endswith(b"\r\n\r\n%d" % worker.pid)
    wait_until(lambda: "came back from its request: ended" in boot.said, DEADLINE_S)
    worker.send(signal.SIGTERM)
    assert worker.code() == 0
    assert (boot.folder / "access.log").read_text() == "127.0.0.1\n"


def test_usr1_opens_the_logs_anew(boot: Boot) -> None:
    worker = boot.fork()
    boot.message(Ready)
    for name in ("error.log", "access.log"):
        (boot.folder / name).rename(boot.folder / f"{name}.1")
    worker.send(signal.SIGUSR1)
    wait_until((boot.folder / "access.log").exists, DEADLINE_S)
    boot.ask()
    worker.send(signal.SIGTERM)
    assert worker.code() == 0
    assert (boot.folder / "access.log").read_text() == "127.0.0.1\n"
    assert (boot.folder / "access.log.1").read_text() == ""


def test_a_client_that_never_says_whom_it_forwards_for_keeps_no_worker(boot: Boot) -> None:
    worker = boot.fork(proxy_protocol="v1")
    boot.message(Ready)
    with socket.create_connection(boot.listener.getsockname(), DEADLINE_S) as silent:
        wait_until(lambda: boot.page.cells[Cell.CONNECTIONS], DEADLINE_S)
        worker.send(signal.SIGTERM)
        assert silent.recv(1) == b""
    assert worker.code() == 0


def test_with_reload_a_failing_application_is_shown_until_a_file_changes(
    boot: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloader, "INTERVAL_S", 0.01)
    worker = boot.fork("raise LookupError('not yet')", reload=True)
    boot.message(Ready)
    answer = boot.ask()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"LookupError: not yet" in answer
    assert "Waiting for a source file to change." in boot.said
    boot.source.write_text(HELLO)
    os.utime(boot.source, (time.time() + 5, time.time() + 5))
    assert boot.message(RecycleWanted) == RecycleWanted("source", str(boot.source))
    worker.send(signal.SIGTERM)
    assert worker.code() == 0


def test_at_its_end_exit_functions_run_and_closed_streams_do_no_harm(boot: Boot) -> None:
    mark = boot.folder / "mark"
    worker = boot.fork(
        f"import atexit, pathlib, sys\natexit.register(pathlib.Path({str(mark)!r}).touch)\n"
        f"sys.stdout = None\nsys.stderr = open({str(boot.folder / 'own')!r}, 'w')\nsys.stderr.close()\n{HELLO}"
    )
    boot.message(Ready)
    worker.send(signal.SIGTERM)
    assert worker.code() == 0
    assert mark.exists()


class Witness(SyncWorker):
    """Notes in the application's list which hooks have been called."""

    calls: list[str] = []  # noqa: RUF012 - of the process

    @classmethod
    def setup(cls) -> None:
        cls.calls.append("setup")

    @classmethod
    def after_fork(cls) -> None:
        cls.calls.append("after_fork")

    def begin(self) -> None:
        self.calls.append(f"begin {self.slot}")

    def call_application(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.calls.append(f"call, draining: {self.draining}")
        return super().call_application({**environ, "calls": self.calls}, start_response)

    def end(self) -> None:
        pathlib.Path(self.settings.errorlog).write_text(" | ".join([*self.calls, f"end: {self.draining}"]))


class Failing(SyncWorker):
    """Cannot begin."""

    def begin(self) -> None:
        raise LookupError("no pool")


def test_hooks_of_a_class_are_called_in_their_order(boot: Boot) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [" | ".join(environ["calls"]).encode()]

    worker = boot.fork(application=application, worker_class=Witness, errorlog=str(boot.folder / "hooks"))
    boot.message(Ready)
    assert boot.ask().endswith(b"\r\n\r\nafter_fork | begin 1 | call, draining: False")
    worker.send(signal.SIGTERM)
    assert worker.code() == 0
    assert (boot.folder / "hooks").read_text() == "after_fork | begin 1 | call, draining: False | end: True"


def test_a_hook_that_fails_ends_the_worker_as_a_failed_import_does(boot: Boot) -> None:
    worker = boot.fork(worker_class=Failing)
    failed = boot.message(BootFailed)
    assert "begin failed: LookupError: no pool" in failed.summary
    assert worker.code() == AppLoadError.exit_code


def test_an_application_is_checked_unless_a_class_calls_it_in_its_own_way(boot: Boot) -> None:
    boot.source.write_text("async def application(scope, receive, send):\n    pass\n")
    with pytest.raises(AppLoadError, match=boot.module):
        load_application(Settings(wsgi_app=boot.module))
    assert callable(load_application(Settings(wsgi_app=boot.module, worker_class=Witness)))
    assert Witness.calls.pop() == "setup"
