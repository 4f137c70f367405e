"""What slots have counted: each child of a page counts from where the last one ended, and no reader sees less again."""

import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.forked import RETURNED, Forked
from wsgicluster.errors import ServerError
from wsgicluster.ipc import scoreboard
from wsgicluster.ipc.reasons import BadRequest, CloseReason, HandOffResult, ShedReason
from wsgicluster.ipc.scoreboard import Cell, Page, Scoreboard, WorkerState
from wsgicluster.ipc.slot_totals import SlotCounters, read_slots, together

DEADLINE_S = 120.0
"""For a hundred forks and their ends, however busy the machine is."""


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    made = Scoreboard(None)
    yield made
    made.close()


def serve(page: Page, requests: int) -> None:
    for _ in range(requests):
        page.cells[Cell.RESPONSES + 2] += 1
        page.cells[Cell.BYTES_OUT] += 10


def test_a_slot_keeps_what_its_children_have_counted(board: Scoreboard) -> None:
    first = board.take(1, 1)
    serve(first, 3)
    first.cells[Cell.STATE] = WorkerState.READY
    first.cells[Cell.REQUESTS] = 3
    board.free(first)
    assert read_slots(board)[1].requests == 3
    second = board.take(1, 2)
    assert second.index == first.index
    assert (second.facts().state, second.facts().requests, second.facts().bytes_out) == (WorkerState.BOOTING, 0, 0)
    serve(second, 4)
    assert second.facts().bytes_out == 40, "of this child alone"
    assert (read_slots(board)[1].requests, read_slots(board)[1].of(Cell.BYTES_OUT)) == (7, 70)


def test_two_living_workers_of_a_slot_are_summed_up(board: Scoreboard) -> None:
    old, new = board.take(1, 1), board.take(1, 2)
    assert old.index != new.index
    serve(old, 3)
    serve(new, 4)
    assert read_slots(board)[1].requests == 7
    board.free(old)
    serve(new, 1)
    assert read_slots(board)[1].requests == 8


def test_a_page_never_serves_another_slot_while_there_are_others(board: Scoreboard) -> None:
    gone = board.take(7, 1)
    serve(gone, 5)
    board.free(gone)
    other = board.take(1, 1)
    serve(other, 1)
    assert other.index != gone.index
    assert {slot: found.requests for slot, found in read_slots(board).items()} == {1: 1, 7: 5}
    assert together(read_slots(board)).requests == 6


def test_without_another_page_that_of_another_slot_is_used_and_nothing_is_lost(
    board: Scoreboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoreboard, "PAGES", 3)
    support, worker = board.take(0, 1), board.take(2, 1)
    with pytest.raises(ServerError, match="more than 2 children"):
        board.take(1, 1)
    serve(worker, 2)
    board.free(support)
    board.free(worker)
    taken = board.take(1, 1)
    assert (taken.index, taken.cells[Cell.SLOT]) == (worker.index, 1)
    serve(taken, 3)
    assert together(read_slots(board)).requests == 5
    board.free(taken)
    assert board.take(2, 2).index == worker.index, "it goes back to whom it belongs to"


def test_what_the_arbiter_writes_never_falls_and_survives_any_base(board: Scoreboard) -> None:
    page = board.take(1, 1)
    for given, expected in ((5, 5), (3, 5), (9, 9)):
        page.raise_to(Cell.CPU_USER_NS, given)
        assert page.cells[Cell.CPU_USER_NS] == expected
    board.free(page)
    again = board.take(1, 2)
    again.raise_to(Cell.CPU_USER_NS, 2)
    assert again.cells[Cell.CPU_USER_NS] == 11
    again.raw[:] = b"\xff" * len(again.raw)  # a worker that writes anywhere
    again.raise_to(Cell.CPU_USER_NS, 3)
    board.free(again)
    assert board.take(1, 3).index == again.index


