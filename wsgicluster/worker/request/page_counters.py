"""What a worker's page says of the requests that are over: how many, how much they sent, how long they took."""

from bisect import bisect_left
from collections.abc import Mapping

from wsgicluster.http import core
from wsgicluster.ipc.scoreboard import HISTOGRAM_BOUNDS_S, STATUS_CLASSES, Cell, Page

# Members of an Enum cost a look-up each time; these are plain integers.
_REQUESTS, _BYTES_OUT, _RESPONSES = int(Cell.REQUESTS), int(Cell.BYTES_OUT), int(Cell.RESPONSES)
_DURATION, _HISTOGRAM = int(Cell.DURATION_NS), int(Cell.HISTOGRAM)
_APPLICATION, _APPLICATION_HISTOGRAM = int(Cell.APPLICATION_NS), int(Cell.APPLICATION_HISTOGRAM)
_QUEUE, _QUEUE_HISTOGRAM = int(Cell.QUEUE_NS), int(Cell.QUEUE_HISTOGRAM)
_FIRST_BOUND_S = HISTOGRAM_BOUNDS_S[0]
# RFC 9110, section 15: beyond 599 a status means what 500 does.
_CLASSES: Mapping[str, int] = {str(digit): min(digit, STATUS_CLASSES - 1) for digit in range(1, 10)}


def class_of(status: str) -> int:
    """The index of a status among the cells of `Cell.RESPONSES`; 0 where there is none."""
    return _CLASSES.get(status[:1], 0)


class PythonPageCounters:
    """The counters on one page, for one thread at a time."""

    def __init__(self, page: Page) -> None:
        self._cells = page.cells

    def count(
        self, status_class: int, sent_bytes: int, duration_s: float, application_s: float, queue_s: float
    ) -> None:
        """Add a request to what stands on the page; ``status_class`` is its status' first digit, 0 without a response.

        The times, in seconds, are those of `Cell.DURATION_NS`, `Cell.APPLICATION_NS` and `Cell.QUEUE_NS`, 0.0 or more.
        """
        cells = self._cells
        cells[_REQUESTS] += 1
        cells[_RESPONSES + status_class] += 1
        cells[_BYTES_OUT] += sent_bytes
        cells[_DURATION] += int(duration_s * 1e9)
        cells[_HISTOGRAM + _bucket(duration_s)] += 1
        cells[_APPLICATION] += int(application_s * 1e9)
        cells[_APPLICATION_HISTOGRAM + _bucket(application_s)] += 1
        cells[_QUEUE] += int(queue_s * 1e9)
        cells[_QUEUE_HISTOGRAM + _bucket(queue_s)] += 1


def _bucket(duration_s: float) -> int:
    return bisect_left(HISTOGRAM_BOUNDS_S, duration_s) if duration_s > _FIRST_BOUND_S else 0


if core.compiled:
    from wsgicluster.worker.request._leaves import PageCounters
else:
    PageCounters = PythonPageCounters  # type: ignore[assignment,misc]

__all__ = ["PageCounters", "PythonPageCounters", "class_of"]
