"""When the arbiter looks at the workers' beat deadlines, and which of them have passed.

Pure. A worker that only waits has no deadline (0.0), so nobody wakes for it.
"""

import math
from collections.abc import Mapping

LOOKS_PER_TIMEOUT = 4
OVERSLEPT_S = 1.0
"""An arbiter that wakes this much too late was itself kept from running, and so, likely, were the workers."""


class Beats:
    """The next look at the scoreboard; times in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.next_look = math.inf

    def expect(self, deadline: float) -> None:
        """A new child has this deadline: look then at the latest."""
        self.next_look = min(self.next_look, deadline)

    def missed(self, deadlines: Mapping[int, float], timeout_s: float, now: float) -> list[int]:
        """The keys whose deadline has passed; empty before `next_look`.

        ``timeout_s`` is the shortest one in force, 0.0 when workers have all the time in the world.
        """
        if timeout_s <= 0:
            self.next_look = math.inf
            return []
        if now < self.next_look:
            return []
        if now - self.next_look > OVERSLEPT_S:
            # Nobody is blamed for a machine that stood still: they get a moment to show that they run again.
            self.next_look = now + OVERSLEPT_S / 2
            return []
        ahead = [deadline for deadline in deadlines.values() if deadline > now]
        self.next_look = min([now + timeout_s / LOOKS_PER_TIMEOUT, *ahead])
        return [key for key, deadline in deadlines.items() if 0.0 < deadline <= now]
