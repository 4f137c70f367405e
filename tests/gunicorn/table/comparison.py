"""What a test of the table of differences is made of: one configuration, and what either server makes of it.

A probe is a function that starts a server, or only runs the command, and returns what it has observed, by the names of
the settings that it is about. What either server shows is written beside it, so that each half can be tested alone.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import ROOT, LiveServer, find_free_ports, is_passed_on, wait_until
from tests.gunicorn.real_gunicorn import find
from tests.gunicorn.servers import GunicornServer
from tests.live.client import Connection

APPLICATION = '''
import json, os, socket, sys, threading, time, urllib.parse

LOADED_BY = os.getpid()
VERSION = 1
BARRIER = threading.Barrier(2)
SENT = []


def counted(*arguments, real=os.sendfile):
    SENT.append(1)
    return real(*arguments)


os.sendfile = counted


def descriptors():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink("/proc/self/fd/" + name))
        except OSError:
            pass
    return found


def listeners():
    """The size of the queue of each TCP listener, and whether its port may be shared."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.family != socket.AF_INET or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    continue
                state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
                # As much as the kernel is asked for: tcpi_sacked of a listener (see ss.c of iproute2).
                most = int.from_bytes(state[28:32], sys.byteorder)
                found.append([most, sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)])
        except OSError:
            pass
    return found


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return oct(mask)


def title():
    with open("/proc/self/cmdline") as file:
        return file.read().replace("\\0", " ").strip()


def hold(mark):
    open(mark, "w").close()
    while os.path.exists(mark):
        time.sleep(0.01)


def application(environ, start_response):
    if environ["PATH_INFO"] == "/file":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5000")])
        file = open(os.path.join(os.path.dirname(__file__), "content"), "rb")
        return environ["wsgi.file_wrapper"](file)
    expression = urllib.parse.unquote(environ["QUERY_STRING"])
    body = json.dumps(eval(expression or "None"), default=str).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
