"""One connection, step by step: what it does with each event, when its time is over, and how it ends."""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.worker.connection.one_connection import LARGE, TIMING, Running, Worker
from wsgicluster.errors import ClientGone, Overloaded
from wsgicluster.worker.connection.closing import LAST_LINGER_S, LINGER_S, Lingering
from wsgicluster.worker.connection.connection import UNTRIED_S
from wsgicluster.worker.connection.reading import CONTINUE, GRACE_S
from wsgicluster.worker.connection.states import ConnectionInput, ConnectionState
from wsgicluster.worker.loop.loop import READ, WRITE
from wsgicluster.worker.request.cycle import Outcome
from wsgicluster.worker.transport.outbox import Storage
from wsgicluster.worker.transport.transport import has_input
from wsgicluster.wsgi.response import Response

GET = b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def worker(tmp_path: pathlib.Path) -> Iterator[Worker]:
    with Worker(tmp_path) as worker:
        yield worker


def test_an_impossible_input_raises_and_changes_nothing(worker: Worker) -> None:
    connection, _ = worker.connect()
    with pytest.raises(LookupError):
        connection.enter(ConnectionInput.OPENED)
    assert connection.state is ConnectionState.READING


def test_a_closed_connection_is_closed_once(worker: Worker) -> None:
    connection, _ = worker.connect()
    connection.close()
    connection.close()
    assert connection.state is ConnectionState.CLOSED
    with pytest.raises(LookupError):
        connection.finished(Outcome.KEEP)
    with pytest.raises(AssertionError, match="waits for nothing"):
        connection.on_event(READ)


def test_a_silent_new_client_has_the_time_of_a_head_and_a_kept_one_that_of_keep_alive(worker: Worker) -> None:
    connection, client = worker.connect()
    assert connection.deadline == worker.loop.now + TIMING.head_s
    assert connection.reading.silence_s(worker.loop.now + 3) == pytest.approx(3)
    client.send(GET)
    worker.drive(client, lambda: client.received.endswith(b"/first"))
    assert connection.deadline == pytest.approx(worker.loop.now + TIMING.keepalive_s, abs=1)
    assert connection.reading.silence_s(worker.loop.now) == pytest.approx(0, abs=1)


def test_there_is_no_silence_while_a_body_comes(worker: Worker) -> None:
    connection, client = worker.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    worker.drive(client, lambda: not connection.reader.idle)
    assert connection.reading.silence_s(math.inf) == 0.0


def test_a_client_that_spoke_while_the_loop_was_busy_was_in_time(worker: Worker) -> None:
    connection, client = worker.connect()
    client.send(b"GET /fi")
    worker.loop.now = connection.deadline
    connection.expired()
    assert connection.state is ConnectionState.READING
    assert connection.reader.rest == b"GET /fi"
    assert connection.deadline >= worker.loop.now + GRACE_S


def test_a_deadline_that_was_put_off_is_not_over(worker: Worker) -> None:
    connection, _ = worker.connect()
    connection.deadline += 100
    connection.expired()
    assert connection.state is ConnectionState.READING


def test_a_request_that_runs_has_no_deadline_here(worker: Worker) -> None:
    connection, _ = worker.connect()
    connection.enter(ConnectionInput.REQUEST)
    worker.loop.now = now = connection.deadline
    connection.expired()
    assert connection.deadline == now + UNTRIED_S
    with pytest.raises(AssertionError, match="in the loop waits for nothing"):
        connection.on_event(READ)


def test_what_is_looked_at_soon_is_not_late(worker: Worker) -> None:
    connection, client = worker.connect()
    client.send(GET + GET)
    worker.drive(client, lambda: connection.state is ConnectionState.RESUMING)
    connection.on_event(READ)
    worker.loop.now = now = connection.deadline
    connection.expired()
    assert connection.deadline == now + GRACE_S
    connection.close()
    worker.turn()
    assert connection.state is ConnectionState.CLOSED, "what was to be looked at is not"


def test_continue_is_sent_to_a_client_that_waits_for_it(worker: Worker) -> None:
    _, client = worker.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    worker.drive(client, lambda: client.received == CONTINUE)
    client.send(b"ab")
    worker.drive(client, lambda: client.received.endswith(b"/"))


