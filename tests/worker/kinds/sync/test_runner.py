"""What the runner of a sync worker does while a request has its only thread."""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.worker.own_worker import OwnWorker, hello
from wsgicluster.ipc.handoff import Handed, Nudge, take_over
from wsgicluster.ipc.scoreboard import Cell, WorkerState
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.intake.policy import SLOW_S
from wsgicluster.worker.kinds.sync.worker import PARTS

KEPT = b"HTTP/1.1 200 OK\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"


class Slow:
    """An application that waits at ``/slow`` until something is so."""

    def __init__(self) -> None:
        self.until: Callable[[], object] = lambda: True

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            wait_until(self.until, 10)
        return hello(environ, start_response)


@contextlib.contextmanager
def two_kept(siblings: int) -> Iterator[tuple[OwnWorker, Slow, socket.socket, socket.socket]]:
    """A worker with two kept clients, that accepts no other and takes none from siblings."""
    application = Slow()
    with OwnWorker(PARTS, application, siblings=siblings) as own:
        clients = own.connect(), own.connect()
        for client in clients:
            own.ask(client)
            own.answer(client)
        own.parts.listeners.watch(False)
        yield own, application, *clients


def test_those_who_speak_meanwhile_go_to_siblings() -> None:
    with two_kept(siblings=1) as (own, application, busy, other):
        found: list[Handed[socket.socket]] = []
        asked = False

        def is_handed() -> bool:
            nonlocal asked
            if not asked:  # now, while the other one has the thread
                own.ask(other)
                asked = True
            each = take_over(own.assignment.hand_off_receive)
            if isinstance(each, Handed):
                found.append(each)
            return bool(found)

        application.until = is_handed
        own.ask(busy, SLOW)
        assert own.answer(busy).startswith(KEPT)
        assert [each.kept for each in found] == [True]
        found[0].sock.close()


def test_without_siblings_they_wait() -> None:
    with two_kept(siblings=0) as (own, application, busy, other):
        moment = time.monotonic() + 5 * SLOW_S
        application.until = lambda: time.monotonic() > moment
        own.ask(busy, SLOW)
        own.ask(other)
        assert own.answer(busy).startswith(KEPT)
        assert own.answer(other).startswith(KEPT)


def test_one_that_hangs_gives_nothing_away_any_more() -> None:
    with two_kept(siblings=1) as (own, application, busy, other):
        own.worker.rescue()
        while isinstance(each := take_over(own.assignment.hand_off_receive), Handed):
            each.sock.close()
        moment = time.monotonic() + 10 * SLOW_S
        application.until = lambda: time.monotonic() > moment
        own.ask(busy, SLOW)
        own.ask(other)
        assert own.answer(busy).startswith(KEPT)
        assert own.answer(other).startswith(KEPT)


def test_the_applications_time_stands_still_while_it_waits_for_its_client() -> None:
    with OwnWorker(PARTS, timeout=30.0) as own:
        reading, _writing = socket.socketpair()
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        floats = own.page.floats
        floats[Cell.DEADLINE] = deadline = time.monotonic() + 5.0
        client = own.connect()
        own.turn_until(lambda: own.context.connections)
        (connection,) = own.context.connections
        floats[Cell.DEADLINE] = deadline
        began = time.monotonic()
        own.parts.host.wait_for_client(poll, 0.05)
        waited_s = time.monotonic() - began
        moved = floats[Cell.DEADLINE]
        assert 0.04 <= moved - deadline <= waited_s
        own.parts.host.has_waited(2.0)
        assert floats[Cell.DEADLINE] == pytest.approx(moved + 2.0)
        own.parts.runner.waits.lift_deadline(connection)
        assert floats[Cell.DEADLINE] == 0.0
        own.parts.host.has_waited(2.0)
        assert floats[Cell.DEADLINE] == 0.0
        assert not own.parts.runner.load.running
        assert not own.parts.runner.load.queue.withdraw(lambda _: True)
        client.close()
        for each in (reading, _writing):
            each.close()


BIG = b"x" * 8_000_000


