"""Bytes of one connection in, complete requests out.

The reader joins head and body parsing and keeps what came too early: the start
of the next request on the same connection. It knows no socket, no clock and not
where a body is stored; it hands a body's pieces to a store that it is given.
"""

import enum
import io
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from wsgicluster.http.body import ChunkedDecoder
from wsgicluster.http.core import parse_head
from wsgicluster.http.head import CHUNKED, EXPECT_CONTINUE, check_partial
from wsgicluster.http.limits import HeadLimits

EMPTY_LINES = 4
"""Empty lines that are ignored before a request line (RFC 9112, section 2.2, asks for at least one)."""


class BodyStore(Protocol):
    """Where the pieces of one body go."""

    def write(self, piece: memoryview) -> object:
        """Take the next piece; the memory is only valid during the call."""

    def finish(self) -> BinaryIO:
        """The whole body, ready to be read from its beginning."""

    def discard(self) -> object:
        """Forget a body that will never be complete."""


class Phase(enum.Enum):
    """What the reader waits for."""

    HEAD = enum.auto()
    COUNTED_BODY = enum.auto()
    CHUNKED_BODY = enum.auto()


_HEAD = Phase.HEAD
_COUNTED = Phase.COUNTED_BODY


class RequestReader:
    """The requests of one connection, one after the other.

    `receive` and `resume` return True when a request is complete: ``environ``
    (without ``wsgi.input``), ``flags`` (see `wsgicluster.http.head`), ``body`` and
    ``line`` (the request line as sent) then describe it until the next call.
    Both raise ProtocolError for what must be refused; the reader is of no use after that.
    """

    __slots__ = (
        "_decoder", "_left", "_open_body", "_received",
        "body", "environ", "flags", "limits", "line", "phase", "rest", "store", "template",
    )  # fmt: skip

    environ: dict[str, Any]
    flags: int
    body: BinaryIO | None
    line: bytes
    store: BodyStore
    """Where the body that is being received goes."""
    limits: HeadLimits
    """Those of the next requests; others when it turns out who the client is."""

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
        """Take what has just been received; a memoryview, which is only valid during the call, for bodies only."""
        if self.phase is _HEAD:
            assert isinstance(data, bytes)
            rest = self.rest
            if rest:
                return self._read_head(rest + data, len(rest) - 3)
            return self._read_head(data, 0)
        return self._read_body(data, 0)

    def resume(self) -> bool:
        """Look at what was received behind the last request."""
        rest = self.rest
        return bool(rest) and self._read_head(rest, 0)

    @property
    def idle(self) -> bool:
        """Between two requests: all that was received and not yet used stands in ``rest``."""
        return self.phase is _HEAD

    @property
    def awaits_continue(self) -> bool:
        """The client waits for ``100 Continue`` before it sends the body (RFC 9110, section 10.1.1)."""
        return self.phase is not _HEAD and bool(self.flags & EXPECT_CONTINUE) and not self._received

    @property
    def body_received(self) -> int:
        """Bytes of the unfinished body received so far, as they came from the connection."""
        return self._received

    def close(self) -> None:
        """Give back what an unfinished request holds."""
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
        self.environ, length, self.flags = parse_head(data, start, end, self.template, self.limits)
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
        # that only look at CONTENT_LENGTH then see the body, and none can pass both lengths on to a next server.
        environ = getattr(self, "environ", None)
        # An application that reads the body while it arrives has the environ already.
        if environ is not None:
            del environ["HTTP_TRANSFER_ENCODING"]
            environ["CONTENT_LENGTH"] = str(self._decoder.received)
