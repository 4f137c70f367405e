"""How many faults of its own code the arbiter survives before it exits.

Pure. One now and then must not end a server that serves.
"""

MOST_FAULTS = 10
FORGOTTEN_S = 60.0
"""After so long without a fault, earlier ones do not count any more."""


class FaultBudget:
    """Faults in succession; times in seconds of the monotonic clock."""

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
