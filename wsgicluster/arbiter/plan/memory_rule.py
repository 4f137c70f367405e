"""Whether a worker that is above ``max_memory`` is to be replaced: not where its replacement would be, too.

Pure. A limit below what the application needs would have workers replaced forever, none of which is smaller.
"""

from wsgicluster.dataclass import dataclass

GROWTH = 2
"""Workers of an application that needs more than the limit are replaced beyond this multiple of what it needs: then it
is a leak after all."""

PACE_S = 1.0
"""A worker serves at least this long before it is replaced for its memory, however fast it grows."""


@dataclass(frozen=True, slots=True)
class Size:
    """A worker that asks to be replaced: its resident memory when it was ready and now, and its requests until now.

    ``early`` says that it has been too large since its first requests: it has grown by what the application needs once,
    what it loads or keeps when it is first used.
    """

    slot: int
    at_ready_bytes: int
    resident_bytes: int
    requests: int
    early: bool


class MemoryRule:
    """The rule for the workers of one generation, whose limit is ``limit_bytes`` (0: none)."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._early: set[int] = set()
        self.raised_bytes = 0
        """What is in force instead of the limit, once it is known to be too low; else 0."""

    def replaces(self, size: Size) -> bool:
        """Is there any use in replacing this worker? Else ``raised_bytes`` is the limit from now on."""
        if not self._limit_bytes or not size.resident_bytes:
            return True  # not known, or asked for without a limit
        if self.raised_bytes:
            return size.resident_bytes > self.raised_bytes
        if size.at_ready_bytes > self._limit_bytes or self._is_early_again(size):
            self.raised_bytes = GROWTH * size.resident_bytes
            return False
        return True

    def _is_early_again(self, size: Size) -> bool:
        before = size.slot in self._early
        if size.early:
            self._early.add(size.slot)
        else:
            self._early.discard(size.slot)
        return before and size.early
