"""What requests that are over leave on the worker's page."""

from collections.abc import Iterator
from typing import Any

import pytest

from wsgicluster.ipc.scoreboard import HISTOGRAM_BOUNDS_S, Cell, Page, Scoreboard
from wsgicluster.worker.request.page_counters import PageCounters, PythonPageCounters

TWINS: list[Any] = [*dict.fromkeys((PageCounters, PythonPageCounters))]
"""Both twins, where one is compiled."""


@pytest.fixture
def page() -> Iterator[Page]:
    board = Scoreboard(None)
    yield board.take(slot=1, generation=1)
    board.close()


@pytest.mark.parametrize("twin", TWINS)
def test_requests_and_bytes_add_up(page: Page, twin: type[PageCounters]) -> None:
    counters = twin(page)
    for sent_bytes in (0, 13, 1 << 40):
        counters.count(sent_bytes, 0.0)
    assert (page.cells[Cell.REQUESTS], page.cells[Cell.BYTES_OUT]) == (3, (1 << 40) + 13)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("bucket", range(len(HISTOGRAM_BOUNDS_S)))
def test_a_bound_belongs_to_the_bucket_below_it(page: Page, twin: type[PageCounters], bucket: int) -> None:
    counters = twin(page)
    counters.count(0, HISTOGRAM_BOUNDS_S[bucket])
    counters.count(0, HISTOGRAM_BOUNDS_S[bucket] * 1.0001)
    cells = page.cells[Cell.HISTOGRAM : Cell.HISTOGRAM + len(HISTOGRAM_BOUNDS_S) + 1].tolist()
    assert [index for index, count in enumerate(cells) if count] == [bucket, bucket + 1]
    assert sum(cells) == 2
