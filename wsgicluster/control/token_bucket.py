"""A token bucket: how often something may be done, with a clock of the caller's. Pure."""

_ONE = 1.0 - 1e-6
"""A whole token, sums of fractions considered."""


class TokenBucket:
    """A token bucket: so many for each second, as many at once at most; times in seconds of any clock."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = rate
        self._at = now

    def take(self, now: float) -> bool:
        """Take one; False when there is none."""
        self._tokens = min(self._rate, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < _ONE:
            return False
        self._tokens -= 1.0
        return True

    def give_back(self) -> None:
        """One was taken for nothing."""
        self._tokens += 1.0

    def due(self) -> float:
        """When there is one again."""
        return self._at if self._tokens >= _ONE else self._at + (1.0 - self._tokens) / self._rate
