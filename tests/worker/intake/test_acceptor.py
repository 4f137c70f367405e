"""How clients come in that siblings pass on, and those in its queue when a worker leaves."""

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.worker.own_worker import DEADLINE_S, OwnWorker
from wsgicluster.ipc.handoff import Handed, hand_over, nudge, take_over
from wsgicluster.ipc.messages import ListenersEnd
from wsgicluster.ipc.scoreboard import Cell, ServerState
from wsgicluster.worker.intake.policy import STOP_NOTICE_GRACE_S
from wsgicluster.worker.kinds import gthread
from wsgicluster.worker.kinds.parts import KindParts
from wsgicluster.worker.kinds.sync import worker as sync

KINDS = pytest.mark.parametrize("kind", [sync.PARTS, gthread.PARTS], ids=["sync", "gthread"])
ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client, and its connection as a sibling has accepted it, by a listener that this worker has not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            accepted, _ = listener.accept()
            with accepted:
                client.setblocking(False)
                yield client, accepted


Pair = tuple[socket.socket, socket.socket]


@KINDS
def test_what_a_sibling_has_read_already_is_not_lost(kind: KindParts, pair: Pair) -> None:
    client, accepted = pair
    with OwnWorker(kind) as own:
        assert hand_over(own.hand_off, Handed(accepted, 9, True, ASK[:20]))
        own.ask(client, ASK[20:])
        assert own.answer(client).startswith(b"HTTP/1.1 200 OK\r\n")
        own.ask(client)
        assert own.answer(client).startswith(b"HTTP/1.1 200 OK\r\n")


@KINDS
def test_a_client_that_has_left_on_its_way_here_is_forgotten(kind: KindParts, pair: Pair) -> None:
    client, accepted = pair
    with OwnWorker(kind) as own:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        assert hand_over(own.hand_off, Handed(accepted, 9, True, b""))
        own.ask(fresh := own.connect())
        nudge(own.hand_off)
        own.turn_until(lambda: not own.loop.soon and own.page.cells[Cell.CONNECTIONS] == 1)
        assert own.answer(fresh).endswith(b"hello")
        assert len(own.context.connections) == 1


@KINDS
def test_without_a_spare_descriptor_it_stays_in_the_queue(
    kind: KindParts, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, accepted = pair
    with OwnWorker(kind) as own:
        own.parts.reserve.descriptors.free_spare()
        with monkeypatch.context() as without:
            without.setattr(os, "devnull", "/nothing/there")
            assert hand_over(own.hand_off, Handed(accepted, 9, True, b""))
            own.ask(client)
            own.turn_until(lambda: own.parts.listeners.paused)
            assert "cannot accept: Too many open files" in own.said
            assert not own.context.connections
        assert own.answer(client).endswith(b"hello")


@KINDS
def test_the_last_worker_that_has_a_listener_empties_its_queue(kind: KindParts) -> None:
    with OwnWorker(kind, siblings=1) as own:
        own.arbiter.send(ListenersEnd([0]))
        own.turn_until(lambda: own.parts.listeners.last_here == {0})
        own.parts.listeners.watch(False)
        clients = [own.connect() for _ in range(3)]
        for client in clients:
            own.ask(client)
        own.worker.begin_drain()
        for client in clients:
            assert own.answer(client).endswith(b"hello")
        own.turn_until(lambda: own.drained)
        assert not own.parts.listeners.listening


@KINDS
def test_clients_in_the_queue_of_a_stopping_server_are_served(kind: KindParts) -> None:
    with OwnWorker(kind) as own:
        own.parts.listeners.watch(False)
        clients = [own.connect() for _ in range(3)]
        for client in clients:
            own.ask(client)
        own.board.server.cells[Cell.STATE] = ServerState.STOPPING
        own.worker.begin_drain()
        for client in clients:
            answer = own.answer(client)
            assert answer.endswith(b"hello")
            assert b"connection: close" in answer.lower()
        own.turn_until(lambda: own.drained)


@KINDS
def test_a_worker_waits_for_the_word_of_a_server_that_is_about_to_stop(kind: KindParts) -> None:
    """TERM came to all processes: clients whose connections had begun may reach the queue only now."""
    with OwnWorker(kind) as own:
        own.board.server.cells[Cell.STATE] = ServerState.LEAVING
        own.worker.begin_drain()
        own.turn()
        began = own.loop.now
        own.turn_until(lambda: own.loop.now > began + 2 * STOP_NOTICE_GRACE_S)
        assert own.parts.listeners.listening
        client = own.connect()
        own.ask(client)
        own.board.server.cells[Cell.STATE] = ServerState.STOPPING
        assert own.answer(client).endswith(b"hello")
        own.turn_until(lambda: own.drained)


@KINDS
def test_what_is_under_way_when_the_time_is_over_is_cut_and_counted(kind: KindParts) -> None:
    with OwnWorker(kind, graceful_timeout=0.3) as own:
        client = own.connect()
        own.ask(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        own.turn_until(lambda: any(not each.reader.idle for each in own.context.connections))
        own.board.server.cells[Cell.STATE] = ServerState.STOPPING
        own.worker.begin_drain()
        own.turn_until(lambda: own.drained)
        assert "graceful_timeout is over; cut 1 request" in own.said
        assert own.page.cells[Cell.CUT] == 1


@KINDS
def test_a_worker_that_retires_passes_idle_clients_on(kind: KindParts) -> None:
    with OwnWorker(kind, siblings=1) as own:
        client = own.connect()
        own.ask(client)
        own.answer(client)
        sibling = own.assignment.hand_off_receive.dup()
        own.worker.begin_drain()
        own.turn_until(lambda: own.drained)
        with sibling:
            descriptors: list[int] = []
            while not descriptors:  # nudges have none
                descriptors = socket.recv_fds(sibling, 65536, 1)[1]
        with socket.socket(fileno=descriptors[0]) as passed:
            assert passed.getpeername() == client.getsockname()


def test_a_client_beyond_the_room_does_not_wait_for_a_slow_request() -> None:
    """Its request is there when it is accepted, while nothing says yet that the one which runs is slow."""
    may_end = threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            may_end.wait(DEADLINE_S)
        start_response("200 OK", [("Content-Length", "5")])
        return [b"hello"]

    with OwnWorker(gthread.PARTS, application, siblings=1) as own:
        # For a moment there is no other with room.
        own.siblings[0].cells[Cell.RUNNING] = 1
        slow = own.connect()
        own.ask(slow, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        passed: list[Handed[socket.socket]] = []

        def is_passed_on() -> bool:
            found = take_over(own.assignment.hand_off_receive)
            if isinstance(found, Handed):
                passed.append(found)
            return bool(passed)

        try:
            for _ in range(2):
                fresh = own.connect()
                own.ask(fresh)
                own.turn_until(is_passed_on)
                passed.pop().sock.close()
        finally:
            may_end.set()
        assert own.answer(slow).endswith(b"hello")
