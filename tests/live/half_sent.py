"""Responses that the socket does not take at once: the table of them, their clients, and a trial of one server.

What `test_half_sent.py` tries over HTTP, `test_half_sent_tls.py` tries over TLS.
"""

import dataclasses
import functools
import math
import pathlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import LiveServer, StartServer, descriptors_of, wait_until

SOURCE = """
import tempfile

SIZE = 300_000

def text(size):
    return b"".join(b"%07d\\n" % number for number in range(size // 8))

BODIES = {size: text(size) for size in (SIZE, 4 * SIZE)}
FILE = tempfile.NamedTemporaryFile()
FILE.write(BODIES[SIZE])
FILE.flush()

def cut(body, size):
    return [body[start : start + size] for start in range(0, len(body), size)]

def application(environ, start_response):
    shape = environ["PATH_INFO"].lstrip("/")
    body = b"small" if shape == "small" else BODIES[4 * SIZE if shape == "many-blocks" else SIZE]
    headers = [("Content-Length", str(len(body)))] if environ["QUERY_STRING"] == "counted" else []
    if shape == "large-head":
        headers += [("X-Fill", "x" * 1000)] * (SIZE // 1000)
    write = start_response("200 OK", headers)
    if shape == "one-block":
        return iter([body])
    if shape == "many-blocks":
        return iter(cut(body, 50_000))
    if shape == "small-blocks":
        return iter(cut(body, 1_000))
    if shape == "write":
        for block in cut(body, 50_000):
            write(block)
        return []
    if shape == "file":
        return environ["wsgi.file_wrapper"](open(FILE.name, "rb"))
    return [body]
"""

SIZE = 300_000
"""Of most bodies, and of a large head; those of many blocks are larger than what is kept in memory of a response."""

SHAPES = ("list", "one-block", "small-blocks", "many-blocks", "write", "file", "large-head")
"""What the application does; the last is that of a HEAD request, since a response without a body has nothing else."""


@dataclasses.dataclass(frozen=True)
class Framing:
    """How a response ends; whether the connection is to be kept behind it."""

    version: str
    connection: str
    counted: bool
    keeps: bool


FRAMINGS = {
    "counted": Framing("1.1", "", counted=True, keeps=True),
    "counted, close": Framing("1.1", "close", counted=True, keeps=False),
    "chunked": Framing("1.1", "", counted=False, keeps=True),
    "chunked, close": Framing("1.1", "close", counted=False, keeps=False),
    "until close": Framing("1.0", "", counted=False, keeps=False),
    "HTTP/1.0, kept": Framing("1.0", "keep-alive", counted=True, keeps=True),
}
PLACES = ("first", "later", "pipelined before another", "pipelined behind another")
MANNERS = (
    "pauses", "reads slowly", "leaves", "half-closes at once", "half-closes while it waits", "asks on while it waits",
)  # fmt: skip

SMALL = b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n"
MSS, WINDOW_BYTES, READY_BYTES = 1400, 16384, 1 << 20
"""Of the client, so that the kernel takes little of a response before it is read, and much then."""

SLOWLY_BYTES = 16384
READERS = 40
"""Responses that are read, and kept, at a time."""

CALM_LOOKS = 10
DEADLINE_S = 20.0


