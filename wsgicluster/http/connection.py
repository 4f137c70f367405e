"""Bytes of one connection in, complete requests out.

The reader joins head and body parsing and keeps the bytes after a request: the start
of the next one on the same connection. It knows no socket, no clock and not
where a body is stored; it writes a body's pieces to a store that the caller passes in.
"""

import enum
import io
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar, Protocol

from wsgicluster.errors import ProtocolError
from wsgicluster.http.body import ChunkedDecoder
from wsgicluster.http.core import parse_head
from wsgicluster.http.head import CHUNKED, EXPECT_CONTINUE, check_partial
from wsgicluster.http.limits import HeadLimits

EMPTY_LINES = 4
"""Empty lines that are ignored before a request line (RFC 9112, section 2.2, asks for at least one)."""


class BodyStore(Protocol):
    """Where the pieces of one body go."""

    def write(self, piece: memoryview) -> object:
        """Append the next piece; the memory is only valid during the call."""

    def finish(self) -> BinaryIO:
        """The whole body, ready to be read from its beginning."""

    def discard(self) -> object:
        """Free a body that will never be complete."""


class Phase(enum.Enum):
    """What the reader waits for."""

    HEAD = enum.auto()
    COUNTED_BODY = enum.auto()
    CHUNKED_BODY = enum.auto()


_HEAD = Phase.HEAD
_COUNTED = Phase.COUNTED_BODY


class RoutedAway(Exception):
    """The connection has been given to another process, in the middle of `RequestReader.receive` or ``resume``."""


class RequestReader:
    """The requests of one connection, one after the other.

    `receive` and `resume` return True when a request is complete: ``environ``
    (without ``wsgi.input``), ``flags`` (see `wsgicluster.http.head`), ``body`` and
    ``line`` (the request line as sent) then describe it until the next call.
    Both raise ProtocolError for what must be refused; the reader cannot be used after that, except that ``rest`` begins
    with a head that was refused.
    """

    spoken: ClassVar = "HTTP/1.1"

    __slots__ = (
        "_decoder", "_left", "_open_body", "_received",
        "body", "environ", "flags", "limits", "line", "phase", "placed", "rest", "route", "store", "template",
    )  # fmt: skip

    environ: dict[str, Any]
    flags: int
    body: BinaryIO | None
    line: bytes
    store: BodyStore
    """The store of the body that is being received."""
    placed: bool
    route: Callable[[dict[str, Any], bytes], bool] | None
    """This and `placed` are for `wsgicluster.http.routed` alone, which a reader may become at any time."""
    limits: HeadLimits
    """The template of the next requests; replaced once the PROXY header names the client."""

    def __init__(
        self, template: dict[str, Any], limits: HeadLimits, open_body: Callable[[int], BodyStore], rest: bytes = b""
    ) -> None:
        self.template = template
        self.phase = _HEAD
        self.rest = rest
        self.flags = 0
        self.limits = limits
        self._open_body = open_body

    def receive(self, data: bytes | memoryview) -> bool:
        """Read bytes that were just received; a memoryview, which is only valid during the call, for bodies only."""
        if self.phase is _HEAD:
            assert isinstance(data, bytes)
            rest = self.rest
            if rest:
                return self._read_head(rest + data, len(rest) - 3)
            return self._read_head(data, 0)
        return self._read_body(data, 0)

    def resume(self) -> bool:
        """Read what was received after the last request."""
        rest = self.rest
        return bool(rest) and self._read_head(rest, 0)

    @property
    def idle(self) -> bool:
        """Whether it is between two requests: all bytes that were received and not read are in ``rest``."""
        return self.phase is _HEAD

    @property
    def awaits_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` before it sends the body (RFC 9110, section 10.1.1)."""
        return self.phase is not _HEAD and bool(self.flags & EXPECT_CONTINUE) and not self._received

    @property
    def body_received(self) -> int:
        """Bytes of the unfinished body received so far, as sent, with the framing of chunks."""
        return self._received

    def close(self) -> None:
        """Free what an unfinished request uses."""
        if self.phase is not _HEAD:
            self.store.discard()
            self.phase = _HEAD

    def _read_head(self, data: bytes, searched: int) -> bool:
        start = 0
        if data[0] == 13:
            while start < 2 * EMPTY_LINES and data.startswith(b"\r\n", start):
                start += 2
        end = data.find(b"\r\n\r\n", searched if searched > start else start)
        if end < 0:
            self.rest = data = data[start:]
            if data and data != b"\r":
                check_partial(data, 0, self.limits)
            return False
        try:
            self.environ, length, self.flags = parse_head(data, start, end, self.template, self.limits)
        except ProtocolError:
            self.rest = data[start:]
            raise
        self.line = data[start : data.find(b"\r\n", start)]
        end += 4
        if length == 0:
            self.body = None
            self.rest = data[end:]
            return True
        return self._begin_body(data, end, length)

    def _begin_body(self, data: bytes, start: int, length: int) -> bool:
        end = start + length
        self._received = 0
        if length != CHUNKED and end <= len(data):
            self.body = io.BytesIO(data[start:end])
            self.rest = data[end:]
            return True
        self.rest = b""
        self.store = self._open_body(length)
        if length == CHUNKED:
            self.phase = Phase.CHUNKED_BODY
            self._decoder = ChunkedDecoder(self.limits.body_bytes)
        else:
            self.phase = _COUNTED
            self._left = length
        return start < len(data) and self._read_body(data, start)

    def _read_body(self, data: bytes | memoryview, start: int) -> bool:
        self._received += len(data) - start
        if self.phase is _COUNTED:
            piece = memoryview(data)[start : start + self._left]
            self.store.write(piece)
            self._left -= len(piece)
            if self._left:
                return False
            self.rest = bytes(data[start + len(piece) :])
        else:
            data = bytes(data)
            used = self._decoder.feed(data, start, self.store.write)
            if not self._decoder.done:
                return False
            self.rest = data[used:]
            self._unchunk()
        self.phase = _HEAD
        self.body = self.store.finish()
        return True

    def _unchunk(self) -> None:
        # RFC 9112, section 7.1.3: a decoded message has a length and is not chunked any more. Applications
        # that only read CONTENT_LENGTH then see the body, and none can forward both lengths to another server.
        environ = getattr(self, "environ", None)
        # An application that reads the body while it arrives has the environ already.
        if environ is not None:
            environ.pop("HTTP_TRANSFER_ENCODING", None)
            environ["CONTENT_LENGTH"] = str(self._decoder.received)
