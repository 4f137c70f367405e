"""When the arbiter checks the workers' beat deadlines, and which of them have passed.

Pure. A worker that only waits has no deadline (0.0), so that no process wakes for it.
"""

import math
from collections.abc import Mapping

LOOKS_PER_TIMEOUT = 4
OVERSLEPT_S = 1.0
"""An arbiter that wakes this much too late was itself kept from running, and so, likely, were the workers."""


class HangDetector:
    """The next look at the scoreboard; times in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.next_look = math.inf
        self._forgiven: dict[int, tuple[float, float]] = {}

    def expect(self, deadline: float) -> None:
        """A new child has this deadline: look then at the latest."""
        self.next_look = min(self.next_look, deadline)

    def missed(self, deadlines: Mapping[int, float], timeout_s: float, now: float) -> list[int]:
        """The keys whose deadline has passed; empty before `next_look`.

        ``timeout_s`` is the shortest one in force, 0.0 when there is no limit.
        """
        if timeout_s <= 0:
            self.next_look = math.inf
            return []
        if now < self.next_look:
            return []
        if now - self.next_look > OVERSLEPT_S:
            self._forgive(deadlines, timeout_s, now)
        due = {key: self._due(key, deadline) for key, deadline in deadlines.items() if deadline > 0.0}
        ahead = [moment for moment in due.values() if moment > now]
        self.next_look = min([now + timeout_s / LOOKS_PER_TIMEOUT, *ahead])
        return [key for key, moment in due.items() if moment <= now]

    def _forgive(self, deadlines: Mapping[int, float], timeout_s: float, now: float) -> None:
        """After the machine stood still, workers get what was left of their time.

        Whether they stood still, too, is not known here. If they did not, they get more time than they should,
        though at most twice as much.
        """
        slept_s = now - self.next_look
        self._forgiven = {
            key: (deadline, max(deadline, now + OVERSLEPT_S / 2, min(deadline + slept_s, now + timeout_s)))
            for key, deadline in deadlines.items()
        }

    def _due(self, key: int, deadline: float) -> float:
        forgiven, moved = self._forgiven.get(key, (0.0, 0.0))
        # One that has beaten since runs.
        return moved if forgiven == deadline else deadline
