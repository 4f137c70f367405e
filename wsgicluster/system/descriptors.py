"""Which descriptors a process has open, and how those that are not its own are closed."""

import contextlib
import os
import resource
from collections.abc import Collection, Iterable, Iterator

_STATUS_BYTES = 65536
"""More than the kernel writes of any process."""


def close_descriptors_except(keep: Collection[int]) -> None:
    """Close every descriptor above 2 but those in ``keep``.

    In ranges, without a look at each: a worker inherits four for each sibling. To list them and close them one by one
    took 4 microseconds apiece, in each worker, so that the start of many workers took the square of their number.
    """
    end = _table_size() or max(_open_descriptors(), default=2) + 1
    first = 3
    for number in (*sorted(number for number in keep if number > 2), end):
        os.closerange(first, min(number, end))
        first = number + 1


def count_descriptors() -> int:
    """How many descriptors are open; when that cannot be counted, since too many are, as many as may be."""
    return sum(1 for _ in _open_descriptors())


class OpenedDescriptors:
    """Those that code of the user's has opened in this process, as long as they are open.

    Each is known by its file, too: a number may have been closed meanwhile, and be that of another one.
    """

    def __init__(self) -> None:
        self._files: dict[int, tuple[int, int]] = {}

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note what is opened in this context, and not closed."""
        before = _open_files()
        try:
            yield
        finally:
            after = _open_files()
            self._files.update({number: file for number, file in after.items() if before.get(number) != file})

    def numbers(self) -> frozenset[int]:
        """Those that are still open."""
        for number, file in list(self._files.items()):
            if _file_of(number) != file:
                del self._files[number]
        return frozenset(self._files)


def open_sockets() -> dict[str, int]:
    """All sockets of this process, by what the system calls them; empty where it does not."""
    found = {}
    for number in _open_descriptors():
        with contextlib.suppress(OSError):  # closed by now, or a system without these links
            name = os.readlink(f"/proc/self/fd/{number}")
            if name.startswith("socket:"):
                found[name] = number
    return found


def _open_files() -> dict[int, tuple[int, int]]:
    files = {number: _file_of(number) for number in _open_descriptors() if number > 2}
    return {number: file for number, file in files.items() if file is not None}


def _file_of(number: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(number)
    except OSError:  # it is closed
        return None
    return found.st_dev, found.st_ino


def _table_size() -> int:
    """No open descriptor's number is as large; 0 where the kernel does not tell, or no descriptor is left to ask with.

    Never more than the kernel has made room for: the limit may be a milliard, and not every libc closes ranges at once.
    """
    try:
        # Without a file object: each child does this first of all, and what that runs takes memory of its own.
        status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        words = os.read(status, _STATUS_BYTES).partition(b"\nFDSize:")[2].split(maxsplit=1)
    finally:
        os.close(status)
    return int(words[0]) if words else 0


def _open_descriptors() -> Iterable[int]:
    # Listed rather than counted up: the limit may be a milliard.
    try:
        return [int(name) for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")]
    except OSError:
        # So many are open that the listing itself finds no number: then all of them are below the limit.
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
