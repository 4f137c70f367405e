"""What a client did not take at once: memory, then unlinked temp files, then files of the application.

It is sent in order, as the client reads, whatever the application does next. How much may wait is a rule here;
how an application is made to wait is not known.
"""

import errno
import os
import tempfile
from collections import deque
from collections.abc import Callable

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import ClientGone, ServerError
from wsgicluster.worker.transport.transport import ByteTransport
from wsgicluster.wsgi.files import FileRegion

SEGMENTS = 4
"""The temp files of one response are about so many: each frees its room as soon as it has been sent. One alone
would grow with the response, and what sendfile has taken from it must not be written over: the kernel does not copy."""

LEAST_SEGMENT_BYTES = 1024 * 1024

SMALL_BYTES = 4 * 1024

LEAST_SPOOLED_BYTES = 64 * 1024
"""Smaller blocks of an application that is made to wait are never worth a temp file."""

_FILE_ERRORS = frozenset({errno.EBADF, errno.EINVAL, errno.EIO, errno.EOVERFLOW})
_BUFFERS = 64
_PIECES = 8
"""Pieces sent in one turn: a reader that always keeps up has to let the others have theirs."""


class SpoolError(ServerError):
    """A temp file for a response cannot be made, or cannot grow."""


class FileFault(ServerError):
    """A file that was being sent cannot be read, or has become shorter."""


def _ignore(_error: SpoolError) -> None:
    """Do not report it."""


def _never() -> bool:
    """Other requests never wait for one that waits."""
    return False


