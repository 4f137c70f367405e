"""What a socket did not take at once: memory, then an unlinked temp file, then files of the application.

Sending goes on in order, as the socket drains, whatever the application does next.
"""

import errno
import os
import socket
import tempfile
from collections import deque

from wsgicluster.errors import ClientGone, ServerError
from wsgicluster.wsgi.files import FileRegion

MEMORY_BYTES = 1024 * 1024
"""Above this much waiting in memory, further data goes to the temp file."""

SENDFILE_BYTES = 1024 * 1024
"""Largest piece given to sendfile at a time, so that one fast reader does not keep the loop."""

_FILE_ERRORS = frozenset({errno.EBADF, errno.EINVAL, errno.EIO, errno.EOVERFLOW})
_BUFFERS = 64
_PIECES = 8
"""Pieces sent in one turn: a reader that always keeps up has to let the others have theirs."""


class SpoolError(ServerError):
    """The temp file for a response cannot grow."""


class FileFault(ServerError):
    """A file that was being sent cannot be read, or has become shorter."""


class _File:
    """A part of a file that waits to be sent; its descriptor is closed behind it unless it is the spool's."""

    __slots__ = ("count", "descriptor", "offset", "owned")

    def __init__(self, region: FileRegion, owned: bool) -> None:
        self.descriptor, self.offset, self.count = region
        self.owned = owned


class Outbox:
    """The waiting part of one connection's responses."""

    __slots__ = ("_folder", "_queue", "_spool", "_spool_end", "memory_bytes", "sent_bytes")

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._queue: deque[memoryview | _File] = deque()
        self._spool = -1
        self._spool_end = 0
        self.memory_bytes = 0
        self.sent_bytes = 0

    def put(self, data: bytes | memoryview) -> None:
        """Append data. Raises SpoolError when it should go to the temp file and that has no room."""
        if self.memory_bytes + len(data) > MEMORY_BYTES:
            self._write_spool(memoryview(data))
        else:
            self._queue.append(memoryview(data))
            self.memory_bytes += len(data)

    def put_file(self, region: FileRegion) -> None:
        """Append a part of a file; the outbox duplicates the descriptor."""
        self._queue.append(_File(region._replace(descriptor=os.dup(region.descriptor)), owned=True))

    def flush(self, sock: socket.socket) -> bool:
        """Send what the socket takes now; True when nothing is left. Raises ClientGone or FileFault."""
        queue = self._queue
        try:
            for _ in range(_PIECES):
                if not queue:
                    break
                first = queue[0]
                if isinstance(first, _File):
                    self._send_file(sock, first)
                else:
                    self._send_memory(sock)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ClientGone(str(error)) from error
        if queue:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Forget what is left and give all descriptors back."""
        for item in self._queue:
            if isinstance(item, _File) and item.owned:
                os.close(item.descriptor)
        self._queue.clear()
        self.memory_bytes = 0
        if self._spool >= 0:
            os.close(self._spool)
            self._spool = -1
            self._spool_end = 0

    def _write_spool(self, data: memoryview) -> None:
        try:
            if self._spool < 0:
                with tempfile.TemporaryFile(prefix="wsgicluster-response-", dir=self._folder, buffering=0) as file:
                    self._spool = os.dup(file.fileno())
            start = self._spool_end
            while data:
                written = os.pwrite(self._spool, data, self._spool_end)
                self._spool_end += written
                data = data[written:]
        except OSError as error:
            folder = self._folder or tempfile.gettempdir()
            raise SpoolError(f"cannot keep a response in {folder} (tmp_upload_dir): {error.strerror}") from error
        last = self._queue[-1] if self._queue else None
        if isinstance(last, _File) and last.descriptor == self._spool:
            last.count += self._spool_end - start
        else:
            self._queue.append(_File(FileRegion(self._spool, start, self._spool_end - start), owned=False))

    def _send_file(self, sock: socket.socket, file: _File) -> None:
        if file.count:
            try:
                sent = self._transfer(sock, FileRegion(file.descriptor, file.offset, file.count))
            except OSError as error:
                if error.errno in _FILE_ERRORS:
                    raise FileFault(f"a file cannot be sent: {error.strerror}") from error
                raise
            if not sent:
                raise FileFault("a file that was being sent has become shorter")
            file.offset += sent
            file.count -= sent
            self.sent_bytes += sent
        if not file.count:
            self._queue.popleft()
            if file.owned:
                os.close(file.descriptor)

    def _transfer(self, sock: socket.socket, region: FileRegion) -> int:
        """Send the beginning of a region; the bytes sent, 0 when the file ends before it."""
        return os.sendfile(sock.fileno(), region.descriptor, region.offset, min(region.size, SENDFILE_BYTES))

    def _send_memory(self, sock: socket.socket) -> None:
        queue = self._queue
        buffers: list[memoryview] = []
        for item in queue:
            if isinstance(item, _File) or len(buffers) == _BUFFERS:
                break
            buffers.append(item)
        sent = sock.sendmsg(buffers)
        self.sent_bytes += sent
        self.memory_bytes -= sent
        while sent:
            first = queue[0]
            assert isinstance(first, memoryview)
            if sent < len(first):
                queue[0] = first[sent:]
                return
            sent -= len(first)
            queue.popleft()
