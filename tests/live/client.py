"""A plain HTTP/1.1 client that shows the bytes, and steady load that loses nothing unnoticed."""

import contextlib
import dataclasses
import pathlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from typing_extensions import Self


@dataclasses.dataclass(frozen=True)
class Response:
    """One whole response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server announced that it closes the connection."""
        return self.headers.get("connection", "").lower() == "close"


class BrokenResponse(Exception):
    """The connection ended, or said something else, before the response was whole."""


class Connection:
    """One connection; every wait has a limit."""

    def __init__(self, target: int | pathlib.Path, timeout_s: float = 20.0) -> None:
        if isinstance(target, int):
            self.sock = socket.create_connection(("127.0.0.1", target), timeout_s)
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout_s)
            try:
                self.sock.connect(str(target))
            except OSError:
                self.sock.close()
                raise
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def ask(self, path: str = "/", method: str = "GET", body: bytes | None = None, extra: str = "") -> None:
        """Send one request; ``extra`` holds further header lines, each with its CRLF."""
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}{extra}\r\n"
        self.send(head.encode("latin-1") + (body or b""))

    def exchange(self, path: str = "/", method: str = "GET", body: bytes | None = None, extra: str = "") -> Response:
        """Send one request and read its response."""
        self.ask(path, method, body, extra)
        return self.response(method)

    def _line(self) -> bytes:
        line = self._file.readline(65537)
        if not line.endswith(b"\r\n"):
            raise BrokenResponse(f"end within a line: {line!r}")
        return line[:-2]

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise BrokenResponse(f"{len(data)} of {count} bytes")
        return data

    def response(self, method: str = "GET") -> Response:
        """Read one response; an interim one (100 Continue) is returned as such."""
        words = self._line().split(b" ", 2)
        if len(words) != 3 or words[0] != b"HTTP/1.1":
            raise BrokenResponse(f"no status line: {words!r}")
        status = int(words[1])
        headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if method == "HEAD" or status < 200 or status in (204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self._chunks()
        elif "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
        else:
            body = self._file.read()
        return Response(status, headers, body)

    def _chunks(self) -> bytes:
        parts = []
        while True:
            size = int(self._line(), 16)
            parts.append(self._exactly(size))
            if self._line():
                raise BrokenResponse("no end of a chunk")
            if not size:
                return b"".join(parts)

    def rest(self) -> bytes:
        """All that still comes until the server closes; a reset counts as the end."""
        parts = []
        with contextlib.suppress(ConnectionResetError):  # the server threw away what we had sent
            while data := self._file.read1(65536):
                parts.append(data)
        return b"".join(parts)


def fetch(
    target: int | pathlib.Path, path: str = "/", method: str = "GET", body: bytes | None = None, extra: str = ""
) -> Response:
    """One request on a connection of its own."""
    with Connection(target) as connection:
        return connection.exchange(path, method, body, extra)


def numbered(count: int, filler: str = "") -> list[bytes]:
    """Requests whose responses tell their numbers in ``X-Turn``."""
    return [
        f"GET /header/X-Turn/{turn} HTTP/1.1\r\nHost: x\r\nX-Filler: {filler}\r\n\r\n".encode() for turn in range(count)
    ]


def ask_at_once(connect: Callable[[], Connection], requests: list[bytes]) -> list[Response]:
    """The responses to requests that are all sent before the first response is read.

    A sync worker gives up the connection of a request that took its only thread for long, as on a busy machine any
    may: the rest is sent anew then.
    """
    found: list[Response] = []
    while len(found) < len(requests):
        with connect() as connection:
            connection.send(b"".join(requests[len(found) :]))
            closes = False
            while len(found) < len(requests) and not closes:
                found.append(connection.response())
                closes = found[-1].closes
    return found


class Patron:
    """A client that comes again: on the same connection, as long as the server keeps it.

    A sync worker keeps none behind a request that has taken long, as any can on a busy machine.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self.connection = connect()

    def __enter__(self) -> "Patron":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def exchange(self, path: str, extra: str = "") -> list[Response]:
        """Send one request; its interim responses and the response."""
        self.connection.ask(path, extra=extra)
        found = [self.connection.response()]
        while found[-1].status < 200:
            found.append(self.connection.response())
        if found[-1].closes:
            self.connection.close()
            self.connection = self._connect()
        return found


class Load:
    """Clients that ask one request after another until told to stop.

    Every second client keeps its connection, as long as the server does. A
    request that is not answered by its whole 200 response is a loss: they are
    POSTs, which no client may repeat.
    """

    def __init__(self, port: int, clients: int = 4, paths: tuple[str, ...] = ("/", "/", "/slow/0.03")) -> None:
        self.answers: list[str] = []
        self.losses: list[str] = []
        self._port = port
        self._paths = paths
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(number % 2 == 0, number), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def versions(self) -> set[str]:
        """First words of the answers so far."""
        return {answer.split()[0] for answer in list(self.answers)}

    def pids(self) -> set[int]:
        """Second words of the answers so far."""
        return {int(answer.split()[1]) for answer in list(self.answers)}

    def _client(self, keep: bool, number: int) -> None:
        connection: Connection | None = None
        turn = number
        extra = "" if keep else "Connection: close\r\n"
        while not self._stop.wait(0.01):
            turn += 1
            try:
                connection = connection or Connection(self._port)
                response = connection.exchange(self._paths[turn % len(self._paths)], "POST", b"0123456789", extra)
                if response.status == 200:
                    self.answers.append(response.body.decode())
                else:
                    self.losses.append(f"{response.status} {response.body!r}")
                ended = response.closes
            except (OSError, BrokenResponse) as error:
                self.losses.append(repr(error))
                ended = True
            if ended and connection is not None:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


V = TypeVar("V", bound="Visitors")


class Visitors:
    """Clients that ask without a pause while this is entered; a subclass says what one of them does each time."""

    def __init__(self, port: int, clients: int) -> None:
        self.losses: list[str] = []
        self.port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Have all of them finish what they have asked for; may be repeated."""
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def ask(self) -> None:
        """Connect, ask, and note what has come of it; OSError and BrokenResponse become losses."""
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.ask()
            except (OSError, BrokenResponse) as error:
                self.losses.append(repr(error))
