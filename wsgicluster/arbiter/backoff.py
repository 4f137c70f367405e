"""How long a slot waits before it gets its next worker, after workers that died quickly."""

import dataclasses

QUICK_DEATH_S = 1.0
"""A worker that was ready for less than this, or never, died quickly."""

WAITS_S = (0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Wait after that many quick deaths in a row; after more, the last one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """A slot's pause after the last of ``deaths`` quick deaths in a row."""

    slot: int
    deaths: int
    wait_s: float
    until: float


class Backoff:
    """The waits of all slots; times in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._waits: dict[int, Wait] = {}

    def died(self, slot: int, ready_s: float, now: float) -> Wait:
        """A worker of ``slot`` ended unasked after it was ready for ``ready_s`` (0.0: never)."""
        before = self._waits[slot].deaths if slot in self._waits else 0
        deaths = before + 1 if ready_s < QUICK_DEATH_S else 0
        wait_s = WAITS_S[min(deaths, len(WAITS_S) - 1)]
        self._waits[slot] = Wait(slot, deaths, wait_s, now + wait_s)
        return self._waits[slot]

    def refused(self, slot: int, now: float) -> Wait:
        """The system had no room for a worker of ``slot``: trying again at once would be of no use."""
        wait = self.died(slot, 0.0, now)
        return wait if wait.wait_s else self.died(slot, 0.0, now)

    def due(self, slot: int, now: float) -> bool:
        """May the slot have its next worker?"""
        return slot not in self._waits or now >= self._waits[slot].until

    def next_due(self, since: float) -> float | None:
        """When the first of the waits ends that had not ended then."""
        return min((wait.until for wait in self._waits.values() if wait.until > since), default=None)

    def forget(self) -> None:
        """A fresh start for all slots: new code may be better."""
        self._waits.clear()
