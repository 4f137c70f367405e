"""How many faults of its own the arbiter takes before it gives up.

Pure. One that comes now and then is no reason to end a server that serves.
"""

MOST_FAULTS = 10
FORGOTTEN_S = 60.0
"""After so long without a fault those before are forgotten."""


class Faults:
    """Faults in a row; times in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.count = 0
        self._last_at = 0.0

    def another(self, now: float) -> bool:
        """Count one more; True when it was one too many."""
        if now - self._last_at > FORGOTTEN_S:
            self.count = 0
        self._last_at = now
        self.count += 1
        return self.count >= MOST_FAULTS
