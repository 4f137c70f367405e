"""Time as a value that is passed in, so that tests can use a clock of their own."""

import time
from typing import Protocol


class Clock(Protocol):
    """The two clocks that code which waits or logs needs."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back; for deadlines and durations."""

    def time(self) -> float:
        """Seconds since the epoch; for dates in logs and responses."""


class SystemClock:
    """The machine's own clock."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)
