"""What the arbiter sends to StatsD: how many workers are ready, and how many connections wait to be accepted.

Decides when; ``report`` sends, and does nothing where there is no StatsD.
"""

import math
from collections.abc import Callable

BACKLOG_PERIOD_S = 1.0


class ServerMetrics:
    """The gauges of one server. ``report`` gets a text for the log, and name, value and kind of a metric."""

    def __init__(self, report: Callable[[str, str, int, str], object], backlog: Callable[[], int]) -> None:
        self._report = report
        self._backlog = backlog
        self._workers = -1
        self._backlog_at = math.inf

    def update(self, workers: int, wants_backlog: bool, now: float) -> None:
        """Send what has changed, or is due; ``now`` is monotonic."""
        if workers != self._workers:
            self._workers = workers
            self._report(f"{workers} workers", "gunicorn.workers", workers, "gauge")
        if not wants_backlog:
            self._backlog_at = math.inf
        elif self._backlog_at == math.inf or now >= self._backlog_at:
            self._backlog_at = now + BACKLOG_PERIOD_S
            waiting = self._backlog()
            self._report(f"socket backlog: {waiting}", "gunicorn.backlog", waiting, "histogram")

    def next_due(self) -> float:
        """When something is due although nothing happens; ``math.inf`` for never."""
        return self._backlog_at
