"""Where request bodies are kept until the application reads them: memory, then an unlinked temp file."""

import io
import tempfile
from typing import BinaryIO

from wsgicluster.errors import ProtocolError

MEMORY_BYTES = 512 * 1024
"""A body above this many bytes goes to a temp file."""


class StoredBody:
    """The body of one request while it arrives.

    ``length`` is the body's length in bytes when it is known, else -1. Raises
    ProtocolError (503) when the folder for temp files has no room.
    """

    __slots__ = ("_file", "_folder", "_memory")

    def __init__(self, folder: str | None, length: int) -> None:
        self._folder = folder
        self._memory = bytearray()
        self._file: BinaryIO | None = None

    def _open(self) -> BinaryIO:
        try:
            self._file = file = tempfile.TemporaryFile(prefix="wsgicluster-body-", dir=self._folder)
            file.write(self._memory)
        except OSError as error:
            raise self._no_room(error) from error
        self._memory = bytearray()
        return file

    def _no_room(self, error: OSError) -> ProtocolError:
        folder = self._folder or tempfile.gettempdir()
        return ProtocolError(503, f"cannot keep the request's body in {folder} (tmp_upload_dir): {error.strerror}")

    def write(self, piece: memoryview) -> None:
        """Keep the next piece."""
        file = self._file
        if file is None:
            self._memory += piece
            if len(self._memory) > MEMORY_BYTES:
                self._open()
            return
        try:
            file.write(piece)
        except OSError as error:
            raise self._no_room(error) from error

    def finish(self) -> BinaryIO:
        """The body as a file at its beginning; the application may read it in every way PEP 3333 lists."""
        memory, self._memory = self._memory, bytearray()
        file, self._file = self._file, None
        if file is None:
            return io.BytesIO(memory)
        try:
            file.seek(0)
        except OSError as error:
            raise self._no_room(error) from error
        return file

    def discard(self) -> None:
        """Give the memory or the file back."""
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()
