"""Requests that are logged while they run: when, once each, and with whose stack."""

import logging
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.conftest import wait_until
from wsgicluster.ipc.scoreboard import CLIENT_OFFSET, STORE_REQUEST, Cell, Page, Scoreboard
from wsgicluster.worker.kinds.slow_requests import LEAST_LOOK_S, SlowRequests, SlowRequestThread, look_s


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def log_of(lines: Lines) -> logging.Logger:
    log = logging.getLogger("test_slow_requests")
    log.handlers, log.propagate = [lines], False
    return log


class Running:
    """What is read of a request that runs."""

    line, client = b"GET /a HTTP/1.1", b"192.0.2.1:5"

    def __init__(self, started: float, client_s: float = 0.0) -> None:
        self.started = started
        self.client_s = client_s

    def waited_s(self, _now: float) -> float:
        return self.client_s


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def requests(lines: Lines) -> SlowRequests:
    return SlowRequests(2.0, 3, log_of(lines))


@pytest.fixture
def page() -> Iterator[Page]:
    board = Scoreboard(None)
    yield board.take(slot=1, generation=1)
    board.close()


def test_each_request_is_said_once(requests: SlowRequests, lines: Lines) -> None:
    first, second, waiting = Running(10.0), Running(11.5), Running(10.0, client_s=5.0)

    def look(now: float, *running: Running) -> list[str]:
        lines.lines.clear()
        requests.look(cast("Any", running), now, lambda runner: f"stack of {runner.started}")
        return lines.lines

    assert look(11.9, first, second, waiting) == []
    assert look(12.5, first, second, waiting) == [
        "worker 3: slow request: GET /a HTTP/1.1 from 192.0.2.1:5 has run for 2.5 s, and still runs\nstack of 10.0"
    ]
    assert [line[-4:] for line in look(14.0, first, second, waiting)] == ["11.5"]
    assert look(15.0, second) == []
    first.started = 15.5  # its next request
    assert look(16.0, first) == []
    assert len(look(17.5, first)) == 1
    assert look(17.6) == []


def test_how_often_it_is_looked() -> None:
    assert look_s(2.0) == 0.5
    assert look_s(0.001) == LEAST_LOOK_S


def test_the_thread_that_is_looked_at(requests: SlowRequests, lines: Lines, page: Page) -> None:
    looking = SlowRequestThread(2.0, page, requests)
    STORE_REQUEST(page.raw, CLIENT_OFFSET, b"192.0.2.1:5", b"GET /slow HTTP/1.1")
    release = threading.Event()
    begun = threading.Event()

    def wait_in_the_application() -> None:
        looking.begin()
        begun.set()
        release.wait()

    thread = threading.Thread(target=wait_in_the_application)
    thread.start()
    try:
        begun.wait()
        looking.look(100.0)
        assert lines.lines == [], "nothing runs"
        page.floats[Cell.STARTED] = 98.5
        looking.look(100.0)
        assert lines.lines == [], "not slow yet"
        looking.look(101.0)
        looking.look(102.0)
        (line,) = lines.lines
        assert line.startswith("worker 3: slow request: GET /slow HTTP/1.1 from 192.0.2.1:5 has run for 2.5 s")
        assert "in wait_in_the_application" in line
        page.floats[Cell.STARTED] = 101.5
        looking.look(104.0)
        assert len(lines.lines) == 2, "the next one"
    finally:
        looking.end()
        release.set()
        thread.join()


def test_it_looks_by_itself(lines: Lines, page: Page) -> None:
    looking = SlowRequestThread(0.001, page, SlowRequests(0.001, 1, log_of(lines)))
    looking.begin()
    page.floats[Cell.STARTED] = 0.5
    wait_until(lambda: lines.lines, 10)
    looking.end()
