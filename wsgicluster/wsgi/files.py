"""``wsgi.file_wrapper`` (PEP 3333, "Optional Platform-Specific File Handling")."""

import io
import os
import stat
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple


class FileWrapper:
    """An iterable over a file-like object; a real file can be sent by the kernel instead.

    ``close`` exists when the file-like object has one, and is that object's.
    """

    def __init__(self, filelike: Any, blksize: int = 8192) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.blksize)
        if data:
            return data
        raise StopIteration


class FileRegion(NamedTuple):
    """``size`` bytes of an open file from ``offset`` on; ``descriptor`` belongs to the caller of `file_region`."""

    descriptor: int
    offset: int
    size: int


def file_region(wrapper: FileWrapper) -> FileRegion | None:
    """A real file from its position on, or None for anything else."""
    file = wrapper.filelike
    if isinstance(file, tempfile._TemporaryFileWrapper):
        file = file.file
    # Only of these types read() returns the bytes of the descriptor: gzip files and text files have one, too.
    if type(file) not in (io.FileIO, io.BufferedReader, io.BufferedRandom):
        return None
    if type(getattr(file, "raw", file)) is not io.FileIO:
        return None
    try:
        descriptor = file.fileno()
        offset = file.tell()
        status = os.fstat(descriptor)
        readable = file.readable()
    except (OSError, ValueError):
        return None  # closed, or without a position: reading it raises the error
    # Files below /proc have contents, but no size.
    if not readable or not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    return FileRegion(descriptor, offset, max(0, status.st_size - offset))
