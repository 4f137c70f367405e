"""Stores request bodies until the application reads them: in memory, then in an unlinked temp file."""

import io
import tempfile
from typing import BinaryIO

from wsgicluster.errors import ProtocolError

MEMORY_BYTES = 1024 * 1024
"""A body above this many bytes goes to a temp file; writing and reading it doubles its cost."""


class StoredBody:
    """The body of one request while it arrives.

    Memory is only allocated for received bytes, whatever the announced length. Raises
    ProtocolError (503) when the folder for temp files has no room.
    """

    __slots__ = ("_file", "_folder", "_memory", "_size")

    def __init__(self, folder: str | None, _length: int) -> None:
        self._folder = folder
        # Written to directly: it grows in place, and the application reads it without a copy.
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
        return ProtocolError(503, f"cannot store the request's body in {folder} (tmp_upload_dir): {error.strerror}")

    def write(self, piece: memoryview) -> None:
        """Append the next piece."""
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
        """The body as a file at its beginning; with all methods of PEP 3333."""
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
        """Free the memory, or close the file."""
        self._memory = io.BytesIO()
        if self._file is not None:
            self._file.close()
