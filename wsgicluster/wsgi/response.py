"""``start_response`` and what follows from it: the response head, its framing, and the body's bytes in it.

A response gets what the application returns and calls a transport. It knows
neither sockets nor workers, and decides only when the head is written whether
the connection is kept, from what the transport says at that moment.
"""

import enum
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol

from wsgicluster.counting import count_of
from wsgicluster.http.body import LAST_CHUNK, chunk_head
from wsgicluster.http.core import exact_format_response, format_response
from wsgicluster.http.head import HTTP_11, IS_HEAD, KEEP_ALIVE
from wsgicluster.http.response import HAS_DATE, HAS_SERVER, NO_BODY, WANTS_CLOSE, http_date, server_field
from wsgicluster.wsgi.files import FileRegion

JOIN_BYTES = 16 * 1024
"""Up to this size head and body are joined into one buffer; copying more costs more than a second segment."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]


class Transport(Protocol):
    """Where a response goes, and may have to wait for its client.

    Each method raises ClientGone when the client receives nothing any more.
    """

    def send(self, data: bytes) -> None:
        """Send, or keep for sending."""

    def send_last(self, data: bytes) -> None:
        """Send the end of a response, behind which nothing comes."""

    def send_pair(self, head: bytes, body: bytes) -> None:
        """Send two buffers one after the other."""

    def send_file(self, head: bytes, region: FileRegion) -> None:
        """Send a head and then a part of a file, whose descriptor the transport duplicates."""

    def reset_if_cut(self) -> None:
        """Only the end of the connection marks that of the body: until then it must not look like a proper one."""

    def may_keep(self) -> bool:
        """Whether the server is willing to keep this connection, now."""

    def lost_client(self) -> bool:
        """Whether the client has left; receives nothing."""


class BadIterable(Exception):
    """What an application has returned or declared cannot be sent."""


class NotStarted(BadIterable, AssertionError):
    """There is no status yet for the response that is to be sent."""


class BadBlock(BadIterable, TypeError):
    """What was to be sent is not bytes, or nothing that gives some."""


class WrongLength(BadIterable, ValueError):
    """A body is shorter than was declared."""


class Framing(enum.Enum):
    """How the end of the body is marked (RFC 9112, section 6.3)."""

    UNSET = enum.auto()
    COUNTED = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()
    NO_BODY = enum.auto()


_USUAL = HTTP_11 | KEEP_ALIVE
_UNSET, _COUNTED, _CHUNKED, _NO_BODY = Framing.UNSET, Framing.COUNTED, Framing.CHUNKED, Framing.NO_BODY


class Stamp:
    """The ``Server`` and ``Date`` fields that every response carries; `update` is called when the second changes."""

    __slots__ = ("both", "date", "last", "server", "text")

    def __init__(self, now: float) -> None:
        self.server = server_field().encode("ascii")
        self.update(now)

    def update(self, now: float) -> None:
        """Set the date; ``now`` in seconds since the epoch."""
        self.text = http_date(now)
        self.date = f"Date: {self.text}\r\n".encode("ascii")
        self.both = self.server + self.date
        self.last = self.both + b"\r\n"

    def missing(self, info: int) -> bytes:
        """Those of the two that the application has not set itself."""
        return (b"" if info & HAS_SERVER else self.server) + (b"" if info & HAS_DATE else self.date)


class Response:
    """One response (PEP 3333, "The start_response() Callable").

    ``keep`` says whether the connection was promised to live on, ``complete`` whether the whole response
    was given to the transport; ``sent_bytes`` counts the body, ``blocks`` its parts, empty ones too. ``on_block`` is
    called for each of them, before it is sent. Once the head is sent, ``left`` is what is missing of a counted body.
    """

    __slots__ = (
        "_block", "_declared", "_info", "_stamp", "_transport",
        "blocks", "complete", "flags", "framing", "headers", "keep", "left", "on_block", "overlong", "sent_bytes",
        "status",
    )  # fmt: skip

    def __init__(
        self, transport: Transport, flags: int, stamp: Stamp, on_block: Callable[[], object] | None = None
    ) -> None:
        self._transport = transport
        self._stamp = stamp
        self.on_block = on_block
        self.blocks = 0
        self._block: bytes | None = None
        self.left = 0
        self.complete = False
        self.flags = flags
        self.framing = _UNSET
        self.keep = False
        self.overlong = False
        self.sent_bytes = 0
        self.status = ""
        self.headers: Sequence[tuple[str, str]] = ()

    @property
    def head_sent(self) -> bool:
        """Whether status and headers cannot be changed any more."""
        return self.framing is not _UNSET

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None) -> Any:
        """PEP 3333's callable: checks and keeps status and headers; they are sent with the first body bytes.

        Raises TypeError or ValueError for what must not be sent, AssertionError when called twice
        without ``exc_info``, and the exception in ``exc_info`` when the head has been sent.
        """
        if self.complete:
            raise AssertionError("start_response() was called after the response had ended")
        if exc_info is not None:
            try:
                if self.framing is not _UNSET:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._block is not None:
            raise AssertionError("start_response() was called a second time without exc_info")
        try:
            formatted = format_response(status, headers)
        except TypeError:
            formatted, status, headers = exact_format_response(status, headers)
        self._block, self._declared, self._info = formatted
        self.status = status
        self.headers = headers
        return self.write

    def resume_head(self, formatted: tuple[bytes, int, int], status: str, headers: list[tuple[str, str]]) -> None:
        """Take over what other code has got from ``start_response``; see `format_response` for ``formatted``."""
        self._block, self._declared, self._info = formatted
        self.status = status
        self.headers = headers

    def resume(self, framing: Framing, left: int, sent_bytes: int, keep: bool) -> None:
        """Take over a response whose head, and perhaps some of whose body, other code has sent."""
        self.framing = framing
        self.keep = keep
        self.sent_bytes = sent_bytes
        self.left = left if framing is _COUNTED else 0

    def count(self, size: int, blocks: int) -> None:
        """Take into account what other code has framed and sent, no more than is ``left`` of a counted body."""
        self.blocks += blocks
        self.sent_bytes += size
        if self.framing is _COUNTED:
            self.left -= size

    def send_interim(self, data: bytes) -> None:
        """Send a whole interim response (RFC 9110, section 15.2), unless it is too late or the client knows none."""
        if self.framing is _UNSET and not self.complete and self.flags & HTTP_11:
            self._transport.send(data)

    def lost_client(self) -> bool:
        """Whether the client has left; receives nothing."""
        return self._transport.lost_client()

    def write(self, data: bytes) -> None:
        """Send one block of the body; an empty one does nothing, not even send the head."""
        data = _checked(data)
        if self.complete:
            # Whatever was sent now would be read as the beginning of the next response.
            raise AssertionError("the application gave a body block after its response had ended")
        self.blocks += 1
        if self.on_block is not None:
            self.on_block()
        if not data:
            return
        framing = self.framing
        if framing is _UNSET:
            head = self._head(-1)
            data = self._frame(data)
            if not data:
                self._transport.send(head)
            elif len(data) <= JOIN_BYTES:
                self._transport.send(head + data)
            else:
                self._transport.send_pair(head, data)
            return
        data = self._frame(data)
        if data:
            self._transport.send(data)

    def send_whole(self, body: bytes) -> None:
        """Send head and body when the body is complete; what is not framed by the application gets its length."""
        if type(body) is not bytes:
            body = _checked(body)
        if self.framing is not _UNSET:
            self.write(body)
            self.finish()
            return
        size = len(body)
        block = self._block
        if (
            block is not None and self._declared == size <= JOIN_BYTES and not self._info and self.flags == _USUAL
            and self._transport.may_keep()
        ):  # fmt: skip
            # What `_head` and the rest come to for most responses.
            self.framing = _COUNTED
            self.keep = True
            self.sent_bytes = self.left = size
            self._transport.send(block + self._stamp.last + body)
            self.complete = True
            return
        head = self._head(size)
        if self.framing is not _NO_BODY:
            left = self.left
            if size != left:
                body = self._fit(body, left)
                size = len(body)
            self.sent_bytes = size
            if size > JOIN_BYTES:
                self._transport.send_pair(head, body)
                self.complete = True
                return
            head += body
        self._transport.send(head)
        self.complete = True

    def _fit(self, body: bytes, left: int) -> bytes:
        if len(body) < left:
            self.framing = _UNSET  # nothing has been sent: the client gets an honest 500
            raise _too_short(left, len(body))
        self.overlong = True
        return body[:left]

    def send_file(self, region: FileRegion) -> None:
        """Send head and body from an open file, as far as the declared length goes."""
        head = self._head(region.size)
        if self.framing is _NO_BODY:
            self._transport.send(head)
            return
        count = min(region.size, self.left)
        self.left -= count
        self.sent_bytes = count
        self._transport.send_file(head, FileRegion(region.descriptor, region.offset, count))

    def finish(self) -> None:
        """End the body. Raises ValueError when fewer bytes came than were declared; the connection is not kept then."""
        if self.framing is _UNSET:
            self.send_whole(b"")
            return
        if self.framing is _CHUNKED:
            self._transport.send_last(LAST_CHUNK)
        elif self.left:
            self.keep = False
            raise _too_short(self._declared, self.sent_bytes)
        self.complete = True

    def _frame(self, data: bytes) -> bytes:
        framing = self.framing
        if framing is _NO_BODY:
            return b""
        if framing is _CHUNKED:
            self.sent_bytes += len(data)
            return b"%b%b\r\n" % (chunk_head(len(data)), data)
        if framing is _COUNTED:
            if len(data) > self.left:
                data = data[: self.left]
                self.overlong = True
            self.left -= len(data)
        self.sent_bytes += len(data)
        return data

    def _head(self, body_bytes: int) -> bytes:
        """The complete head, and ``framing`` and ``keep`` with it; ``body_bytes`` is -1 when not known yet."""
        block = self._block
        if block is None:
            if body_bytes:
                raise NotStarted("the application gave a body before it called start_response()")
            raise NotStarted("the application returned without having called start_response()")
        info, flags, length = self._info, self.flags, self._declared
        keep = flags & KEEP_ALIVE and not info & WANTS_CLOSE and self._transport.may_keep()
        ending = b""
        if info & NO_BODY or flags & IS_HEAD:
            framing = _NO_BODY
        elif length >= 0:
            framing = _COUNTED
            self.left = length
        elif body_bytes >= 0:
            framing = _COUNTED
            self.left = self._declared = body_bytes
            ending = b"Content-Length: %d\r\n" % body_bytes
        elif flags & HTTP_11:
            framing = _CHUNKED
            ending = b"Transfer-Encoding: chunked\r\n"
        else:
            framing = Framing.UNTIL_CLOSE
            keep = False
            self._transport.reset_if_cut()
        if keep:
            if not flags & HTTP_11:
                ending += b"Connection: keep-alive\r\n"
        else:
            ending += b"Connection: close\r\n"
        stamp = self._stamp
        self.framing = framing
        self.keep = bool(keep)
        if ending or info & (HAS_DATE | HAS_SERVER):
            return block + stamp.missing(info) + ending + b"\r\n"
        return block + stamp.last


def _too_short(declared: int, given: int) -> WrongLength:
    return WrongLength(f"the application declared Content-Length {declared} but gave only {count_of(given, 'byte')}")


def _checked(block: object) -> bytes:
    """The block itself when it is bytes; of a subclass, which may lie about itself, what it really holds."""
    if type(block) is bytes:
        return block
    if not isinstance(block, bytes):
        raise BadBlock(f"the application gave a body block of type {type(block).__name__}; expected bytes")
    return b"".join((block,))