def big(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Length", str(len(BIG)))])
    return [BIG]


def test_others_take_the_rest_of_their_responses_meanwhile() -> None:
    with OwnWorker(PARTS, big) as own:
        client = own.connect()
        own.ask(client)
        own.turn_until(lambda: {c.state for c in own.context.connections} == {ConnectionState.SENDING})
        reading, writing = socket.socketpair()
        client.setblocking(True)
        received = 0
        while received < len(BIG):
            received += len(client.recv(1 << 20))
            poll = select.poll()
            poll.register(reading, select.POLLIN)
            own.parts.host.wait_for_client(poll, 0.05)
        assert own.context.state.current is WorkerState.READY
        for each in (reading, writing):
            each.close()


def handed_off(own: OwnWorker) -> list[Handed[socket.socket]]:
    """What lies in the hand-off socket now."""
    found = []
    while (each := take_over(own.assignment.hand_off_receive)) is not None:
        if isinstance(each, Handed):
            found.append(each)
    return found


def test_pipelined_requests_go_with_the_bytes_that_were_received() -> None:
    with two_kept(siblings=1) as (own, application, busy, other):
        found: list[Handed[socket.socket]] = []

        def is_handed() -> bool:
            found.extend(handed_off(own))
            return bool(found)

        application.until = is_handed
        # Both are received in one turn: the second request of the other client waits for the next one.
        second = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
        own.ask(other, b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n" + second)
        own.turn_until(lambda: own.loop.soon)
        own.ask(busy, SLOW)
        assert own.answer(busy).startswith(KEPT)
        assert [(each.rest, each.kept, each.fresh) for each in found] == [(second, True, False)]
        assert other.recv(65536).startswith(KEPT)
        found[0].sock.close()
        own.turn_until(lambda: not own.loop.soon)


def test_hundreds_that_speak_at_once_all_go() -> None:
    application = Slow()
    with OwnWorker(PARTS, application, siblings=1) as own:
        clients = [own.connect() for _ in range(100)]
        busy, *others = clients
        for client in clients:
            own.ask(client)
        for client in clients:
            own.answer(client)
        own.parts.listeners.watch(False)
        count, asked = 0, False

        def are_handed() -> bool:
            nonlocal asked, count
            if not asked:
                for client in others:
                    own.ask(client)
                asked = True
            for each in handed_off(own):
                count += 1
                each.sock.close()
            return count == len(others)

        application.until = are_handed
        own.ask(busy, SLOW)
        assert own.answer(busy).startswith(KEPT)
        assert len(own.context.connections) == 1


def test_turned_off_they_wait() -> None:
    application = Slow()
    with OwnWorker(PARTS, application, siblings=1, hand_off_waiting=False) as own:
        busy, other = own.connect(), own.connect()
        for client in (busy, other):
            own.ask(client)
            own.answer(client)
        own.parts.listeners.watch(False)
        moment = time.monotonic() + 10 * SLOW_S
        application.until = lambda: time.monotonic() > moment
        own.ask(busy, SLOW)
        own.ask(other)
        assert own.answer(busy).startswith(KEPT)
        assert own.answer(other).startswith(KEPT)
        assert handed_off(own) == []


def test_new_clients_that_woke_this_worker_alone_are_left_to_a_sibling() -> None:
    application = Slow()
    with OwnWorker(PARTS, application, siblings=1) as own:
        busy, other = own.connect(), own.connect()
        for client in (busy, other):
            own.ask(client)
            own.answer(client)
        found: list[object] = []

        def is_nudged() -> bool:
            if not found and len(late) == 0:
                late.append(own.connect())
                own.ask(other)
            each = take_over(own.assignment.hand_off_receive)
            if each is not None:
                found.append(each)
            return any(isinstance(each, Nudge) for each in found)

        late: list[socket.socket] = []
        application.until = is_nudged
        own.ask(busy, SLOW)
        assert own.answer(busy).startswith(KEPT)
        for each in found:
            if isinstance(each, Handed):
                each.sock.close()
