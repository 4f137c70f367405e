"""What requests that are over leave on the worker's page."""

from collections.abc import Iterator
from typing import Any

import pytest

from wsgicluster.ipc.scoreboard import BUCKETS, HISTOGRAM_BOUNDS_S, STATUS_CLASSES, Cell, Page, Scoreboard
from wsgicluster.worker.request.page_counters import PageCounters, PythonPageCounters, class_of

TWINS: list[Any] = [*dict.fromkeys((PageCounters, PythonPageCounters))]
"""Both twins, where one is compiled."""


@pytest.fixture
def page() -> Iterator[Page]:
    board = Scoreboard(None)
    yield board.take(slot=1, generation=1)
    board.close()


@pytest.mark.parametrize("twin", TWINS)
def test_requests_bytes_and_times_add_up(page: Page, twin: type[PageCounters]) -> None:
    counters = twin(page)
    for sent_bytes in (0, 13, 1 << 40):
        counters.count(2, sent_bytes, 1.5, 0.25, 0.125)
    cells = page.cells
    assert (cells[Cell.REQUESTS], cells[Cell.BYTES_OUT]) == (3, (1 << 40) + 13)
    times = [cells[cell] for cell in (Cell.DURATION_NS, Cell.APPLICATION_NS, Cell.QUEUE_NS)]
    assert times == [4_500_000_000, 750_000_000, 375_000_000]


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("status_class", range(STATUS_CLASSES))
def test_each_class_of_statuses_has_its_cell(page: Page, twin: type[PageCounters], status_class: int) -> None:
    twin(page).count(status_class, 0, 0.0, 0.0, 0.0)
    cells = page.cells[Cell.RESPONSES : Cell.RESPONSES + STATUS_CLASSES].tolist()
    assert [index for index, count in enumerate(cells) if count] == [status_class]


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("bucket", range(len(HISTOGRAM_BOUNDS_S)))
@pytest.mark.parametrize("histogram", [Cell.HISTOGRAM, Cell.APPLICATION_HISTOGRAM, Cell.QUEUE_HISTOGRAM])
def test_a_bound_belongs_to_the_bucket_below_it(
    page: Page, twin: type[PageCounters], bucket: int, histogram: Cell
) -> None:
    counters = twin(page)
    for duration_s in (HISTOGRAM_BOUNDS_S[bucket], HISTOGRAM_BOUNDS_S[bucket] * 1.0001):
        request, application, queue = (
            duration_s * (each is histogram)
            for each in (Cell.HISTOGRAM, Cell.APPLICATION_HISTOGRAM, Cell.QUEUE_HISTOGRAM)
        )
        counters.count(2, 0, request, application, queue)
    cells = page.cells[histogram : histogram + BUCKETS].tolist()
    assert [index for index, count in enumerate(cells) if count] == [bucket, bucket + 1]
    assert sum(cells) == 2


@pytest.mark.parametrize(
    ("status", "expected"),
    [("", 0), ("101 Switching Protocols", 1), ("200 OK", 2), ("404", 4), ("599 x", 5), ("600 x", 5), ("999 x", 5)],
)
def test_a_status_belongs_to_a_class(status: str, expected: int) -> None:
    assert class_of(status) == expected
