"""The end of a file that others write to, and what is added to it, also when it is rotated or cut meanwhile."""

import os
import stat

MOST_BYTES = 64 << 20
"""So much of the end of a file is read in search of its last records."""
_BLOCK_BYTES = 1 << 18


class Tail:
    """One file by its path, from its end on; to be closed by its owner. Raises OSError where it cannot be read.

    Only a regular file is opened: a reader of a pipe takes what another program waits for.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._open()
        self._position = 0
        self._rest = b""

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(0, "it is no regular file")
        return descriptor

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._file)

    def last(self, most_bytes: int) -> tuple[list[str], bool]:
        """The whole lines of the last bytes, and whether that is the whole file; what follows is read by `more`."""
        size = os.fstat(self._file).st_size
        begin = max(0, size - most_bytes)
        text = self._read(begin, size - begin)
        self._position = begin + len(text)
        if begin:
            # The first line may be a part of one.
            text = text.partition(b"\n")[2]
        *lines, self._rest = text.split(b"\n")
        return [_text(line) for line in lines], begin == 0

    def _read(self, begin: int, size: int) -> bytes:
        pieces = []
        while size and (piece := os.pread(self._file, min(size, _BLOCK_BYTES), begin)):
            pieces.append(piece)
            begin, size = begin + len(piece), size - len(piece)
        return b"".join(pieces)

    def more(self) -> list[str]:
        """The whole lines that have come since; none if there are none yet."""
        lines = self._added()
        if self._is_replaced():
            # The processes write to the old file until they have opened the new one.
            lines += self._added()
            try:
                new = self._open()
            except OSError:
                return lines  # it is not there yet
            os.close(self._file)
            self._file, self._position = new, 0
            lines += [_text(self._rest)] if self._rest else []
            self._rest = b""
            lines += self._added()
        return lines

    def _is_replaced(self) -> bool:
        try:
            named = os.stat(self._path)
        except OSError:  # renamed, and the new one is not made yet
            return False
        held = os.fstat(self._file)
        return (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino)

    def _added(self) -> list[str]:
        size = os.fstat(self._file).st_size
        if size < self._position:
            self._position, self._rest = 0, b""
        data = self._read(self._position, size - self._position)
        self._position += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [_text(line) for line in lines]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
