"""Which of several requests the worker's page shows."""

import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wsgicluster.ipc.scoreboard import CLIENT_BYTES, LINE_BYTES, Page, Scoreboard
from wsgicluster.worker.request.cycle import Cycle
from wsgicluster.worker.request.in_flight import (
    STACK_FRAMES,
    PythonRequestsInFlight,
    RequestRunner,
    RequestsInFlight,
    stack_text,
)

TWINS: list[Any] = [*dict.fromkeys((RequestsInFlight, PythonRequestsInFlight))]
"""Both twins, where one is compiled."""
Twin = Callable[[Page], Any]


@pytest.fixture
def page() -> Iterator[Page]:
    board = Scoreboard(None)
    yield board.take(slot=1, generation=1)
    board.close()


def runner(page: Page, running: RequestsInFlight) -> RequestRunner:
    return RequestRunner(Cycle(lambda _environ, _start: [], page, 30.0, logging.getLogger("test"), None), running)


@pytest.mark.parametrize("twin", TWINS)
def test_the_oldest_request_is_shown(page: Page, twin: Twin) -> None:
    running = twin(page)
    first, second, third = (runner(page, running) for _ in range(3))
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
    each = runner(page, RequestsInFlight(page))
    each.show(1.0, b"client", b"GET / HTTP/1.1")
    assert page.facts().deadline == 0.0


@pytest.mark.parametrize("twin", TWINS)
def test_what_is_too_long_for_the_page_is_cut_and_what_is_short_leaves_nothing(page: Page, twin: Twin) -> None:
    running = twin(page)
    for client, line in ((b"c" * 1000, b"l" * 1000), (b"client", b"GET / HTTP/1.1")):
        each = runner(page, running)
        each.show(each.started, client, line)
        facts = page.facts()
        assert facts.client == client[:CLIENT_BYTES].decode()
        assert facts.request_line == line[:LINE_BYTES].decode()
        each.hide()


@pytest.mark.parametrize("twin", TWINS)
def test_who_runs_is_known(page: Page, twin: Twin) -> None:
    running = twin(page)
    first, second = runner(page, running), runner(page, running)
    assert (len(running), first in running, running.oldest_at()) == (0, False, 0.0)
    first.show(first.started, b"", b"")
    assert first in running
    assert second not in running
    second.show(second.started, b"", b"")
    assert [*running] == [*running.seats] == [first, second]
    first.hide()
    with pytest.raises(KeyError):
        running.end(first)
    assert [*running] == [second]


@pytest.mark.parametrize("twin", TWINS)
def test_a_seat_is_used_again(page: Page, twin: Twin) -> None:
    running = twin(page)
    each = runner(page, running)
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
