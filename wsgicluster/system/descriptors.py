"""Which descriptors a process has open, and how those that are not its own are closed."""

import contextlib
import os
import resource
from collections.abc import Collection, Iterable


def close_descriptors_except(keep: Collection[int]) -> None:
    """Close every descriptor above 2 but those in ``keep``."""
    for number in _open_descriptors():
        if number > 2 and number not in keep:
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
                os.close(number)


def count_descriptors() -> int:
    """How many descriptors are open; when that cannot be counted, since too many are, as many as may be."""
    return sum(1 for _ in _open_descriptors())


def open_descriptors() -> set[int]:
    """Those above 2 that are open now."""
    return {number for number in _open_descriptors() if number > 2 and _is_open(number)}


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:  # it was the listing's own
        return False
    return True


def _open_descriptors() -> Iterable[int]:
    # Listed rather than counted up: the limit may be a milliard, and not every libc closes ranges at once.
    try:
        return [int(name) for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")]
    except OSError:
        # So many are open that the listing itself finds no number: then all of them are below the limit.
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
