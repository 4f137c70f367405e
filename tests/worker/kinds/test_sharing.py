"""Requests that come while no thread is free: deferred, passed to a sibling, or served here after all."""

import socket

import pytest

from tests.worker.kinds.gated import KEPT, Gate, busy_with
from tests.worker.own_worker import OwnWorker
from wsgicluster.ipc.handoff import Handed, hand_over, take_over
from wsgicluster.ipc.scoreboard import Cell, ServerState
from wsgicluster.worker.intake import overflow, policy
from wsgicluster.worker.kinds import gthread
from wsgicluster.worker.lifecycle.recycle import ANY, Recycling

FOREVER_S = 1000.0


class Heavy(Recycling):
    """A worker that is as far beyond its limits as the test says."""

    def __init__(self) -> None:
        super().__init__(0, 0, 0.0, lambda: 0)
        self.below = 0

    def yields_to(self, _requests: int) -> int:
        return self.below


def taken_over(own: OwnWorker) -> Handed[socket.socket]:
    """The next connection that lies in the hand-off socket, as a sibling takes it."""
    while not isinstance(found := take_over(own.assignment.hand_off_receive), Handed):
        assert found is not None, "there is none"
    return found


def test_while_none_is_slow_a_request_waits_in_its_socket_and_is_served_here(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "SLOW_S", FOREVER_S)
    with OwnWorker(gthread.PARTS, gate, threads=1, siblings=1) as own:
        kept, busy = busy_with(own)
        own.ask(kept)
        own.turn_until(lambda: own.parts.runner.load.room_awaited)
        assert len(own.parts.runner.load.queue.waiting) == 0
        assert not own.parts.listeners.saturated
        gate.open.set()
        assert own.answer(busy).startswith(KEPT)
        assert own.answer(kept).startswith(KEPT)
        own.turn()
        assert not own.parts.runner.load.room_awaited
        assert len(own.context.connections) == 2


def test_when_the_moment_is_over_and_it_is_slow_the_request_goes_to_a_sibling(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "SLOW_S", 0.2)
    with OwnWorker(gthread.PARTS, gate, threads=1, siblings=1) as own:
        kept, _ = busy_with(own)
        own.ask(kept)
        own.turn_until(lambda: own.parts.listeners.saturated)
        assert len(own.context.connections) == 1
        with taken_over(own).sock as sock:
            assert sock.getpeername() == kept.getsockname()
            assert sock.recv(100).startswith(b"GET / ")


def test_a_full_worker_does_not_take_back_what_it_has_given_away(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the moment is over that siblings have for new clients, and it looks at all of them again."""
    monkeypatch.setattr(overflow, "LEFT_S", FOREVER_S)
    with OwnWorker(gthread.PARTS, gate, threads=1, siblings=1) as own:
        kept, _ = busy_with(own)
        own.ask(kept)
        own.turn_until(lambda: len(own.context.connections) == 1)
        for _ in range(20):
            own.turn()
        assert len(own.context.connections) == 1
        with taken_over(own).sock as sock:
            assert sock.getpeername() == kept.getsockname()


@pytest.mark.parametrize("has_room", [True, False])
def test_what_no_sibling_takes_is_served_after_a_moment(gate: Gate, has_room: bool) -> None:
    with OwnWorker(gthread.PARTS, gate, threads=1, siblings=1) as own:
        own.siblings[0].cells[Cell.RUNNING] = not has_room
        kept, _ = busy_with(own)
        own.ask(kept)
        own.turn_until(lambda: len(own.context.connections) == 1)
        own.turn_until(lambda: len(own.parts.runner.load.queue.waiting) == 1)
        gate.open.set()
        assert own.answer(kept).startswith(KEPT)


def test_what_a_sibling_has_given_away_is_not_given_away_again(gate: Gate) -> None:
    with OwnWorker(gthread.PARTS, gate, threads=1, siblings=1) as own:
        busy_with(own)
        with socket.create_server(("127.0.0.1", 0)) as elsewhere:
            guest = socket.create_connection(elsewhere.getsockname())
            with guest, elsewhere.accept()[0] as accepted:
                assert hand_over(own.hand_off, Handed(accepted, 0, True, b""))
                guest.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                own.turn_until(lambda: len(own.parts.runner.load.queue.waiting) == 1)
                guest.setblocking(False)
                gate.open.set()
                assert own.answer(guest).startswith(KEPT)


def test_a_worker_of_a_stopping_server_serves_it_here(gate: Gate) -> None:
    with OwnWorker(gthread.PARTS, gate, threads=1, siblings=1) as own:
        kept, _ = busy_with(own)
        own.board.server.cells[Cell.STATE] = ServerState.STOPPING
        own.worker.begin_drain()
        own.ask(kept)
        own.turn_until(lambda: len(own.parts.runner.load.queue.waiting) == 1)
        gate.open.set()
        assert own.answer(kept).startswith(KEPT)


def test_a_worker_that_is_held_passes_on_whatever_comes(gate: Gate) -> None:
    recycling = Heavy()
    with OwnWorker(gthread.PARTS, gate, recycling=recycling, threads=1, siblings=1) as own:
        kept = own.connect()
        own.ask(kept)
        own.answer(kept)
        recycling.below = ANY
        own.turn_until(lambda: own.context.state.held)
        own.ask(kept)
        own.turn_until(lambda: not own.context.connections)
        with taken_over(own).sock as sock:
            assert sock.recv(100).startswith(b"GET / ")
        assert not own.parts.listeners.saturated
