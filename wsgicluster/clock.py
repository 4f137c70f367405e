"""Time as a value that is passed in, so that tests can turn the hands themselves."""

import time
from typing import Protocol


class Clock(Protocol):
    """What code that waits needs to know of time."""

    def monotonic(self) -> float:
        """Seconds that only ever grow; for deadlines and durations."""

    def time(self) -> float:
        """Seconds since the epoch; for dates shown to people and clients."""


class SystemClock:
    """The machine's own clock."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)
