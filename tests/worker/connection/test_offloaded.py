"""A connection whose request runs elsewhere: who sends what is left, and what the loop may do meanwhile."""

import math
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.worker.connection.one_connection import DEADLINE_S, LARGE, TIMING, LocalClient, Running, Worker, region_of
from wsgicluster.worker.connection.offloaded import PROMPT_S, OffloadedConnection
from wsgicluster.worker.connection.states import ConnectionInput, ConnectionState
from wsgicluster.worker.loop.loop import READ, WRITE
from wsgicluster.worker.request.cycle import Outcome
from wsgicluster.worker.transport.outbox import Storage
from wsgicluster.wsgi.response import Response

GET = b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def worker(tmp_path: pathlib.Path) -> Iterator[Worker]:
    with Worker(tmp_path, Running.OFFLOADED) as worker:
        yield worker


def connect(worker: Worker) -> tuple[OffloadedConnection, LocalClient]:
    connection, client = worker.connect()
    assert isinstance(connection, OffloadedConnection)
    return connection, client


def begin(worker: Worker, client: LocalClient) -> None:
    """Have a request wait in the queue."""
    client.send(GET)
    while not worker.queue:
        worker.turn()


def serve_first(worker: Worker, client: LocalClient) -> None:
    begin(worker, client)
    worker.run_queued()
    worker.drive(client, lambda: client.received.endswith(b"/first"))
    client.received.clear()


def test_a_kept_connection_settles_where_its_request_ran(worker: Worker) -> None:
    connection, client = connect(worker)
    serve_first(worker, client)
    begin(worker, client)
    assert connection.waits_for_turn
    assert connection.watching == READ
    worker.queue.clear()
    connection.enter(ConnectionInput.KEPT)  # as if it had run before its loop has looked
    connection.enter(ConnectionInput.REQUEST)
    assert connection.settle(Outcome.KEEP) is None
    assert connection.state is ConnectionState.READING
    assert connection.deadline == pytest.approx(worker.loop.now + TIMING.keepalive_s, abs=1)


@pytest.mark.parametrize("reason", ["first", "close", "more", "ended", "earlier", "unwatched"])
def test_what_only_the_loop_may_do_is_left_to_it(worker: Worker, reason: str) -> None:
    connection, client = connect(worker)
    if reason != "first":
        serve_first(worker, client)
    begin(worker, client)
    worker.queue.clear()
    connection.reader.flags = 0
    if reason == "more":
        connection.reader.rest = b"GET"
    elif reason == "earlier":
        connection.deadline = math.inf
    elif reason == "unwatched":
        connection.watch(0)
    connection.ended = reason == "ended"
    left = connection.settle(Outcome.CLOSE if reason == "close" else Outcome.KEEP)
    assert connection.state is ConnectionState.RUNNING
    assert left is not None
    left()
    assert connection.state is not ConnectionState.RUNNING


def test_the_loop_of_a_draining_worker_looks_after_what_has_been_served(worker: Worker) -> None:
    connection, client = connect(worker)
    serve_first(worker, client)
    begin(worker, client)
    worker.queue.clear()
    worker.draining = True
    left = connection.settle(Outcome.KEEP)
    assert connection.between_requests
    assert left is not None
    left()
    assert worker.told[-1] == "waits", "the worker may pass it on"


def test_a_connection_that_has_spoken_is_offered_when_there_is_no_room(worker: Worker) -> None:
    connection, client = connect(worker)
    worker.capacity, worker.offers = 0, True
    client.send(GET)
    worker.turn()
    assert connection.watching == 0, "what has come stays in the socket"
    assert not worker.queue
    connection.wait_if_reading()
    worker.offers = False
    worker.drive(client, lambda: client.received.endswith(b"/first"))


def test_an_early_request_stays_in_the_socket_until_the_first_is_over(worker: Worker) -> None:
    connection, client = connect(worker)
    serve_first(worker, client)
    begin(worker, client)
    client.send(GET.replace(b"first", b"early"))
    worker.turn()
    assert connection.watching == 0
    assert len(worker.queue) == 1
    connection.wait_if_reading()
    assert connection.watching == 0, "the request runs"
    worker.drive(client, lambda: client.received.endswith(b"/early"))