@dataclass(frozen=True, slots=True)
class Storage:
    """How much of one response may wait for its client, and where.

    ``buffer_bytes`` wait in memory. Further blocks wait in temp files in ``folder`` (None: the system's), at most
    ``spool_bytes`` in all, where ``spools`` says that an application should not wait for its client as long as that is
    possible; else it is to wait, and only a single large block goes there, which may be the response's last.
    ``crowded`` says the same of this moment alone: all that could run other requests is taken.
    ``report`` is called when temp files find no room: then more waits in memory, and the application after all.
    """

    folder: str | None = None
    buffer_bytes: int = 1024 * 1024
    spool_bytes: int = 64 * 1024 * 1024
    spools: bool = True
    report: Callable[[SpoolError], object] = _ignore
    crowded: Callable[[], bool] = _never

    def spools_now(self) -> bool:
        """Whether an application should not wait for its client now."""
        return self.spools or self.crowded()

    @property
    def segment_bytes(self) -> int:
        """The size at which a temp file is full."""
        return max(LEAST_SEGMENT_BYTES, self.spool_bytes // SEGMENTS)


class _File:
    """A part of a file that waits to be sent; its descriptor is closed behind it.

    ``spooled`` says that it is a temp file of ours, which is written on where the part ends.
    """

    __slots__ = ("count", "descriptor", "offset", "spooled")

    def __init__(self, region: FileRegion, spooled: bool) -> None:
        self.descriptor, self.offset, self.count = region
        self.spooled = spooled


class Outbox:
    """The waiting part of one connection's responses.

    ``memory_bytes`` wait in memory; the temp files hold ``spool_bytes``, those sent already from one that still waits
    included. ``given_up`` says that something is missing: nothing is sent any more. ``lagging`` is set when the client
    has been waited for without effect, and holds until it has taken all that was put in temp files.
    """

    __slots__ = (
        "_queue", "_spool_limit", "_storage", "buffer_bytes", "given_up", "lagging", "memory_bytes", "sent_bytes",
        "spool_bytes",
    )  # fmt: skip

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._queue: deque[bytes | memoryview | _File] = deque()
        self._spool_limit = storage.spool_bytes
        self.buffer_bytes = storage.buffer_bytes
        self.given_up = False
        self.lagging = False
        self.memory_bytes = 0
        self.sent_bytes = 0
        self.spool_bytes = 0

    def has_room(self, size: int) -> bool:
        """Whether a block of this size may be put now; else its application waits until some has been sent.

        A block of whatever size may follow when little waits: it is in memory already.
        """
        if self.memory_bytes + self.spool_bytes <= self.buffer_bytes:
            return True
        if not self._storage.spools_now():
            return False
        return self.spool_bytes + size <= self._spool_limit or self._fits_memory(size)

    def put(self, data: bytes | memoryview) -> None:
        """Append data, whether or not there is room: in memory it is not copied."""
        size = len(data)
        if not size:
            return  # No call that sends can take it away again: it would never be behind us.
        if not self._fits_memory(size) and self._is_to_spool(size):
            data = self._write_spool(memoryview(data))
            size = len(data)
            if not size:
                return
        # What is large is never copied, whatever parts of it are sent.
        self._queue.append(data if size <= SMALL_BYTES else memoryview(data))
        self.memory_bytes += size

    def put_file(self, region: FileRegion) -> None:
        """Append a part of a file; the outbox duplicates the descriptor."""
        self._queue.append(_File(region._replace(descriptor=os.dup(region.descriptor)), spooled=False))

    def flush(self, transport: ByteTransport) -> bool:
        """Send what the client takes now; True when nothing is left. Raises ClientGone, and FileFault once."""
        if self.given_up:
            raise ClientGone("a part of the response is missing")
        queue = self._queue
        try:
            for _ in range(_PIECES):
                if not queue:
                    break
                first = queue[0]
                if isinstance(first, _File):
                    self._send_file(transport, first)
                else:
                    self._send_memory(transport)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ClientGone(str(error)) from error
        if queue:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Forget what is left and close all descriptors."""
        for item in self._queue:
            if isinstance(item, _File):
                os.close(item.descriptor)
        self._queue.clear()
        self.memory_bytes = self.spool_bytes = 0

    def _fits_memory(self, size: int) -> bool:
        """Whether memory has room for a block; a temp file is written on until half of the memory is free.

        Sooner, memory would take turns with small files. Later, when the file is empty, would be never for a client
        that reads as fast as the application writes: all of its response would be written and read once more.
        """
        waiting = self.memory_bytes + size
        return waiting <= self.buffer_bytes // 2 or (waiting <= self.buffer_bytes and not self._ends_with_spool())

    def _ends_with_spool(self) -> bool:
        if not self.spool_bytes:
            return False
        last = self._queue[-1]
        return isinstance(last, _File) and last.spooled

    def _is_to_spool(self, size: int) -> bool:
        """Of what is too much for memory alone; a small block of an application that is to wait is not worth a file."""
        return size > max(self.buffer_bytes, LEAST_SPOOLED_BYTES) or self._storage.spools_now()

    def _write_spool(self, data: memoryview) -> memoryview:
        """Write to temp files, unless it would be too much; what has found no room."""
        if self.spool_bytes + len(data) > self._spool_limit:
            return data
        try:
            while data:
                segment = self._segment()
                end = segment.offset + segment.count
                written = os.pwrite(segment.descriptor, data[: self._storage.segment_bytes - end], end)
                segment.count += written
                self.spool_bytes += written
                data = data[written:]
        except OSError as error:
            folder = self._storage.folder or tempfile.gettempdir()
            self._spool_limit = 0
            self._storage.report(SpoolError(f"cannot keep a response in {folder} (tmp_upload_dir): {error.strerror}"))
        return data

    def _segment(self) -> _File:
        """The temp file to write on; only the last thing that waits can be one."""
        last = self._queue[-1] if self._queue else None
        if isinstance(last, _File) and last.spooled and last.offset + last.count < self._storage.segment_bytes:
            return last
        with tempfile.TemporaryFile(prefix="wsgicluster-response-", dir=self._storage.folder, buffering=0) as file:
            segment = _File(FileRegion(os.dup(file.fileno()), 0, 0), spooled=True)
        self._queue.append(segment)
        return segment

    def _send_file(self, transport: ByteTransport, file: _File) -> None:
        if file.count:
            try:
                sent = transport.send_file(FileRegion(file.descriptor, file.offset, file.count))
            except OSError as error:
                if error.errno in _FILE_ERRORS:
                    self.given_up = True
                    raise FileFault(f"a file cannot be sent: {error.strerror}") from error
                raise
            if not sent:
                self.given_up = True
                raise FileFault("a file that was being sent has become shorter")
            file.offset += sent
            file.count -= sent
            self.sent_bytes += sent
        if not file.count:
            self._queue.popleft()
            os.close(file.descriptor)
            if file.spooled:
                self.spool_bytes -= file.offset
                if not self.spool_bytes:
                    self.lagging = False

    def _send_memory(self, transport: ByteTransport) -> None:
        queue = self._queue
        buffers: list[bytes | memoryview] = []
        for item in queue:
            if isinstance(item, _File) or len(buffers) == _BUFFERS:
                break
            buffers.append(item)
        sent = transport.sendmsg(buffers)
        self.sent_bytes += sent
        self.memory_bytes -= sent
        while sent:
            first = queue[0]
            assert not isinstance(first, _File)
            if sent < len(first):
                queue[0] = first[sent:]
                return
            sent -= len(first)
            queue.popleft()
