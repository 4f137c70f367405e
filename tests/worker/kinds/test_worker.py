"""A whole worker of each kind, made of its parts, with a client and an arbiter that the test plays."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.worker.kinds.gated import KEPT, WAIT, Gate, busy_with, running
from tests.worker.own_worker import OwnWorker, hello
from wsgicluster.ipc.handoff import Handed, Lost, hand_over, nudge, take_over
from wsgicluster.ipc.messages import ListenersEnd, MemoryLimit, Ready, RecycleWanted
from wsgicluster.ipc.reasons import ShedReason
from wsgicluster.ipc.scoreboard import Cell, ServerState, WorkerState
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.intake.load_shedding import ShedCounter
from wsgicluster.worker.intake.policy import QUICK_CROWDED_S, SILENCE_S
from wsgicluster.worker.kinds import gthread
from wsgicluster.worker.kinds.parts import KindParts
from wsgicluster.worker.kinds.registry import hooks_class, worker_parts
from wsgicluster.worker.lifecycle.recycle import ANY, Recycling

PARTIAL = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"


@pytest.fixture(params=["sync", "gthread"])
def kind(request: pytest.FixtureRequest) -> KindParts:
    """What a kind of worker is made of; greenlets have a file of their own."""
    return worker_parts(hooks_class(request.param))


def test_it_serves_and_tells_the_arbiter(kind: KindParts) -> None:
    with OwnWorker(kind) as own:
        assert own.told() == [Ready(0.1, 0)]
        client = own.connect()
        for _ in range(3):
            own.ask(client)
            assert own.answer(client).startswith(KEPT)
        own.turn_until(lambda: own.page.cells[Cell.REQUESTS] == 3)
        own.turn()
        facts = own.page.facts()
        assert (facts.state, facts.connections, facts.requests) == (WorkerState.READY, 1, 3)
        assert facts.bytes_in > 0
        own.turn_until(lambda: len(own.logs.access_lines) == 3)
        client.close()
        own.turn_until(lambda: not own.context.connections)


def test_a_stopping_server_answers_once_more_and_closes(kind: KindParts) -> None:
    with OwnWorker(kind) as own:
        client, late = own.connect(), own.connect()
        own.ask(client)
        own.answer(client)
        own.board.server.cells[Cell.STATE] = ServerState.STOPPING
        own.worker.begin_drain()
        own.ask(client)
        assert b"connection: close" in own.answer(client).lower()
        own.ask(late)
        assert own.answer(late).startswith(KEPT)
        own.turn_until(lambda: own.drained)
        assert own.context.state.current is WorkerState.DRAINING
        assert not own.parts.listeners.listening


def test_a_silent_client_does_not_hold_a_stopping_server_up(kind: KindParts) -> None:
    with OwnWorker(kind) as own:
        client = own.connect()
        own.ask(client)
        own.answer(client)
        own.board.server.cells[Cell.STATE] = ServerState.STOPPING
        own.worker.begin_drain()
        began = own.loop.now
        own.turn_until(lambda: own.drained)
        assert own.loop.now - began >= SILENCE_S * 0.9
        assert own.answer(client) == b""


def handed(own: OwnWorker) -> list[Handed[socket.socket]]:
    """What lies in the hand-off socket."""
    found = []
    while (each := take_over(own.assignment.hand_off_receive)) is not None:
        if isinstance(each, Handed):
            found.append(each)
        else:
            assert not isinstance(each, Lost)
    return found


def test_a_retiring_worker_passes_idle_connections_on(kind: KindParts) -> None:
    with OwnWorker(kind, siblings=1) as own:
        client = own.connect()
        own.ask(client)
        own.answer(client)
        keeps = socket.socket(fileno=own.assignment.hand_off_receive.dup().detach())
        own.worker.begin_drain()
        own.turn_until(lambda: own.drained)
        found = []
        while (each := take_over(keeps)) is not None:
            found += [each] if isinstance(each, Handed) else []
        assert [each.kept for each in found] == [True]
        for each in found:
            each.sock.close()
        keeps.close()
        assert not own.parts.listeners.listening


def test_a_listener_that_siblings_do_not_have_is_emptied_first(kind: KindParts) -> None:
    with OwnWorker(kind, siblings=1) as own:
        own.arbiter.send(ListenersEnd([0]))
        own.turn_until(lambda: own.parts.listeners.last_here == {0})
        own.worker.begin_drain()
        client = own.connect()
        own.ask(client)
        assert own.answer(client).startswith(KEPT)
        own.turn_until(lambda: own.drained)


def test_what_is_not_over_in_time_is_cut_and_named(kind: KindParts) -> None:
    with OwnWorker(kind, graceful_timeout=0.05) as own:
        client = own.connect()
        own.ask(client, PARTIAL)
        own.turn_until(lambda: any(not c.reader.idle for c in own.context.connections))
        own.board.server.cells[Cell.STATE] = ServerState.STOPPING
        own.worker.begin_drain()
        own.turn_until(lambda: own.drained)
        assert own.page.cells[Cell.CUT] == 1
        assert "graceful_timeout is over; cut 1 request" in own.said


def test_without_an_arbiter_it_leaves_at_once(kind: KindParts, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[tuple[float, int]] = []
    monkeypatch.setattr("wsgicluster.system.parent_death.end_after", lambda *given: ends.append(given))
    with OwnWorker(kind, graceful_timeout=3.0) as own:
        own.arbiter.close()
        own.turn_until(lambda: own.drained)
        assert own.context.state.current is WorkerState.ORPHANED
        assert own.said.count("the arbiter has exited") == 1
        own.parts.channel.send(RecycleWanted("memory", "too large"))
        own.parts.channel.receive()
        assert own.said.count("the arbiter has exited") == 1
    assert ends == [(3.0, -1)]


def test_a_connection_from_a_sibling_is_served_on(kind: KindParts) -> None:
    with OwnWorker(kind, siblings=1) as own:
        there = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(there.getsockname())
        sock, _ = there.accept()
        sock.setblocking(False)
        client.setblocking(False)
        # By a listener that this worker does not have, and with a request of which a part has been received.
        assert hand_over(own.hand_off, Handed(sock, 7, True, b"GET / HTTP/1.1\r\nHost"))
        client.send(b": a\r\n\r\n")
        assert own.answer(client).startswith(KEPT)
        gone = socket.create_connection(there.getsockname())
        sock.close()
        sock, _ = there.accept()
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gone.close()
        assert hand_over(own.hand_off, Handed(sock, 0, False, b""))
        own.turn()
        for each in (client, sock, there):
            each.close()


def test_a_nudge_has_it_look_at_its_listeners(kind: KindParts) -> None:
    with OwnWorker(kind, siblings=1) as own:
        nudge(own.hand_off)
        own.turn()
        client = own.connect()
        own.ask(client)
        nudge(own.hand_off)
        assert own.answer(client).startswith(KEPT)


class Heavy(Recycling):
    """A worker that is as far beyond its limits as the test says."""

    def __init__(self) -> None:
        super().__init__(0, 0, 0.0, lambda: 0)
        self.below = 0

    def yields_to(self, _requests: int) -> int:
        return self.below


def test_far_beyond_a_limit_new_clients_are_left_to_siblings(kind: KindParts) -> None:
    recycling = Heavy()
    with OwnWorker(kind, recycling=recycling, siblings=1) as own:
        kept = own.connect()
        own.ask(kept)
        own.answer(kept)
        recycling.below = ANY
        own.turn_until(lambda: own.context.state.held)
        assert own.parts.host.capacity == 0
        assert not own.parts.runner.may_keep()
        own.connect()
        own.turn()
        assert len(own.context.connections) == 1
        # The siblings are gone, or as heavy.
        own.siblings[0].cells[Cell.STATE] = WorkerState.HELD
        own.turn_until(lambda: len(own.context.connections) == 2)
        assert own.context.state.current is WorkerState.READY
        own.siblings[0].cells[Cell.STATE] = WorkerState.READY
        own.turn_until(lambda: own.context.state.held)
        recycling.below = 0
        own.arbiter.send(MemoryLimit(1 << 40))
        own.turn_until(lambda: own.context.state.current is WorkerState.READY)


def test_it_asks_once_to_be_recycled(kind: KindParts) -> None:
    with OwnWorker(kind, recycling=Recycling(2, 0, 0.0, lambda: 0)) as own:
        client = own.connect()
        for _ in range(3):
            own.ask(client)
            own.answer(client)
        own.turn()
        wanted = [message for message in own.told() if isinstance(message, RecycleWanted)]
        assert [message.reason for message in wanted] == ["requests"]


def test_logs_are_opened_anew_when_asked_for(kind: KindParts) -> None:
    with OwnWorker(kind) as own:
        own.parts.logs.write()
        own.worker.flush_logs()
        assert own.logs.reopened == 0


def test_a_hung_worker_gives_its_waiting_connections_away(kind: KindParts) -> None:
    with OwnWorker(kind, siblings=1) as own:
        client = own.connect()
        own.ask(client)
        own.answer(client)
        own.turn_until(lambda: all(c.between_requests for c in own.context.connections))
        own.parts.listeners.watch(False)
        own.worker.rescue()
        found = handed(own)
        assert len(found) == 1
        found[0].sock.close()


def test_a_forked_process_holds_nothing(kind: KindParts) -> None:
    with OwnWorker(kind) as own:
        client = own.connect()
        own.ask(client)
        own.answer(client)
        (connection,) = own.context.connections
        own.worker.abandon()
        assert own.parts.cycle.abandoned
        with pytest.raises(OSError):
            connection.transport.recv(1)


def test_ids_queue_timeout_and_taken_sockets(kind: KindParts) -> None:
    seen: list[dict[str, Any]] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(environ)
        return hello(environ, start_response)

    with OwnWorker(kind, application, request_id="make", queue_timeout=5.0, raw_socket=True) as own:
        client = own.connect()
        own.ask(client)
        assert b"X-Request-ID: " in own.answer(client)
        own.ask(client, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
        own.answer(client)
        assert ["gunicorn.socket" in each for each in seen] == [False, True]


def test_requests_that_have_waited_for_too_long_are_shed(kind: KindParts) -> None:
    with OwnWorker(kind, queue_timeout=5.0) as own:
        client = own.connect()
        own.turn_until(lambda: own.context.connections)
        (connection,) = own.context.connections
        ShedCounter(own.context).add(connection, True)
        assert own.page.cells[Cell.SHED + ShedReason.CLIENT_LEFT] == 1
        assert "has left while its request waited" in own.said
        own.turn_until(lambda: "1 request not run after having waited" in own.said)
        client.close()


# -- threads: room, and requests beside each other


def threads(gate: Gate, **settings: Any) -> OwnWorker:
    return OwnWorker(gthread.PARTS, gate, **{"threads": 1, **settings})


def test_without_room_new_clients_are_left_to_siblings_and_none_is_lost(gate: Gate) -> None:
    with threads(gate, siblings=1) as own:
        first = own.connect()
        own.ask(first, WAIT)
        own.turn_until(lambda: running(own) == 1)
        second, third = own.connect(), own.connect()
        own.ask(second)
        own.ask(third)
        own.turn_until(lambda: own.parts.listeners.saturated)
        # Those that are accepted nevertheless are passed on, and no other worker of this test takes them.
        for _ in range(20):
            own.turn()
        assert not own.parts.runner.load.queue.waiting, "none waits behind a slow request"
        gate.open.set()
        for client in (first, second, third):
            assert own.answer(client).startswith(KEPT)
        own.turn_until(lambda: not own.parts.listeners.saturated)
        own.turn()
        assert not own.parts.runner.load.room_awaited


def test_a_kept_client_is_offered_to_a_sibling_with_room(gate: Gate) -> None:
    with threads(gate, siblings=1) as own:
        kept, busy = busy_with(own)
        own.ask(kept)
        # It is deferred for a moment, then given away: to this very worker, since there is no other in this test.
        own.turn_until(lambda: own.parts.listeners.saturated)
        gate.open.set()
        assert own.answer(busy).startswith(KEPT)
        assert own.answer(kept).startswith(KEPT)


def test_siblings_get_a_moment_of_their_own_each_time(gate: Gate) -> None:
    with threads(gate, siblings=1) as own:
        kept, _ = busy_with(own)
        own.parts.listeners.saturate()
        own.parts.runner.load.room_awaited = True
        # The moment passes, and no new client comes.
        own.turn_until(lambda: not own.parts.listeners.saturated)
        own.ask(kept)
        own.turn_until(lambda: own.parts.listeners.saturated)
        moment = own.loop.now + QUICK_CROWDED_S
        own.turn_until(lambda: not own.parts.listeners.saturated)
        assert own.loop.now >= moment


def test_a_worker_that_is_full_closes_silent_clients(gate: Gate) -> None:
    with threads(gate, worker_connections=2) as own:
        own.connect(), own.connect()
        own.turn_until(lambda: len(own.context.connections) == 2)
        third = own.connect()
        own.ask(third)
        assert own.answer(third).startswith(KEPT)
        assert own.page.cells[Cell.EVICTED] == 2
        assert "full, with 2 connections (worker_connections); closed 2 of them" in own.said


def test_a_request_that_has_timed_out_is_reported_and_not_waited_for(gate: Gate) -> None:
    with threads(gate, timeout=0.2) as own:
        client = own.connect()
        own.ask(client, WAIT)
        own.turn_until(lambda: "stuck in GET /wait HTTP/1.1" in own.said)
        (runner,) = own.parts.runner.load.running
        assert runner.reported
        assert "in __call__" in own.said
        assert RecycleWanted("hang", "a request has timed out") in own.told()
        assert runner.line == b"GET /wait HTTP/1.1"
        own.worker.begin_drain()
        own.turn_until(lambda: own.drained)
        assert "exiting with 1 timed-out request still running" in own.said
        assert own.page.cells[Cell.CUT] == 1


def test_what_waits_in_the_queue_is_refused_when_the_time_is_over(gate: Gate) -> None:
    with threads(gate, graceful_timeout=0.3) as own:
        second, _ = busy_with(own)
        own.ask(second)
        own.turn_until(lambda: len(own.parts.runner.load.queue.waiting) == 1)
        own.board.server.cells[Cell.STATE] = ServerState.STOPPING
        own.worker.begin_drain()
        own.turn_until(lambda: own.drained)
        assert b"503 Service Unavailable" in own.answer(second, b"run\n")
        assert "cut 1 request: GET /wait HTTP/1.1" in own.said


def test_a_request_may_lift_its_own_deadline(gate: Gate) -> None:
    with threads(gate, timeout=0.2) as own:
        client = own.connect()
        own.ask(client, WAIT)
        own.turn_until(lambda: running(own) == 1)
        (connection,) = own.context.connections
        own.parts.runner.waits.lift_deadline(connection)
        moment = own.loop.now + 0.6
        own.turn_until(lambda: own.loop.now > moment)
        assert "stuck" not in own.said
        own.parts.host.has_waited(1.0)


def test_a_descriptor_is_kept_for_the_application(kind: KindParts) -> None:
    with OwnWorker(kind, siblings=1) as own:
        reserve = own.parts.reserve
        reserve.descriptors.mark = 0
        first = own.connect()
        own.ask(first)
        assert own.answer(first).startswith(KEPT)
        own.turn_until(lambda: not reserve.scarce)
        for error in (OSError(24, "Too many open files"), ConnectionAbortedError(103, "aborted")):
            assert reserve.cannot_accept(error) is (error.errno == 24)
        assert "cannot accept: Too many open files" in own.said
        own.turn_until(lambda: not own.parts.listeners.paused)


def test_states_of_connections_are_there_for_the_drain() -> None:
    """A lingering connection hurries when its worker leaves."""
    with OwnWorker(gthread.PARTS) as own:
        client = own.connect()
        own.ask(client, b"nonsense\r\n\r\n")
        assert b" 400 " in own.answer(client, b"\n")
        assert {c.state for c in own.context.connections} == {ConnectionState.LINGERING}
        own.board.server.cells[Cell.STATE] = ServerState.STOPPING
        own.worker.begin_drain()
        own.turn_until(lambda: own.drained)
