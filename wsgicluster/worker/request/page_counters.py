"""What a worker's page says of the requests that are over: how many, how much they sent, how long they took."""

from bisect import bisect_left

from wsgicluster.http import core
from wsgicluster.ipc.scoreboard import HISTOGRAM_BOUNDS_S, Cell, Page

# Members of an Enum cost a look-up each time; these are plain integers.
_REQUESTS, _BYTES_OUT, _HISTOGRAM = int(Cell.REQUESTS), int(Cell.BYTES_OUT), int(Cell.HISTOGRAM)
_FIRST_BOUND_S = HISTOGRAM_BOUNDS_S[0]


class PythonPageCounters:
    """The counters on one page, for one thread at a time."""

    def __init__(self, page: Page) -> None:
        self._cells = page.cells

    def count(self, sent_bytes: int, duration_s: float) -> None:
        """Add a request to what stands on the page."""
        cells = self._cells
        cells[_REQUESTS] += 1
        cells[_BYTES_OUT] += sent_bytes
        bucket = bisect_left(HISTOGRAM_BOUNDS_S, duration_s) if duration_s > _FIRST_BOUND_S else 0
        cells[_HISTOGRAM + bucket] += 1


if core.compiled:
    from wsgicluster.worker.request._leaves import PageCounters
else:
    PageCounters = PythonPageCounters  # type: ignore[assignment,misc]

__all__ = ["PageCounters", "PythonPageCounters"]
