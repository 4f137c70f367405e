"""Turns: a number that each caller gets once, whatever process it is in.

The position of a file that several processes have inherited open is shared by them, and the kernel moves it under a
lock: ``lseek(fd, 1, SEEK_CUR)`` is an atomic "add one and return" (POSIX, `lseek`; Linux locks the position of a file
that is open more than once since 3.14, if it was opened by a path). It costs one cheap system call, needs no lock of
ours, and a process that ends at any moment leaves it sound.

The same file holds two secrets of the server: the salt of its hashes and the key of its signatures.
"""

import contextlib
import os

from wsgicluster.system.anonymous_files import counting_file, read_at, write_at

_SECRET_BYTES = 32


class Turns:
    """A counter over a shared file position; ``descriptor`` is what other processes are given."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def new(cls) -> "Turns":
        """One that has given no turn yet, with new secrets. Raises OSError when there is no room for it."""
        made = cls(counting_file("wsgicluster-turns"))
        write_at(made.descriptor, os.urandom(2 * _SECRET_BYTES), 0)
        return made

    def secrets(self) -> tuple[bytes, bytes]:
        """The server's salt, and its key; the same for all who have this file. Raises OSError."""
        found = read_at(self.descriptor, 2 * _SECRET_BYTES, 0)
        return found[:_SECRET_BYTES], found[_SECRET_BYTES:]

    def next(self) -> int:
        """The next turn, from 0 on; no two callers get the same."""
        return os.lseek(self.descriptor, 1, os.SEEK_CUR) - 1

    def close(self) -> None:
        """Close this process's descriptor; harmless when repeated."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)
