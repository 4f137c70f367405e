"""Real servers for tests: each started in a folder, watched through its log and ended by who started it."""

import compileall
import contextlib
import gc
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import hypothesis
import pytest

# Examples are the same in each run, and how long a busy machine takes to make or try one is not judged.
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

ROOT = pathlib.Path(__file__).parent.parent
LISTENING = re.compile(r"Listening at: (?:[a-z]+://)?(\S+)")

T = TypeVar("T")


def pytest_configure(config: pytest.Config) -> None:
    """Let commands be interrupted, and compile the package before any server starts: a third of what a start costs.

    Servers themselves write no bytecode: an application that a test replaces within a second would be taken for the
    one before.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # What a shell runs in the background ignores it, and so would each command that a test interrupts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # once, not in each process that runs tests
        compileall.compile_dir(ROOT / "wsgicluster", quiet=2)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without searches for garbage, and leave what was made out of later ones: half of a collection's time.

    The tests' own bytecode is written even if the environment says that none is: to rewrite the assertions of all files
    takes as long as the rest of a collection, in each process that runs tests. What tests import later is not kept.
    """
    no_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = False
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        sys.dont_write_bytecode = no_bytecode


LEAST_DEADLINE_S = 15.0
"""No wait for a condition, a line or an end is given up sooner: how long a busy machine takes is not what is tested.

Where a server must not wait for something, its settings say that it could wait for longer than this.
"""


def wait_until(condition: Callable[[], T], timeout_s: float, what: str = "") -> T:
    """The first true value of ``condition``; AssertionError when there is none in time.

    The only place in the tests that sleeps.
    """
    timeout_s = max(timeout_s, LEAST_DEADLINE_S)
    deadline = time.monotonic() + timeout_s
    while True:
        # A process that did not run for a while looks once more than the clock allows.
        is_late = time.monotonic() > deadline
        value = condition()
        if value:
            return value
        if is_late:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        time.sleep(0.02)


def process_state(pid: int) -> tuple[str, int] | None:
    """State letter and parent of a process, or None when there is no such process."""
    try:
        stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            line = os.read(stat, 4096)
        finally:
            os.close(stat)
    except (FileNotFoundError, ProcessLookupError):
        return None
    words = line[line.rindex(b")") + 2 :].split(maxsplit=2)
    return words[0].decode(), int(words[1])


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


STEADY_LOOKS = 10


def steady_descriptors(pid: int, timeout_s: float = 10.0) -> int:
    """How many descriptors a process has open, once that has not changed from one look to the next many times in a row.

    A baseline: what is open for a moment, while something begins or ends, is not counted with it.
    """
    seen: list[frozenset[tuple[int, str]]] = []

    def is_steady() -> bool:
        seen.append(frozenset(descriptors_of(pid).items()))
        return len(set(seen[-STEADY_LOOKS:])) == 1 and len(seen) >= STEADY_LOOKS

    wait_until(is_steady, timeout_s, f"the descriptors of {pid} are steady")
    return len(seen[-1])


def has_at_most(pid: int, count: int) -> bool:
    """Whether a process has no more descriptors open than the baseline says."""
    return len(descriptors_of(pid)) <= count


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
        self._forgotten = 0

    def program(self) -> list[str]:
        """What is started, without its arguments."""
        return [sys.executable, "-m", "wsgicluster"]

    def start(self, prefix: Sequence[str] = ()) -> "LiveServer":
        """Start the process; does not wait for anything."""
        command = [*prefix, *self.program(), *self.arguments]
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

    def whole_log(self) -> str:
        """All that the server has said so far."""
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def log(self) -> str:
        """All that the server has said since its log was last forgotten."""
        return self.whole_log()[self._forgotten :]

    def forget_log(self) -> None:
        """Look no more at what the server has said so far."""
        self._forgotten = len(self.whole_log())

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
        found = LISTENING.search(self.whole_log())
        assert found, "not listening"
        return int(found.group(1).rpartition(":")[2].rstrip("/,"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def children(self) -> list[int]:
        """The arbiter's children that run."""
        return children_of(self.pid)

    def wait_children(self, count: int, timeout_s: float = 10.0) -> list[int]:
        """Wait until there are so many children, which need not have booted."""
        found = wait_until(
            lambda: children if len(children := self.children()) == count else [], timeout_s, f"{count} children"
        )
        assert len(found) == count
        return found

    def wait_workers(self, count: int) -> list[int]:
        """Wait until so many workers serve, and nothing else is a child: what a server is once it has started."""
        self.wait_log(rf"Started: {count} workers? serves?")
        return self.wait_children(count)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the arbiter."""
        self.process.send_signal(number)

    def wait_end(self, timeout_s: float = 15.0) -> int:
        """Wait for the process to end and return its exit code."""
        return self.process.wait(max(timeout_s, LEAST_DEADLINE_S))

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
            # As a whole: a worker of the server that was started before this one may just be importing it.
            written = place / "app.py.new"
            written.write_text(source, "utf-8")
            written.replace(place / "app.py")
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


class SharedServers:
    """Servers that tests use one after the other, each for the tests that give the same arguments.

    It saves the start, which costs more than most requests. No test may cost a server one of its processes.
    """

    def __init__(self, make_folder: Callable[[], pathlib.Path]) -> None:
        self._make_folder = make_folder
        self._idle: dict[tuple[object, ...], LiveServer] = {}
        self._started: list[LiveServer] = []

    @contextlib.contextmanager
    def lend(
        self, *arguments: str, source: str | None = None, environ: Mapping[str, str] | None = None
    ) -> Iterator[LiveServer]:
        """A server for one test, which has said nothing yet; ``source`` is its ``app.py``."""
        environ = environ or {}
        key = (*arguments, source, *environ.items())
        live = self._idle.pop(key, None) or self._start(arguments, source, environ)
        live.forget_log()
        processes = live.children()
        yield live
        print(f"--- {' '.join(live.arguments)} (pid {live.pid})\n{live.log()}")
        assert live.children() == processes, "the test has cost a process, or made one"
        self._idle[key] = live

    def _start(self, arguments: Sequence[str], source: str | None, environ: Mapping[str, str]) -> LiveServer:
        folder = self._make_folder()
        if source is not None:
            (folder / "app.py").write_text(source, "utf-8")
        live = LiveServer(folder, ["-b", "127.0.0.1:0", *arguments], environ)
        self._started.append(live)
        live.start().wait_log("Started: ")
        return live

    def end(self) -> None:
        """End all of them."""
        for live in self._started:
            live.end()


@pytest.fixture(scope="module")
def shared_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServers]:
    """Servers for those tests of a module that leave them as they were."""
    shared = SharedServers(lambda: tmp_path_factory.mktemp("shared"))
    yield shared
    shared.end()


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage collection meanwhile: for tests that count descriptors of this process.

    It closes what tests before them have left in cycles, and thus is to blame when there are fewer than before.
    """
    gc.disable()
    yield
    gc.enable()


UNASSIGNED_PORTS = range(10_000, 32_000)
"""Below those that the system gives by itself: no client of another test gets one of them meanwhile."""


def find_free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that no process has now, for programs that cannot choose one and say so."""
    with contextlib.ExitStack() as probes:
        found: list[int] = []
        while len(found) < count:
            port = random.choice(UNASSIGNED_PORTS)
            with contextlib.suppress(OSError):  # another process has it
                probes.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
        return found


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that no process has now."""
    return find_free_ports(1)[0]