@pytest.mark.parametrize("secure", [False, True])
def test_continue_for_a_client_that_left(worker: Worker, secure: bool, certificates: Certificates) -> None:
    connection, client = worker.connect(certificates if secure else None)
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    client.close()
    worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)


def test_a_client_that_reads_nothing_misses_no_interim_response(worker: Worker) -> None:
    connection, client = worker.connect()
    client.reads = False
    with contextlib.suppress(BlockingIOError):
        while True:
            connection.transport.send(b"x" * 10_000)
    connection.send_interim(CONTINUE)
    assert not connection.sends_later


def test_empty_lines_put_nothing_off(worker: Worker) -> None:
    connection, client = worker.connect()
    deadline = connection.deadline
    client.send(b"\r\n")
    worker.drive(client, lambda: worker.received_bytes == 2)
    assert connection.deadline == deadline


def test_a_request_of_this_size_is_overload_and_own_fields_are_sent(worker: Worker) -> None:
    connection, client = worker.connect()
    worker.on_request = lambda connection: connection.refuse(Overloaded("too much", 7))
    connection.own_fields = "X-Request-ID: 1\r\n"
    client.send(GET)
    worker.drive(client, lambda: client.ended)
    assert b" 503 " in client.received
    assert b"Retry-After: 7\r\nX-Request-ID: 1\r\n" in client.received
    assert worker.told == ["refused 503: too much"]


def test_a_refusal_that_nobody_reads_is_sent_by_the_loop(worker: Worker) -> None:
    connection, client = worker.connect()
    client.reads = False
    with contextlib.suppress(BlockingIOError):
        while True:
            connection.transport.send(b"x" * 10_000)
    client.send(b"GET / HTTP/9.9\r\n\r\n")
    worker.drive(client, lambda: connection.state is ConnectionState.SENDING)
    client.reads = True
    worker.drive(client, lambda: client.ended)
    assert b" 505 " in client.received


def test_a_refusal_for_a_client_that_left(worker: Worker) -> None:
    connection, client = worker.connect()
    client.send(b"GET / HTTP/9.9\r\n\r\n")
    client.close()
    worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)
    assert not worker.connections


@pytest.mark.parametrize("takes", [False, True])
def test_a_client_that_takes_nothing_of_a_response_is_reset(worker: Worker, takes: bool) -> None:
    connection, client = worker.connect()
    worker.apps["large"] = lambda response, _environ: _send(response, LARGE)
    client.reads = False
    client.send(GET.replace(b"first", b"large"))
    worker.drive(client, lambda: connection.state is ConnectionState.SENDING)
    assert connection.watching == WRITE
    if takes:
        client.reads = True
        client.move()
        client.reads = False
    worker.loop.now = connection.deadline
    connection.expired()
    # Of what it has taken while the loop was not told it has the time once more.
    assert (connection.state is ConnectionState.SENDING) is takes
    if takes:
        assert connection.deadline > worker.loop.now
        client.close()
        worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)


def _send(response: Response, body: bytes) -> None:
    response.start_response("200 OK", [])
    response.send_whole(body)


def test_an_application_is_told_of_a_client_that_takes_nothing(worker: Worker, tmp_path: pathlib.Path) -> None:
    connection, client = worker.connect()
    client.reads = False
    connection.send(LARGE)
    assert connection.sends_later
    connection.send_limit.restart(-1000.0)
    connection.send_limit.is_over(0.0, 1)
    with pytest.raises(ClientGone, match="in time"):
        connection.keep(b"more")
    with pytest.raises(ClientGone, match="missing"):
        connection.send(b"more")
    connection.finished(Outcome.KEEP)
    assert connection.state is ConnectionState.CLOSED


def test_the_end_of_a_response_waits_for_nothing(worker: Worker) -> None:
    connection, client = worker.connect()
    client.reads = False
    connection.send(LARGE)
    connection.send_last(b"the end")
    connection.send_pair(b"and", b"more")
    connection.enter(ConnectionInput.REQUEST)
    connection.finished(Outcome.CLOSE)
    client.reads = True
    worker.drive(client, lambda: client.ended)
    assert client.received == LARGE + b"the endandmore"


