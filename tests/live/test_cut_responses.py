"""A response whose end only that of the connection marks is never ended properly before it is complete.

Its client would take what it got for all of it (RFC 9112, section 8). So the connection is reset, and over TLS it
ends without close_notify. Responses of other framings are seen to be incomplete: they must not be made complete.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import re
import signal
import socket
import ssl
from collections.abc import Callable

import pytest

from tests.certificates import Certificates, make_certificates
from tests.conftest import LiveServer, StartServer
from tests.uwsgi_packets import packet, plain

pytestmark = pytest.mark.live

SOURCE = """
import os, time

LARGE = b"x" * 400_000

def blocks(shape, first):
    yield first
    if shape != "waits":
        yield LARGE
    if shape == "exits":
        while not os.path.exists("exit"):
            time.sleep(0.01)
        os._exit(3)
    if shape.startswith("waits"):
        time.sleep(60)
    yield b"end"

def application(environ, start_response):
    shape = environ["PATH_INFO"].strip("/")
    first = b"<pid %d>" % os.getpid()
    headers = []
    if environ["QUERY_STRING"] == "counted":
        headers.append(("Content-Length", str(len(first) + len(LARGE) + len(b"end"))))
    start_response("200 OK", headers)
    return blocks(shape, first)
"""

MSS, WINDOW_BYTES = 1400, 16384
"""Of the client: what the kernel takes of a response is less than a block of it."""

KINDS = {
    "sync": ("-k", "sync", "-w", "5"),
    "sync, plain core": ("-k", "sync", "-w", "5"),
    "gthread": ("-k", "gthread", "--threads", "8"),
    "gevent": ("-k", "gevent"),
}
PROTOCOLS = ("http", "https", "uwsgi")
FRAMINGS = ("until close", "counted", "chunked")
SHAPES = ("waits", "waits-with-more", "stored")
"""The application waits, with all that it gave sent or with some of it still to be sent; or it has given all."""

PID = re.compile(rb"<pid (\d+)>")


@dataclasses.dataclass(frozen=True)
class Case:
    """A request that is cut."""

    protocol: str
    framing: str
    shape: str

    def request(self) -> bytes:
        """Its bytes."""
        query = "counted" if self.framing == "counted" else ""
        if self.protocol == "uwsgi":
            return packet(plain(PATH_INFO=f"/{self.shape}", QUERY_STRING=query))
        version = "1.0" if self.framing == "until close" else "1.1"
        return f"GET /{self.shape}?{query} HTTP/{version}\r\nHost: localhost\r\n\r\n".encode()


class Reader:
    """A client that reads the beginning of a response, and no more before it is told to."""

    def __init__(self, live: LiveServer, case: Case, context: ssl.SSLContext | None) -> None:
        self.case = case
        raw = socket.socket()
        raw.settimeout(20)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MSS)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        raw.connect(("127.0.0.1", live.port))
        self.sock = raw
        if case.protocol == "https":
            assert context is not None
            self.sock = context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)
        self.sock.sendall(case.request())
        self.got = b""
        while not PID.search(self.got):
            self.got += self.sock.recv(1)

    @property
    def worker(self) -> int:
        """The process that answers."""
        found = PID.search(self.got)
        assert found
        return int(found[1])

    def ending(self) -> str:
        """Read to the end, and say what that is."""
        try:
            while data := self.sock.recv(65536):
                self.got += data
        except ConnectionResetError:
            return "reset"
        except ssl.SSLEOFError:
            return "end without close_notify"
        return "end"

    def complaint(self) -> str:
        """What is wrong with how the response ends; empty if nothing is."""
        ending = self.ending()
        last = b"0\r\n\r\n" if self.case.framing == "chunked" else b"end"
        if self.got.endswith(last):
            return f"{self.case}: is completed"
        if ending == "end" and (self.case.framing == "until close" or self.case.protocol == "https"):
            return f"{self.case}: ends like a complete one, after {len(self.got)} bytes"
        return ""

    def close(self) -> None:
        """Give the descriptor back."""
        self.sock.close()


@dataclasses.dataclass(frozen=True)
class Moment:
    """What cuts responses: ``kill`` a worker that runs one, then ``stop`` the server with others.

    Without a signal to kill it the worker ends itself; without one to stop the server it is the ``timeout``.
    """

    kill: signal.Signals | None
    stop: signal.Signals | None
    flags: tuple[str, ...] = ()


MOMENTS = {
    "exit, then INT": Moment(None, signal.SIGINT),
    "SEGV, then QUIT": Moment(signal.SIGSEGV, signal.SIGQUIT),
    "KILL, then the end of graceful_timeout": Moment(signal.SIGKILL, signal.SIGTERM, ("--graceful-timeout", "0.5")),
    "timeout": Moment(None, None, ("--timeout", "1")),
}


def cases(protocol: str, moment: Moment) -> list[Case]:
    """What is cut then: of the framings whose responses are seen to be incomplete one shape is enough."""
    found = [
        Case(protocol, framing, shape)
        for framing, shape in itertools.product(FRAMINGS, SHAPES)
        if (framing == "until close" or shape == "waits-with-more")
        and (protocol, framing) != ("uwsgi", "chunked")
        and (moment.stop is not None or shape != "stored")
    ]
    # Those that keep a sync worker come last.
    return sorted(found, key=lambda case: case.shape != "stored")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=KINDS)
def servers(
    request: pytest.FixtureRequest, server: StartServer, tmp_path: pathlib.Path, certificates: Certificates
) -> Callable[[Moment], dict[str, LiveServer]]:
    """Start a server of one kind for each protocol."""

    def start(moment: Moment) -> dict[str, LiveServer]:
        # Once for all: a worker may be reading it.
        (tmp_path / "app.py").write_text(SOURCE, "utf-8")
        environ = {"WSGICLUSTER_PURE": "1"} if "plain core" in request.param else {}
        speaks = {"http": (), "https": certificates.flags(), "uwsgi": ("--protocol", "uwsgi")}
        flags = (*KINDS[request.param], *moment.flags)
        found = {
            protocol: server("app", *flags, *speaks[protocol], environ=environ, listening=False)
            for protocol in PROTOCOLS
        }
        for live in found.values():
            live.wait_listening()
        return found

    return start


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_cut_response_looks_complete(
    servers: Callable[[Moment], dict[str, LiveServer]], tmp_path: pathlib.Path, certificates: Certificates, moment: str
) -> None:
    when = MOMENTS[moment]
    started = servers(when)
    with contextlib.ExitStack() as stack:

        def read(case: Case) -> Reader:
            context = certificates.client() if case.protocol == "https" else None
            reader = Reader(started[case.protocol], case, context)
            stack.callback(reader.close)
            return reader

        killed = []
        if when.stop is not None:
            shape = "exits" if when.kill is None else "waits-with-more"
            killed = [read(Case(protocol, "until close", shape)) for protocol in PROTOCOLS]
            (tmp_path / "exit").touch()
            if when.kill is not None:
                for reader in killed:
                    os.kill(reader.worker, when.kill)
        complaints = [reader.complaint() for reader in killed]
        readers = [read(case) for protocol in PROTOCOLS for case in cases(protocol, when)]
        if when.stop is not None:
            for live in started.values():
                live.send(when.stop)
            for live in started.values():
                live.wait_end()
        complaints += [reader.complaint() for reader in readers]
    assert not any(complaints), "\n".join(filter(None, complaints))
