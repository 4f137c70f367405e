"""Where request bodies are kept until the application reads them: memory, then an unlinked temp file."""

import io
import tempfile
from typing import BinaryIO

from wsgicluster.errors import ProtocolError

MEMORY_BYTES = 1024 * 1024
"""A body above this many bytes goes to a temp file; writing it there and reading it back doubles what it costs."""


class StoredBody:
    """The body of one request while it arrives.

    Memory is only taken for bytes that have come, whatever length was announced. Raises
    ProtocolError (503) when the folder for temp files has no room.
    """

    __slots__ = ("_file", "_folder", "_memory", "_size")

    def __init__(self, folder: str | None, _length: int) -> None:
        self._folder = folder
        # Written to directly: it grows in place, and becomes what the application reads without being copied.
        self._memory = io.BytesIO()
        self._size = 0
        self._file: BinaryIO | None = None

    def _open(self) -> BinaryIO:
        try:
            self._file = file = tempfile.TemporaryFile(prefix="wsgicluster-body-", dir=self._folder)
            file.write(self._memory.getbuffer())
        except OSError as error:
            raise self._no_room(error) from error
        self._memory = io.BytesIO()
        return file

    def _no_room(self, error: OSError) -> ProtocolError:
        folder = self._folder or tempfile.gettempdir()
        return ProtocolError(503, f"cannot keep the request's body in {folder} (tmp_upload_dir): {error.strerror}")

    def write(self, piece: memoryview) -> None:
        """Keep the next piece."""
        file = self._file
        if file is None:
            self._memory.write(piece)
            self._size += len(piece)
            if self._size > MEMORY_BYTES:
                self._open()
            return
        try:
            file.write(piece)
        except OSError as error:
            raise self._no_room(error) from error

    def finish(self) -> BinaryIO:
        """The body as a file at its beginning; the application may read it in every way PEP 3333 lists."""
        memory, self._memory = self._memory, io.BytesIO()
        file, self._file = self._file, None
        if file is None:
            memory.seek(0)
            return memory
        try:
            file.seek(0)
        except OSError as error:
            raise self._no_room(error) from error
        return file

    def discard(self) -> None:
        """Give the memory or the file back."""
        self._memory = io.BytesIO()
        if self._file is not None:
            self._file.close()
