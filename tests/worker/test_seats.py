"""Which of several requests the worker's page shows."""

import logging
import sys
from collections.abc import Iterator

import pytest

from wsgicluster.scoreboard import Page, Scoreboard
from wsgicluster.worker.cycle import Cycle
from wsgicluster.worker.seats import STACK_FRAMES, Running, Seat, stack_text


@pytest.fixture
def page() -> Iterator[Page]:
    board = Scoreboard(None)
    yield board.take(slot=1, generation=1)
    board.close()


def seat(page: Page, running: Running) -> Seat:
    return Seat(Cycle(lambda _environ, _start: [], page, 30.0, logging.getLogger("test"), None), running)


def test_the_oldest_request_is_shown(page: Page) -> None:
    running = Running(page)
    first, second, third = (seat(page, running) for _ in range(3))
    for number, each in enumerate((first, second, third), 1):
        each.started = float(number)
        each.show(each.started, b"client %d" % number, b"GET /%d HTTP/1.1" % number)
    assert (page.facts().started, page.facts().request_line) == (1.0, "GET /1 HTTP/1.1")
    second.hide()
    assert page.facts().client == "client 1"
    first.hide()
    assert (page.facts().started, page.facts().client) == (3.0, "client 3")
    third.hide()
    assert page.facts().started == 0.0
    assert list(running) == []


def test_a_seat_never_beats(page: Page) -> None:
    each = seat(page, Running(page))
    each.show(1.0, b"client", b"GET / HTTP/1.1")
    assert page.facts().deadline == 0.0


def test_a_seat_is_used_again(page: Page) -> None:
    running = Running(page)
    each = seat(page, running)
    for started in (1.0, 2.0):
        each.started = started
        each.show(started, b"client", b"GET / HTTP/1.1")
        assert not each.reported
        assert running.oldest_at() == started
        each.reported = True
        each.hide()
    assert len(running) == 0


def test_of_a_deep_stack_the_innermost_calls_are_shown() -> None:
    def deep(left: int) -> str:
        return deep(left - 1) if left else innermost()

    def innermost() -> str:
        return stack_text(sys._getframe())

    text = deep(2 * STACK_FRAMES)
    assert text.splitlines()[-2].endswith("in innermost")
    assert len(text) < 100 * STACK_FRAMES
    assert stack_text(None) == "(over by now)"