def wait_calm(pid: int) -> None:
    """Wait until a process uses no processor time from one look to the next, many times in a row."""
    seen: list[str] = []

    def is_calm() -> bool:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            words = file.read().rpartition(")")[2].split()
        seen.append(" ".join(words[11:13]))  # in user and in kernel mode
        return len(seen) >= CALM_LOOKS and len(set(seen[-CALM_LOOKS:])) == 1

    wait_until(is_calm, DEADLINE_S, f"process {pid} waits, and does not turn")


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table."""

    shape: str
    framing: str
    place: str
    manner: str

    @property
    def how(self) -> Framing:
        """What is asked for."""
        return FRAMINGS[self.framing]

    @property
    def method(self) -> str:
        """GET or HEAD."""
        return "HEAD" if self.shape == "large-head" else "GET"

    def request(self) -> bytes:
        """The request whose response is half sent, with those that are sent together with it."""
        connection = f"Connection: {self.how.connection}\r\n" if self.how.connection else ""
        query = "counted" if self.how.counted else ""
        head = f"{self.method} /{self.shape}?{query} HTTP/{self.how.version}\r\nHost: localhost\r\n{connection}\r\n"
        before = SMALL if self.place == "pipelined behind another" else b""
        behind = SMALL if self.place == "pipelined before another" else b""
        return before + head.encode() + behind

    def expected(self) -> list[tuple[str, int]]:
        """Method and size of the body of each response to them."""
        size = 0 if self.method == "HEAD" else 4 * SIZE if self.shape == "many-blocks" else SIZE
        before = [("GET", 5)] if self.place == "pipelined behind another" else []
        behind = [("GET", 5)] if self.place == "pipelined before another" and self.how.keeps else []
        return [*before, (self.method, size), *behind]


class Client:
    """A client that receives only when it is told to; with TLS on memory, so that it can say that it sends no more."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(DEADLINE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MSS)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        self.sock.connect(("127.0.0.1", port))
        self.got = bytearray()
        self.ending = ""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
            self._shake_hands(self._tls)

    def _shake_hands(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
                self.sock.sendall(self._outgoing.read())
                return
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                self._incoming.write(self.sock.recv(65536))

    def send(self, data: bytes) -> None:
        """Send requests."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self.sock.sendall(data)

    def half_close(self) -> None:
        """Say that nothing more is sent."""
        if self._tls is not None:
            try:
                self._tls.unwrap()
            except ssl.SSLError:  # the server has not said so yet, or has sent what is still to be read
                self.sock.sendall(self._outgoing.read())
        self.sock.shutdown(socket.SHUT_WR)

    def receive(self, most: int = 1 << 20) -> None:
        """Receive what is there, at most so much."""
        try:
            data = self.sock.recv(most, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.ending = "reset"
            return
        if self._tls is None:
            self.got += data
            self.ending = "" if data else "end"
        else:
            self._decrypt(self._tls, data)

    def _decrypt(self, tls: ssl.SSLObject, data: bytes) -> None:
        self._incoming.write(data)
        try:
            while piece := tls.read(65536):
                self.got += piece
            self.ending = "end"
        except ssl.SSLZeroReturnError:
            self.ending = "end"
        except ssl.SSLWantReadError:
            self.ending = "" if data else "end without close_notify"

    def close(self) -> None:
        """Leave."""
        self.sock.close()


def parsed(got: bytes, method: str, ended: bool) -> tuple[bytes, bytes] | None:
    """The body of the first response and what comes behind it; None while that response is incomplete."""
    head, separator, rest = got.partition(b"\r\n\r\n")
    if not separator:
        return None
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head[:100]
    fields = head.lower() + b"\r\n"
    if method == "HEAD":
        return b"", rest
    if b"\r\ntransfer-encoding: chunked\r\n" in fields:
        return unchunked(rest)
    if b"\r\ncontent-length: " in fields:
        size = int(fields.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        return (rest[:size], rest[size:]) if len(rest) >= size else None
    return (rest, b"") if ended else None


def unchunked(rest: bytes) -> tuple[bytes, bytes] | None:
    """The same for a chunked body, in which no line is the last chunk's."""
    if b"\r\n0\r\n\r\n" not in rest:
        return None
    body, start = [], 0
    while True:
        end = rest.find(b"\r\n", start)
        if end < 0:
            return None
        size = int(rest[start:end], 16)
        start = end + 2 + size + 2
        if len(rest) < start:
            return None
        body.append(rest[end + 2 : start - 2])
        if not size:
            return b"".join(body), rest[start:]


@functools.cache
def text(size: int) -> bytes:
    """The body of that size."""
    return b"small" if size == 5 else b"".join(b"%07d\n" % number for number in range(size // 8))


class Conversation:
    """One case on its connection."""

    def __init__(self, case: Case, client: Client) -> None:
        self.case = case
        self.client = client
        self.complaint = ""
        self._expected: list[tuple[str, int]] = []
        self._needed_bytes = 0
        self._to_the_end = False

    @property
    def goes_on(self) -> bool:
        """Whether the connection is good for a next request."""
        return self.case.how.keeps and not self.case.manner.startswith("half-closes") and not self.complaint

    def ask_small(self) -> None:
        """Ask for a small response, before or behind the others."""
        self._expected, self._to_the_end = [("GET", 5)], False
        self.client.send(SMALL)

    def ask(self) -> None:
        """Send what is to be half sent."""
        self._expected, self._to_the_end = self.case.expected(), not self.goes_on
        self.client.send(self.case.request())
        if self.case.manner == "half-closes at once":
            self.client.half_close()

    def act(self) -> None:
        """Do what this client does while it waits."""
        if self.case.manner == "leaves":
            self.client.close()
        elif self.case.manner == "half-closes while it waits":
            self.client.half_close()
        elif self.case.manner == "asks on while it waits":
            self.client.send(SMALL)
            if self.goes_on:
                self._expected.append(("GET", 5))
        # Not before: the server would end the connection in between, if this process did not run for a while.
        if self.case.manner not in ("leaves", "reads slowly"):
            self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READY_BYTES)

    def read(self) -> bool:
        """Receive some; True when all that is expected has come, or something else."""
        self.client.receive(SLOWLY_BYTES if self.case.manner == "reads slowly" else 1 << 20)
        got, ended = self.client.got, bool(self.client.ending)
        # To look at half a response again and again would take longer than all the rest.
        while self._expected and (ended or len(got) >= max(self._needed_bytes, self._expected[0][1])):
            method, size = self._expected[0]
            found = parsed(bytes(got), method, ended)
            if found is None:
                self._needed_bytes = len(got) + 1
                self.complaint = f"{self.client.ending} after {len(got)} bytes" if ended else ""
                return ended
            if found[0] != text(size):
                self.complaint = f"a body of {len(found[0])} bytes, expected {size}"
                return True
            self._needed_bytes = 0
            del self._expected[0], got[: len(got) - len(found[1])]
        if self._expected:
            return False
        if got or (ended and not self._to_the_end) or self.client.ending not in ("", "end"):
            self.complaint = f"{bytes(got[:50])!r} and {self.client.ending or 'no end'} behind the responses"
        return ended or not self._to_the_end or bool(self.complaint)


def read_all(conversations: Iterable[Conversation]) -> None:
    """Read all responses side by side, each as its client does."""
    waiting = {each.client.sock.fileno(): each for each in conversations}
    poll = select.poll()
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + DEADLINE_S
    while waiting and time.monotonic() < deadline:
        for descriptor, _ in poll.poll(1000):
            if waiting[descriptor].read():
                poll.unregister(descriptor)
                del waiting[descriptor]
    for late in waiting.values():
        late.complaint = f"no end of the response in {DEADLINE_S:g} s, {len(late.client.got)} bytes of it"


KINDS = {
    "sync": ("-k", "sync"),
    "sync, plain core": ("-k", "sync"),
    "gthread": ("-k", "gthread"),
    "gevent": ("-k", "gevent"),
}
"""All in one process, whose descriptors and processor time are looked at."""


class Trial:
    """One server with one worker, and the cases that are tried on it."""

    def __init__(self, live: LiveServer, connect: Callable[[], Client]) -> None:
        (self._worker,) = live.wait_children(1)
        self._connect = connect
        self._most_descriptors = math.inf
        self.complaints: list[str] = []

    def run(self, cases: Iterable[Case]) -> None:
        """Have conversations side by side."""
        conversations = [Conversation(case, self._connect()) for case in cases]
        later = [each for each in conversations if each.case.place == "later"]
        for each in later:
            each.ask_small()
        self._read(later)
        for each in conversations:
            each.ask()
        wait_calm(self._worker)  # until nothing more can be sent
        for each in conversations:
            each.act()
        staying = [each for each in conversations if each.case.manner != "leaves"]
        self._read(staying)
        self._wait_descriptors(len(staying))
        wait_calm(self._worker)
        going_on = [each for each in staying if each.goes_on]
        for each in going_on:
            each.ask_small()
        self._read(going_on)
        for each in staying:
            each.client.close()
        self._wait_descriptors(0)

    def _read(self, conversations: list[Conversation]) -> None:
        for start in range(0, len(conversations), READERS):
            read_all(conversations[start : start + READERS])
        self.complaints += [f"{each.case}: {each.complaint}" for each in conversations if each.complaint]

    def _wait_descriptors(self, clients: int) -> None:
        most = self._most_descriptors + clients
        wait_until(lambda: len(descriptors_of(self._worker)) <= most, 10, f"at most {most} descriptors")

    def take_baseline(self) -> None:
        """When each thing has been done once, and nobody is connected: from now on no more descriptors are needed."""
        self.run(Case(shape, framing, "first", "pauses") for shape in SHAPES for framing in FRAMINGS)
        wait_calm(self._worker)
        self._most_descriptors = len(descriptors_of(self._worker))


def try_all(
    server: StartServer,
    folder: pathlib.Path,
    cases: Sequence[Sequence[Case]],
    flags: Sequence[str] = (),
    context: ssl.SSLContext | None = None,
) -> None:
    """Try cases on servers of all kinds, those of one sequence side by side."""

    def start(kind: str) -> LiveServer:
        environ = {"WSGICLUSTER_PURE": "1"} if "plain core" in kind else {}
        return server("app", "-w", "1", *KINDS[kind], *flags, environ=environ)

    def tried(live: LiveServer) -> list[str]:
        trial = Trial(live, lambda: Client(live.port, context))
        trial.take_baseline()
        for together in cases:
            trial.run(together)
        return trial.complaints

    # Once for all: a worker may be reading it.
    (folder / "app.py").write_text(SOURCE, "utf-8")
    servers = {kind: start(kind) for kind in KINDS}
    # Side by side, since most of the time is that in which nothing happens.
    with ThreadPoolExecutor(len(servers)) as pool:
        found = dict(zip(servers, pool.map(tried, servers.values()), strict=True))
    complaints = [f"{kind}: {text}" for kind, texts in found.items() for text in texts]
    assert not complaints, f"{len(complaints)}\n" + "\n".join(complaints[:20])
    assert {live.stop() for live in servers.values()} == {0}