@pytest.mark.parametrize("head", [b"h", b"h" * 400_000])
def test_a_pair_of_which_the_client_takes_a_part(worker: Worker, head: bytes) -> None:
    connection, client = worker.connect()
    connection.send_pair(head, LARGE)
    connection.enter(ConnectionInput.REQUEST)
    connection.finished(Outcome.CLOSE)
    worker.drive(client, lambda: client.ended)
    assert client.received == head + LARGE


@pytest.mark.parametrize("send", ["send", "send_pair", "send_interim", "send_last"])
def test_a_client_that_has_gone_is_told_to_the_sender(worker: Worker, send: str) -> None:
    connection, client = worker.connect()
    client.close()
    with pytest.raises(ClientGone):
        getattr(connection, send)(*((b"a", b"b") if send == "send_pair" else (b"a",)))
    assert connection.lost_client()


def test_looks_receive_nothing(worker: Worker) -> None:
    connection, client = worker.connect()
    assert not has_input(connection.transport)
    assert not connection.lost_client()
    client.send(b"GET")
    assert has_input(connection.transport)
    assert not connection.lost_client()
    assert connection.transport.recv(10) == b"GET"


def test_an_application_waits_for_room_with_its_client(tmp_path: pathlib.Path) -> None:
    with Worker(tmp_path, storage=Storage(str(tmp_path), 10_000, spools=False)) as worker:
        connection, client = worker.connect()

        def app(response: Response, _environ: dict[str, Any]) -> None:
            response.start_response("200 OK", [("Content-Length", "1000000")])
            for _ in range(100):
                response.write(b"x" * 10_000)
            response.finish()

        worker.apps["slow"] = app
        worker.idle_calls.append(client.move)
        client.reads = False
        client.send(GET.replace(b"first", b"slow"))
        client.reads = True
        worker.drive(client, lambda: client.received.count(b"x") == 1_000_000)
        assert connection.write_wait is not None
        assert connection.write_wait.total_s(math.inf) > 0
        assert connection.kept


def test_a_block_that_was_not_waited_for_is_missing(tmp_path: pathlib.Path) -> None:
    with Worker(tmp_path, storage=Storage(str(tmp_path), 1000, spools=False)) as worker:
        connection, client = worker.connect()

        def give_up() -> None:
            raise RuntimeError("ended while it waited")

        worker.idle_calls.append(give_up)
        client.reads = False
        connection.enter(ConnectionInput.REQUEST)
        connection.send(LARGE)
        with pytest.raises(RuntimeError):
            connection.store(b"x" * 2000)
        with pytest.raises(ClientGone, match="missing"):
            connection.send(b"x" * 2000)
        connection.finished(Outcome.CLOSE)
        assert connection.state is ConnectionState.CLOSED


def test_a_fast_client_is_waited_for_a_moment(worker: Worker) -> None:
    connection, client = worker.connect()
    client.reads = False
    connection.send(LARGE[:60_000])
    connection.send(LARGE)
    assert not connection.quick
    assert worker.waits_s > 0
    client.close()


def test_a_client_that_was_held_up_is_waited_for_again_once_it_has_taken_all_that_was_stored(worker: Worker) -> None:
    connection, client = worker.connect()
    client.reads = False
    connection.send(LARGE[:60_000])
    connection.send(LARGE[:60_000])
    waited_s = worker.waits_s
    assert waited_s > 0
    connection.send(LARGE[:1000])
    assert worker.waits_s == waited_s
    client.reads = True
    while not connection.flush_outbox():
        client.move()
    client.reads = False
    connection.send(LARGE[:20_000])
    connection.send(LARGE[:60_000])
    assert worker.waits_s > waited_s
    client.close()


@pytest.mark.parametrize("draining", [False, True])
def test_what_a_client_sends_behind_the_last_response_is_dropped_for_a_while(worker: Worker, draining: bool) -> None:
    connection, client = worker.connect()
    worker.draining = draining
    worker.keeps = False
    client.send(GET + b"more")
    worker.drive(client, lambda: connection.state is ConnectionState.LINGERING)
    limit_s = LAST_LINGER_S if draining else LINGER_S
    assert connection.deadline == pytest.approx(worker.loop.now + limit_s, abs=1.0)
    client.send(b"x" * 10)
    worker.turn()
    connection.on_event(READ)  # although there is nothing
    assert connection.state is ConnectionState.LINGERING
    assert isinstance(connection.phase, Lingering)
    connection.phase.hurry()
    assert connection.deadline == pytest.approx(worker.loop.now + LAST_LINGER_S, abs=1.0)
    worker.loop.now = connection.deadline
    connection.expired()
    assert connection not in worker.connections