def test_all_that_is_counted_is_shown(board: Scoreboard) -> None:
    page = board.take(1, 1)
    for cell in Cell:
        if cell >= scoreboard.FIRST_COUNTER:
            page.cells[cell] = 1_000_000_000 if cell.name.endswith("_NS") else 1
    found = read_slots(board)[1].as_json()
    assert found["responses"] == {"none": 1, "1xx": 0, "2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0}
    assert found["failures"] == {"exception": 1, "bad_iterable": 1, "client_left": 1, "cut": 1}
    assert [found[name] for name in ("requests", "bytes_in", "bytes_out", "evicted", "probes", "accepted")] == [1] * 6
    assert (found["shed"], found["sheds"]["queue_timeout"]) == (1, 1)
    assert (found["bad_requests"]["malformed"], found["closed"]["client"], found["hand_offs"]["taken"]) == (1, 1, 1)
    for name in ("duration", "application", "queue"):
        assert (found[name]["seconds"], sum(found[name]["buckets"])) == (1.0, 1)
    assert found["cpu_seconds"] == {"user": 1.0, "system": 1.0}


def test_cells_of_words_do_not_overlap(board: Scoreboard) -> None:
    page = board.take(1, 1)
    blocks = {
        Cell.CLOSED: CloseReason, Cell.BAD_REQUESTS: BadRequest, Cell.SHED: ShedReason, Cell.HAND_OFFS: HandOffResult,
    }  # fmt: skip
    cells = [cell + word for cell, words in blocks.items() for word in words]
    assert len(set(cells)) == len(cells)
    assert max(cells) < scoreboard.FIRST_COUNTER + scoreboard.COUNTERS
    for value, cell in enumerate(cells, 1):
        page.cells[cell] = value
    found = read_slots(board)[1].as_json()
    shown = [*found["closed"].values(), *found["bad_requests"].values(), *found["sheds"].values()]
    assert [*shown, *list(found["hand_offs"].values())[1:]] == list(range(1, len(cells) + 1))
    assert found["hand_offs"]["given"] == found["closed"]["handed_over"]


def test_counters_do_not_overlap() -> None:
    sizes = dict.fromkeys((cell for cell in Cell if cell >= scoreboard.FIRST_COUNTER), 1)
    sizes[Cell.RESPONSES] = scoreboard.STATUS_CLASSES
    for histogram in (Cell.HISTOGRAM, Cell.APPLICATION_HISTOGRAM, Cell.QUEUE_HISTOGRAM):
        sizes[histogram] = scoreboard.BUCKETS
    used = [cell + offset for cell, size in sizes.items() for offset in range(size)]
    assert len(used) == len(set(used))
    assert max(used) < scoreboard.FIRST_COUNTER + scoreboard.COUNTERS
    behind_texts = scoreboard.LINE_OFFSET + scoreboard.LINE_BYTES
    assert behind_texts <= scoreboard.FIRST_COUNTER * 8, "behind the texts of a page"


def test_a_reader_without_pause_sees_no_value_fall_while_workers_come_and_go(board: Scoreboard) -> None:
    """One process after the other counts and ends, another one takes and frees their pages, and this one only reads."""
    lives, requests = 30, 100
    told = board.server.cells

    def live() -> None:
        try:
            pages = [board.take(slot, 1) for slot in (1, 2)]
            for life in range(lives):
                # Replace first, as a reload does: for a moment there are two of the slot.
                new = board.take(life % 2 + 1, life)
                with Forked(partial(serve, new, requests)) as worker:
                    assert worker.code() == RETURNED
                board.free(pages[life % 2])
                pages[life % 2] = new
        finally:
            told[Cell.WANTED] = 1

    last = SlotCounters()
    with Forked(live) as arbiter:
        deadline = time.monotonic() + DEADLINE_S
        while not told[Cell.WANTED]:
            assert time.monotonic() < deadline
            found = together(read_slots(board))
            assert last.requests <= found.requests <= lives * requests
            assert found.of(Cell.BYTES_OUT) >= last.of(Cell.BYTES_OUT)
            last = found
        assert arbiter.code() == RETURNED
    found = together(read_slots(board))
    assert (found.requests, found.of(Cell.BYTES_OUT)) == (lives * requests, lives * requests * 10)
