"""Files without a name: in memory where the system has them, so that nothing is left behind however a process ends."""

import fcntl
import os
import tempfile

MADE_OF_MEMORY = hasattr(os, "memfd_create")
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW if hasattr(fcntl, "F_SEAL_WRITE") else 0


def anonymous_file(name: str) -> int:
    """A new, empty file, as a descriptor that no program executed later inherits; raises OSError without room."""
    if MADE_OF_MEMORY:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


def counting_file(name: str) -> int:
    """The same, whose position each process that shares it moves atomically, as POSIX says of `lseek`.

    Linux locks the position of files that were opened by a path only: two processes that share what ``memfd_create``
    has opened may be given the same position (measured with 6.18).
    """
    number = anonymous_file(name)
    try:
        opened = os.open(f"/proc/self/fd/{number}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return number  # not Linux, or nothing is mounted there
    os.close(number)
    return opened


def sealed_file(name: str, content: bytes) -> int:
    """A file with this content that no process can change any more, its maker included; raises OSError without room."""
    number = anonymous_file(name)
    try:
        write_at(number, content, 0)
        if MADE_OF_MEMORY:
            fcntl.fcntl(number, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(number)
        raise
    return number


def read_sealed(number: int, limit_bytes: int) -> bytes:
    """The content of what `sealed_file` has made; raises ValueError for any other file, and for a larger one."""
    if MADE_OF_MEMORY and fcntl.fcntl(number, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
        # What can still be cut while it is read is not to be read.
        raise ValueError("the file is not sealed")
    size = os.fstat(number).st_size
    if size > limit_bytes:
        raise ValueError(f"the file has {size} bytes, more than {limit_bytes}")
    return read_at(number, size, 0)


def write_at(number: int, content: bytes, offset: int) -> None:
    """Write all of it there; raises OSError without room."""
    view = memoryview(content)
    while view:
        written = os.pwrite(number, view, offset)
        view, offset = view[written:], offset + written


def read_at(number: int, size: int, offset: int) -> bytes:
    """So many bytes from there, or fewer where the file ends before. Raises OSError."""
    pieces = []
    while size and (piece := os.pread(number, size, offset)):
        pieces.append(piece)
        size, offset = size - len(piece), offset + len(piece)
    return b"".join(pieces)