def test_a_draining_worker_is_told_of_what_waits(worker: Worker) -> None:
    worker.draining = True
    worker.connect()
    assert worker.told == ["waits"]


def test_a_connection_that_is_handed_over_keeps_its_socket(worker: Worker) -> None:
    connection, client = worker.connect()
    client.send(GET)
    transport = connection.detach()
    assert not worker.connections
    worker.turn()
    assert transport.recv(100) == GET
    again = worker.open(os.dup(transport.fileno()))
    transport.close()
    again.reader.rest = GET
    again.reading.resume()
    worker.drive(client, lambda: client.received.endswith(b"/first"))


def test_what_was_handed_over_is_looked_at(worker: Worker) -> None:
    for rest, state in ((b"", ConnectionState.READING), (b"GET", ConnectionState.READING)):
        connection, client = worker.connect()
        connection.reader.rest = rest
        connection.reading.resume()
        assert connection.state is state
    connection, client = worker.connect()
    connection.reader.rest = b"GET / HTTP/9.9\r\n\r\n"
    connection.reading.resume()
    worker.drive(client, lambda: client.ended)
    assert b" 505 " in client.received


def test_a_contact_that_was_kept_is_left_to_the_application(worker: Worker) -> None:
    connection, _ = worker.connect()
    met: list[object] = []

    class Peer:
        def meet(self, contact: object) -> None:
            met.append(contact)

    connection.peer = Peer()
    before, environ = connection.contact, dict[str, Any]()
    contact = connection.renew_contact(environ)
    assert contact is connection.contact is not before
    assert met == [contact]
    assert environ["wsgi.early_hints"] is connection.reader.template["wsgi.early_hints"] is contact.early_hints


def test_a_response_whose_end_only_a_close_marks_may_end_when_it_is_complete(worker: Worker) -> None:
    _, client = worker.connect()

    def app(response: Response, _environ: dict[str, Any]) -> None:
        response.start_response("200 OK", [])
        response.write(b"until the end")
        response.finish()

    worker.apps["until"] = app
    client.send(b"GET /until HTTP/1.0\r\n\r\n")
    worker.drive(client, lambda: client.ended)
    assert client.ended == "end"
    assert client.received.endswith(b"until the end")


def test_an_aborted_request_resets(worker: Worker, tmp_path: pathlib.Path) -> None:
    connection, _ = worker.connect()
    connection.enter(ConnectionInput.REQUEST)
    connection.finished(Outcome.ABORT)
    assert connection.state is ConnectionState.CLOSED


@pytest.mark.parametrize("running", Running)
def test_the_fast_path_answers_within_receive(tmp_path: pathlib.Path, running: Running) -> None:
    """What a fast path does with a connection: it receives, and says `served`; the state stays what it was."""

    class Runner:
        thread_id = 0

    class Fast:
        received_bytes = 0
        cycle = Runner()
        serving: Any = None

        def receive(self, connection: Any, _peer: object) -> bytes | None:
            data: bytes = connection.transport.recv(1000)
            if data != GET:
                return data
            self.serving = connection
            connection.send(b"fast")
            assert connection.is_served()
            self.serving = None
            connection.served(Outcome.KEEP)
            return None

    with Worker(tmp_path, running) as worker:
        worker.fast_path = Fast()
        connection, client = worker.connect()
        for count in (1, 2, 3):
            client.send(GET)
            wanted = b"fast" * count
            worker.drive(client, lambda wanted=wanted: client.received == wanted)  # type: ignore[misc]
            assert connection.state is ConnectionState.READING
            assert connection.kept
        client.send(GET.replace(b"first", b"other"))
        worker.drive(client, lambda: client.received.endswith(b"/other"))
        client.end()
        worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)
