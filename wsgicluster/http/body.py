"""Chunked bodies, decoded and encoded (RFC 9112, section 7.1).

The decoder passes on each piece of the body as it arrives and stores only an unfinished
line. It knows neither where the pieces go nor which request they belong to.
"""

import enum
from collections.abc import Callable

from wsgicluster.errors import ProtocolError
from wsgicluster.http.grammar import CHUNK_LINE
from wsgicluster.http.head import read_field

Sink = Callable[[memoryview], object]
"""Accepts the next piece of a body; the memory is only valid during the call."""

LAST_CHUNK = b"0\r\n\r\n"
"""Ends a chunked body that has no trailers."""

SIZE_DIGITS = 16
SIZE_LINE_BYTES = 4096
EXTENSION_BYTES = 16 * 1024
TRAILER_BYTES = 16 * 1024
TRAILER_FIELDS = 100


def chunk_head(length: int) -> bytes:
    """The line before a chunk of ``length`` bytes (at least 1); CRLF follows the chunk."""
    return b"%x\r\n" % length


class _Part(enum.IntEnum):
    """The part that the decoder reads next; integers, which are quickly looked up in a table."""

    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILERS = enum.auto()
    NOTHING = enum.auto()


class ChunkedDecoder:
    """One chunked body of at most ``limit_bytes`` (0: of any length)."""

    __slots__ = (
        "_extension_bytes", "_left", "_limit_bytes", "_line", "_part", "_trailer_bytes", "_trailer_fields",
        "done", "received",
    )  # fmt: skip

    def __init__(self, limit_bytes: int) -> None:
        self.done = False
        self.received = 0
        self._limit_bytes = limit_bytes
        self._part = _Part.SIZE
        self._left = 0
        self._extension_bytes = 0
        self._line = b""
        self._trailer_bytes = 0
        self._trailer_fields = 0

    def feed(self, data: bytes, start: int, sink: Sink) -> int:
        """Read from ``data[start]`` on, pass the body's pieces to ``sink``; returns the index after what was read.

        That is the end of ``data`` unless the body is complete. ``received`` counts the body's bytes.
        Raises ProtocolError: 400 for an invalid chunk, 413 for a body and 431 for trailers beyond their limits.
        """
        position, end = start, len(data)
        while position < end and self._part is not _Part.NOTHING:
            position = _STEPS[self._part](self, data, position, sink)
        return position

    def _read_size(self, data: bytes, position: int, sink: Sink) -> int:
        end = data.find(b"\n", position)
        if end < 0 or self._line:
            # Lines that arrive in pieces are rare: the usual one is matched in place.
            position = self._gather(data, position, end, SIZE_LINE_BYTES, 400)
            if end < 0:
                return position
            line, self._line = self._line, b""
            found = line.endswith(b"\r\n") and CHUNK_LINE.fullmatch(line, 0, len(line) - 2)
        else:
            if end - position > SIZE_LINE_BYTES + 1:
                raise ProtocolError(400, "a chunk's size line is too long")
            found = data[end - 1] == 13 and CHUNK_LINE.fullmatch(data, position, end - 1)
            position = end + 1
        if not found:
            raise ProtocolError(400, "a chunk's size line is malformed")
        # RFC 9112, section 7.1.1: a recipient ought to limit the total length of chunk extensions.
        self._extension_bytes += found.end() - found.end(1)
        if self._extension_bytes > EXTENSION_BYTES:
            raise ProtocolError(400, "the chunk extensions are too long")
        self._open(found[1])
        return position

    def _open(self, digits: bytes) -> None:
        digits = digits.lstrip(b"0")
        if not digits:
            self._part = _Part.TRAILERS
            return
        if len(digits) > SIZE_DIGITS:
            raise ProtocolError(400, "a chunk's size is too large")
        size = int(digits, 16)
        if 0 < self._limit_bytes < self.received + size:
            raise ProtocolError(413, "the body is too large")
        self._left = size
        self._part = _Part.DATA

    def _read_data(self, data: bytes, position: int, sink: Sink) -> int:
        end = position + self._left
        piece = memoryview(data)[position:end]
        size = len(piece)
        sink(piece)
        self.received += size
        self._left -= size
        if self._left:
            return position + size
        if data.startswith(b"\r\n", end):
            self._part = _Part.SIZE
            return end + 2
        self._part = _Part.DATA_END
        return end

    def _read_data_end(self, data: bytes, position: int, sink: Sink) -> int:
        wanted = b"\r\n"[len(self._line) :]
        piece = data[position : position + len(wanted)]
        if not wanted.startswith(piece):
            raise ProtocolError(400, "a chunk's data is not followed by CRLF")
        if piece == wanted:
            self._line = b""
            self._part = _Part.SIZE
        else:
            self._line = piece
        return position + len(piece)

    def _read_trailer(self, data: bytes, position: int, sink: Sink) -> int:
        end = data.find(b"\n", position)
        position = self._gather(data, position, end, TRAILER_BYTES - self._trailer_bytes, 431)
        if end < 0:
            return position
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            raise ProtocolError(400, "a trailer line is not ended by CRLF")
        if len(line) == 2:
            self._part = _Part.NOTHING
            self.done = True
            return position
        self._trailer_bytes += len(line)
        self._trailer_fields += 1
        if self._trailer_fields > TRAILER_FIELDS:
            raise ProtocolError(431, "there are too many trailer fields")
        # Checked and dropped: RFC 9110, section 6.5.1, forbids merging them into the header fields.
        read_field(line[:-2].decode("latin-1"))
        return position

    def _gather(self, data: bytes, position: int, end: int, limit_bytes: int, status: int) -> int:
        """Add the received part of a line, which ends with the LF at ``end``, or is incomplete (-1)."""
        piece = data[position:] if end < 0 else data[position : end + 1]
        if len(self._line) + len(piece) > limit_bytes + 2:
            raise ProtocolError(status, "a line between the chunks is too long")
        self._line += piece
        return position + len(piece)


_STEPS = {
    _Part.SIZE: ChunkedDecoder._read_size,
    _Part.DATA: ChunkedDecoder._read_data,
    _Part.DATA_END: ChunkedDecoder._read_data_end,
    _Part.TRAILERS: ChunkedDecoder._read_trailer,
}
