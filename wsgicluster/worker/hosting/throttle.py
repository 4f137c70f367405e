"""How often a log says the same: the first few of each kind in a while, and then how many more there were.

Pure: the time is a parameter, and nothing is logged here.
"""

import math


class Throttle:
    """At most ``most`` of a kind in ``period_s``, counted from the first; kinds must be few."""

    def __init__(self, most: int, period_s: float) -> None:
        self._most = most
        self._period_s = period_s
        self._kinds: dict[str, tuple[float, int]] = {}

    def admits(self, kind: str, now: float) -> bool:
        """Count one more; whether it is to be said."""
        since, count = self._kinds.get(kind, (now, 0))
        if now >= since + self._period_s and count <= self._most:
            since, count = now, 0
        self._kinds[kind] = since, count + 1
        return count < self._most

    def ends_at(self) -> float:
        """When there will be something to sum up; infinite if there is nothing."""
        return min(
            (since + self._period_s for since, count in self._kinds.values() if count > self._most), default=math.inf
        )

    def sums(self, now: float) -> list[tuple[str, int]]:
        """Of each kind whose period is over by now: how many have not been said, if any."""
        over = [kind for kind, (since, _) in self._kinds.items() if now >= since + self._period_s]
        counts = [(kind, self._kinds.pop(kind)[1] - self._most) for kind in over]
        return [(kind, count) for kind, count in counts if count > 0]
