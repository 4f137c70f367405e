"""How long a slot waits before it gets its next worker, after workers that ended unasked.

Pure. Boots that fail back off; a worker that dies soon after its boot, without having had a request, is one of them.
One that dies in service is replaced at once, within a budget for the whole server; and beyond the budget after no more
than `ALONE_S` while no worker serves or boots.
"""

import bisect
import math

from wsgicluster.dataclass import dataclass

QUICK_DEATH_S = 1.0
"""A worker that was ready for less than this, or never, died quickly."""

WAITS_S = (0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Wait after that many quick deaths in a row; after more, the last one."""

BUDGET = 10
BUDGET_S = 1.0
"""So many workers that died quickly, but in service, are replaced in any such time: a boot costs processor time, which
the other workers need for the requests that end no process."""

ALONE_S = 0.1
"""The longest wait of a slot whose last worker died in service, while there is no other worker."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A slot's pause after the last of ``deaths`` quick deaths in a row.

    ``alone_until`` is its end while no worker serves or boots, if no other slot has used that lately.
    """

    slot: int
    deaths: int
    wait_s: float
    until: float
    alone_until: float


class Backoff:
    """The waits of all slots; times in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._waits: dict[int, Wait] = {}
        self._replaced: list[float] = []
        """When the last replacements for workers that died in service were made or will be due, in order."""
        self._shortened_at = -math.inf
        """When a slot has last got its worker before its wait was over."""

    def died(self, slot: int, ready_s: float, now: float, *, in_service: bool = False) -> Wait:
        """A worker of ``slot`` ended unasked after it was ready for ``ready_s`` (0.0: never).

        ``in_service`` says that its boot is not to blame.
        """
        deaths, until = 0, now
        if ready_s >= QUICK_DEATH_S:
            alone_until = now
        elif in_service:
            until = self._spend(now)
            alone_until = min(until, now + ALONE_S)
        else:
            deaths = 1 + (self._waits[slot].deaths if slot in self._waits else 0)
            alone_until = until = now + WAITS_S[min(deaths, len(WAITS_S) - 1)]
        self._waits[slot] = Wait(slot, deaths, until - now, until, alone_until)
        return self._waits[slot]

    def _spend(self, now: float) -> float:
        """When the budget allows one more replacement, which is thereby planned."""
        replaced = self._replaced
        del replaced[: bisect.bisect(replaced, now - BUDGET_S)]
        moment = max(now, replaced[-BUDGET] + BUDGET_S) if len(replaced) >= BUDGET else now
        replaced.append(moment)
        return moment

    def made(self, slot: int, now: float) -> None:
        """The slot gets a worker; maybe sooner than planned, since there was no other one."""
        wait = self._waits.get(slot)
        if wait is None or wait.until <= now:
            return
        self._shortened_at = now
        if wait.until in self._replaced:
            self._replaced.remove(wait.until)
            bisect.insort(self._replaced, now)

    def refused(self, slot: int, now: float) -> Wait:
        """The system had no room for a worker of ``slot``: trying again at once would be of no use."""
        wait = self.died(slot, 0.0, now)
        return wait if wait.wait_s else self.died(slot, 0.0, now)

    def end(self, wait: Wait, alone: bool) -> float:
        """When a wait is over; ``alone`` says that no other worker serves or boots."""
        if not alone:
            return wait.until
        return min(wait.until, max(wait.alone_until, self._shortened_at + ALONE_S))

    def due(self, slot: int, now: float, alone: bool = False) -> bool:
        """May the slot have its next worker? See `end`."""
        return slot not in self._waits or now >= self.end(self._waits[slot], alone)

    def next_due(self, since: float, alone: bool = False) -> float | None:
        """When the first of the waits ends that had not ended then."""
        return min((end for wait in self._waits.values() if (end := self.end(wait, alone)) > since), default=None)

    def forget(self) -> None:
        """A fresh start for all slots: new code may be better."""
        self._waits.clear()
