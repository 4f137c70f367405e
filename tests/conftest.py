"""Real servers for tests: each started in a folder, watched through its log and ended by who started it."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LISTENING = re.compile(r"Listening at: (?:[a-z]+://)?(\S+)")

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout_s: float, what: str = "") -> T:
    """The first true value of ``condition``; AssertionError when there is none in time.

    The only place in the tests that sleeps.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        time.sleep(0.02)


def process_state(pid: int) -> tuple[str, int] | None:
    """State letter and parent of a process, or None when there is no such process."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    words = text[text.rindex(")") + 2 :].split()
    return words[0], int(words[1])


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    state = process_state(pid)
    return state is not None and state[0] not in "ZX"


def children_of(pid: int, *, zombies: bool = False) -> list[int]:
    """Direct children that run, or those that have ended and were not reaped."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and (state := process_state(int(name))) and state[1] == pid:
            if (state[0] in "ZX") == zombies:
                found.append(int(name))
    return sorted(found)


def descriptors_of(pid: int) -> dict[int, str]:
    """Open descriptors of a process and what each one is."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def is_passed_on(name: str) -> bool:
    """Whether a variable of the tests' own environment may reach a server: of ours only the choice of the core."""
    return not name.startswith("WSGICLUSTER_") or name == "WSGICLUSTER_PURE"


class LiveServer:
    """One ``python -m wsgicluster``, its folder, its log and what can be asked of it."""

    def __init__(self, folder: pathlib.Path, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.arguments = list(arguments)
        self.log_path = folder / "server.log"
        self.environ = {name: value for name, value in os.environ.items() if is_passed_on(name)}
        self.environ.update(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1")
        # Every request may be slow on a busy machine, and few tests are about that.
        self.environ["WSGICLUSTER_KEEPALIVE_SLOW"] = "5"
        self.environ.update(environ)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, prefix: Sequence[str] = ()) -> "LiveServer":
        """Start the process; does not wait for anything."""
        command = [*prefix, sys.executable, "-m", "wsgicluster", *self.arguments]
        with self.log_path.open("ab") as log:
            # A session of its own, so that whatever it leaves behind can be found and ended with it.
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        """The started process: the arbiter, unless in daemon mode."""
        return self.process.pid

    def log(self) -> str:
        """All that the server has said so far."""
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def said(self, pattern: str, count: int = 1) -> bool:
        """Whether the log has at least ``count`` places that match."""
        return len(re.findall(pattern, self.log())) >= count

    def wait_log(self, pattern: str, timeout_s: float = 10.0, count: int = 1) -> None:
        """Wait for places in the log; a server that ends first is not waited for."""
        wait_until(
            lambda: self.said(pattern, count) or self.process.poll() is not None,
            timeout_s,
            f"{count} of {pattern!r} in the log",
        )
        assert self.said(pattern, count), f"the server ended ({self.process.poll()}) without saying {pattern!r}"

    def wait_listening(self, timeout_s: float = 10.0) -> "LiveServer":
        """Wait for the first address; requests are answered as soon as a worker is ready."""
        self.wait_log(LISTENING.pattern, timeout_s)
        return self

    @property
    def port(self) -> int:
        """The port of the first TCP listener."""
        found = LISTENING.search(self.log())
        assert found, "not listening"
        return int(found.group(1).rpartition(":")[2].rstrip("/,"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def children(self) -> list[int]:
        """The arbiter's children that run."""
        return children_of(self.pid)

    def wait_children(self, count: int, timeout_s: float = 10.0) -> list[int]:
        """Wait until there are so many children."""
        wait_until(lambda: len(self.children()) == count, timeout_s, f"{count} children")
        return self.children()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the arbiter."""
        self.process.send_signal(number)

    def wait_end(self, timeout_s: float = 15.0) -> int:
        """Wait for the process to end and return its exit code."""
        return self.process.wait(timeout_s)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 15.0) -> int:
        """Ask the server to stop and return its exit code."""
        self.send(number)
        return self.wait_end(timeout_s)

    def members(self) -> list[int]:
        """All processes of the server's session that run."""
        found = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if name.isdigit() and os.getsid(int(name)) == self.pid and is_alive(int(name)):
                    found.append(int(name))
        return found

    def end(self) -> None:
        """End everything that this server started, however it is."""
        if self._process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it is killed below
                self.process.wait(10)
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):  # ended by itself since
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


class StartServer(Protocol):
    """How a test asks for a server: arguments as on the command line."""

    def __call__(
        self,
        *arguments: str,
        source: str | None = None,
        bind: str | None = "127.0.0.1:0",
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        listening: bool = True,
        folder: pathlib.Path | None = None,
    ) -> LiveServer: ...


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[StartServer]:
    """Start servers; ``source`` is written to ``app.py`` in the folder first.

    Every server is ended after the test, and its log is in the report of a test that failed.
    """
    started: list[LiveServer] = []

    def start(
        *arguments: str,
        source: str | None = None,
        bind: str | None = "127.0.0.1:0",
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        listening: bool = True,
        folder: pathlib.Path | None = None,
    ) -> LiveServer:
        place = folder or tmp_path
        if source is not None:
            (place / "app.py").write_text(source, "utf-8")
        every = [*(("-b", bind) if bind else ()), *arguments]
        live = LiveServer(place, every, environ or {})
        live.log_path = place / f"server-{len(started)}.log"
        started.append(live)
        live.start(prefix)
        return live.wait_listening() if listening else live

    yield start
    for live in started:
        live.end()
    for live in started:
        print(f"--- {' '.join(live.arguments)} (pid {live.pid}, exit {live.process.returncode})\n{live.log()}")


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