'''

FOLDER = "import os; FOLDER = os.path.dirname(os.path.abspath(__file__))\n"
"""The first line of configuration files that name other files."""


@dataclass(frozen=True)
class Expected:
    """What each of both shows."""

    ours: Any
    theirs: Any

    @property
    def is_same(self) -> bool:
        return bool(self.ours == self.theirs)


def same(value: Any) -> Expected:
    """Both show this."""
    return Expected(value, value)


def differ(ours: Any, theirs: Any) -> Expected:
    """What wsgicluster shows, and what Gunicorn shows."""
    assert ours != theirs
    return Expected(ours, theirs)


class Subject:
    """One of both servers, in a folder of its own that has the application ``probed``."""

    def __init__(self, folder: pathlib.Path, *, is_ours: bool) -> None:
        self.folder = folder
        self.is_ours = is_ours
        self._started: list[LiveServer] = []
        # Workers that run as another user read it.
        folder.chmod(0o755)
        (folder / "probed.py").write_text(APPLICATION)
        (folder / "content").write_bytes(b"x" * 5000)

    def configure(self, text: str) -> None:
        """Write the configuration file."""
        (self.folder / "gunicorn.conf.py").write_text(FOLDER + text)

    def start(
        self,
        config: str = "",
        *arguments: str,
        bind: str | None = "127.0.0.1",
        environ: Mapping[str, str] | None = None,
    ) -> "Running":
        """Start the server and wait until it accepts connections."""
        self.configure(config)
        port = find_free_ports(1)[0]
        flags = ["-b", f"{bind}:{port}"] if bind else []
        application = [] if "wsgi_app" in config or "--paste" in arguments else ["probed"]
        kind = LiveServer if self.is_ours else GunicornServer
        live = kind(self.folder, [*flags, *arguments, *application], {**self._variables(), **(environ or {})})
        live.log_path = self.folder / f"output-{len(self._started)}"
        self._started.append(live)
        live.start()
        running = Running(live, port)
        if bind:
            wait_until(lambda: running.is_open() or live.process.poll() is not None, 10, "the address is open")
        return running

    def run(self, *arguments: str, environ: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end."""
        inherited = {name: value for name, value in os.environ.items() if is_passed_on(name)}
        return subprocess.run(
            [*self.command(), *arguments],
            cwd=self.folder,
            env={**inherited, "PYTHONPATH": str(ROOT), **self._variables(), **(environ or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def command(self) -> list[str]:
        """The words that the command begins with."""
        if self.is_ours:
            return [sys.executable, "-m", "wsgicluster"]
        gunicorn = find()
        assert gunicorn is not None, "tests that need one ask for the fixture real_gunicorn"
        return [str(gunicorn.program)]

    def check(self, config: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Have the command check a configuration."""
        self.configure(config)
        return self.run("--check-config", *arguments, "probed")

    def end(self) -> None:
        """End all that was started."""
        for live in self._started:
            live.end()

    def report(self) -> str:
        """What all of them have said, for a test that failed."""
        return "\n".join(f"--- {' '.join(live.arguments)}\n{live.whole_log()}" for live in self._started)

    def _variables(self) -> dict[str, str]:
        # Both make files for their control sockets there by default.
        return {"HOME": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder / "run")}


@dataclass
class Running:
    """A server that runs; what its application finds when it evaluates an expression."""

    live: LiveServer
    port: int
    target: int | pathlib.Path = field(init=False)

    def __post_init__(self) -> None:
        self.target = self.port

    def is_open(self) -> bool:
        """Whether connections are accepted."""
        with contextlib.suppress(OSError), Connection(self.port):
            return True
        return False

    def ask(self, expression: str, extra: str = "", method: str = "GET", body: bytes | None = None) -> Any:
        """The value of an expression in a worker, where ``environ`` is that of the request."""
        with Connection(self.target) as connection:
            return asked(connection, expression, extra, method, body)

    def status(self, data: bytes) -> int:
        """The status of the response to bytes on a connection of their own; 0 where it is closed without one."""
        with Connection(self.target) as connection:
            connection.send(data)
            answer = connection.rest() if b"Connection: close" in data else first_bytes(connection)
        return int(answer.split()[1]) if answer.startswith(b"HTTP/") else 0

    def log(self) -> str:
        """What it has printed."""
        return self.live.whole_log()

    def wait_end(self) -> int:
        """Its exit code."""
        return self.live.wait_end()


def first_bytes(connection: Connection) -> bytes:
    """The first bytes that come, or none at the end of the connection."""
    with contextlib.suppress(ConnectionError):
        return connection.sock.recv(65536)
    return b""


def asked(
    connection: Connection, expression: str, extra: str = "", method: str = "GET", body: bytes | None = None
) -> Any:
    """The same on a connection that is open."""
    found = connection.exchange("/?" + urllib.parse.quote(expression), method, body, extra)
    assert found.status == 200, found
    return json.loads(found.body)


Observer = Callable[[Subject], Mapping[str, Any]]


@dataclass(frozen=True)
class Probe:
    """One function and what it is expected to observe, by name of a setting; ``for_root`` needs its rights."""

    function: Observer
    expected: Mapping[str, Expected]
    for_root: bool

    @property
    def name(self) -> str:
        return self.function.__name__


PROBES: list[Probe] = []
"""All of them, in the order in which they are defined."""


def probe(**expected: Expected) -> Callable[[Observer], Observer]:
    """Make a function a probe."""
    return _registrar(expected, for_root=False)


def probe_of_root(**expected: Expected) -> Callable[[Observer], Observer]:
    """The same for what only root can try."""
    return _registrar(expected, for_root=True)


def _registrar(expected: Mapping[str, Expected], *, for_root: bool) -> Callable[[Observer], Observer]:
    def register(function: Observer) -> Observer:
        PROBES.append(Probe(function, expected, for_root))
        return function

    return register


@contextlib.contextmanager
def subject(folder: pathlib.Path, *, is_ours: bool) -> Iterator[Subject]:
    """A server to probe, which is ended afterwards."""
    found = Subject(folder, is_ours=is_ours)
    try:
        yield found
    finally:
        found.end()
        print(found.report())