def test_a_request_that_has_just_ended_is_watched_again(worker: Worker) -> None:
    connection, client = connect(worker)
    serve_first(worker, client)
    begin(worker, client)
    worker.queue.clear()
    # The thread settles between the loop's look at the state and what it does.
    connection.ready_while_running(READ)
    assert connection.watching == 0
    connection.watch(READ)
    connection.enter(ConnectionInput.KEPT)
    connection.ready_while_running(READ)
    assert connection.watching == READ


def test_silence_is_that_of_connections_on_which_no_request_has_come(worker: Worker) -> None:
    connection, client = connect(worker)
    assert connection.is_silent_since(math.inf)
    assert not connection.is_silent_since(0.0)
    client.send(b"GET")
    assert not connection.is_silent_since(math.inf), "what has come was not looked at"
    client.send(GET[3:])
    worker.drive(client, lambda: client.received.endswith(b"/first"))
    assert not connection.is_silent_since(math.inf)


def test_the_loop_sends_what_a_running_request_has_left(worker: Worker) -> None:
    connection, client = connect(worker)
    begin(worker, client)
    client.reads = False
    connection.send(LARGE)
    assert connection.sends_later
    client.reads = True
    while client.received != LARGE:
        client.move()
        worker.turn()
    assert not connection.sends_later
    # Nothing is left to be sent: nothing to be promised or watched any more.
    worker.turn()
    assert connection.state is ConnectionState.RUNNING
    assert not connection.watching & WRITE
    worker.queue.clear()
    connection.finished(Outcome.KEEP)
    assert connection.state is ConnectionState.READING


def test_the_loop_leaves_the_socket_to_a_request_that_sends_now(worker: Worker) -> None:
    connection, client = connect(worker)
    begin(worker, client)
    connection.send(LARGE)
    assert connection.turn is not None
    with connection.turn:
        before = connection.outbox.sent_bytes if connection.outbox is not None else -1
        _pass_time(worker, PROMPT_S * 4)
        assert connection.outbox is not None
        assert connection.outbox.sent_bytes == before
    worker.queue.clear()
    while connection.sends_later:
        client.move()
        worker.turn()


def test_the_loop_leaves_the_socket_to_a_request_that_waits_itself(tmp_path: pathlib.Path) -> None:
    with Worker(tmp_path, Running.OFFLOADED, Storage(str(tmp_path), 1000, spools=False)) as worker:
        connection, client = connect(worker)
        begin(worker, client)
        connection.send(LARGE)
        worker.idle_calls += [lambda: _pass_time(worker, 2 * PROMPT_S), client.move]
        connection.send(b"the end")
        assert not connection.quick
        assert connection.client_wait_s(math.inf) > 0
        worker.queue.clear()
        connection.finished(Outcome.CLOSE)
        while not client.ended:
            client.move()
            worker.turn()
        assert client.received == LARGE + b"the end"


def test_a_client_that_leaves_while_its_request_runs_is_told_to_the_next_block(worker: Worker) -> None:
    connection, client = connect(worker)
    begin(worker, client)
    connection.send(LARGE)
    client.close()
    _until(worker, lambda: not connection.sends_later)
    worker.queue.clear()
    connection.finished(Outcome.ABORT)


def test_a_file_that_cannot_be_sent_ends_the_response(worker: Worker, tmp_path: pathlib.Path) -> None:
    connection, client = connect(worker)
    region = region_of(tmp_path, LARGE)

    def app(response: Response, _environ: dict[str, Any]) -> None:
        response.start_response("200 OK", [])
        response.send_file(region._replace(size=len(LARGE) + 10))
        connection.send(b"behind it")
        # The loop finds that the file is shorter while the application does something else.
        _until(worker, lambda: client.move() or worker.told)
        connection.send(b"more")

    worker.apps["first"] = app
    client.send(GET)
    worker.drive(client, lambda: client.ended)
    assert worker.told[0].startswith("broken: a file that was being sent")
    assert worker.told[1:] == ["failed: a part of the response is missing"]
    assert connection.state is ConnectionState.CLOSED


def _until(worker: Worker, done: Callable[[], object]) -> None:
    """Turn the loop until something is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline, worker.told
        worker.turn()


def _pass_time(worker: Worker, seconds: float) -> None:
    """Turn the loop until all calls have been made that are due in this time."""
    worker.turn()
    passed: list[bool] = []
    worker.loop.call_at(worker.loop.now + seconds, lambda: passed.append(True))
    _until(worker, lambda: passed)
