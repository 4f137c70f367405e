"""Connections that a scheduling policy gives to another worker, and those that it gives to this one."""

import socket
from collections.abc import Iterator

import pytest

from tests.worker.own_worker import OwnWorker
from wsgicluster.ipc.handoff import Handed, packet_of, take_over, unread_packet
from wsgicluster.ipc.mailbox import MailboxRegistry, Posted, post
from wsgicluster.ipc.messages import MailPosted
from wsgicluster.ipc.scheduling import Scheduling
from wsgicluster.ipc.scoreboard import Cell, ServerState
from wsgicluster.worker.intake.policy import HANDED_A_TURN
from wsgicluster.worker.kinds import gthread
from wsgicluster.worker.kinds.parts import KindParts
from wsgicluster.worker.kinds.sync import worker as sync

CLOSING = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
KINDS = {"sync": sync.PARTS, "gthread": gthread.PARTS}
POLICIES = ("round-robin", "weighted", "least-connections")


@pytest.fixture
def registry() -> Iterator[MailboxRegistry]:
    made = MailboxRegistry()
    made.keep_slots([1, 2])
    yield made
    made.close()


def worker(registry: MailboxRegistry, kind: KindParts, policy: str) -> OwnWorker:
    """That of slot 1 of two."""
    return OwnWorker(kind, siblings=1, mailboxes=registry.share(1), scheduling=policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_other_connection_goes_to_the_other_worker_unread(
    registry: MailboxRegistry, kind: KindParts, policy: str
) -> None:
    with worker(registry, kind, policy) as own:
        # Some connections may have ended, and others not have been taken, before the next ones come.
        for handed in passed_of_four(own, registry, 1 if policy == "least-connections" else 2):
            with handed.sock:
                assert (handed.fresh, handed.rest) == (True, b"")
                assert handed.sock.recv(1000) == CLOSING


def passed_of_four(own: OwnWorker, registry: MailboxRegistry, least: int = 2) -> list[Handed[socket.socket]]:
    """Two of four connections, or the ``least`` at least, which the other worker gets; this one serves the rest."""
    inbox = registry.share(2).connections_inbox
    assert inbox is not None
    served = own.page.cells[Cell.REQUESTS]
    for client in [own.connect() for _ in range(4)]:
        own.ask(client, CLOSING)
    passed: list[Handed[socket.socket]] = []

    def are_there() -> bool:
        while isinstance(found := take_over(inbox), Handed):
            passed.append(found)
        return len(passed) + own.page.cells[Cell.REQUESTS] == served + 4

    own.turn_until(are_there)
    assert len(passed) == 2 or least <= len(passed) <= 4 - least
    return passed


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_another_policy_is_followed_from_the_next_connection_on(registry: MailboxRegistry, kind: KindParts) -> None:
    with worker(registry, kind, "shared") as own:
        for policy in ("shared", "round-robin", "sticky", "weighted", "shared"):
            own.follow(Scheduling(policy, form="cookie"))
            own.told()
            if policy == "shared":
                for _ in range(3):
                    client = own.connect()
                    own.ask(client, CLOSING)
                    answer = own.answer(client)
                    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                    assert b"Set-Cookie" not in answer
                continue
            own.siblings[0].floats[Cell.MAIL_SINCE] = 0.0
            for handed in passed_of_four(own, registry):
                with handed.sock:
                    is_read = policy == "sticky"
                    assert (handed.fresh, handed.rest) == (not is_read, CLOSING if is_read else b""), policy
            assert any(isinstance(message, MailPosted) for message in own.told())
            assert own.siblings[0].floats[Cell.MAIL_SINCE] > 0.0


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_mail_that_has_been_taken_lies_there_no_more(registry: MailboxRegistry, kind: KindParts) -> None:
    """Also where there was more of it than is taken in one turn."""
    send = registry.share(2).connections[1]
    with worker(registry, kind, "round-robin") as own, socket.create_server(("127.0.0.1", 0)) as listener:
        own.page.floats[Cell.MAIL_SINCE] = 1.0
        for _ in range(HANDED_A_TURN + 3):
            with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as accepted:
                client.sendall(CLOSING)
                assert post(send, unread_packet(0), (accepted.fileno(),)) is Posted.QUEUED
        own.turn_until(lambda: own.page.floats[Cell.MAIL_SINCE] > 1.0, "some have been taken, and more lie there")
        own.turn_until(lambda: own.page.floats[Cell.MAIL_SINCE] == 0.0, "all have been taken")


@pytest.mark.parametrize("ask", [CLOSING, CLOSING.replace(b"close", b"keep-alive")], ids=["close", "keep"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_other_workers_pass_on_is_served(registry: MailboxRegistry, kind: KindParts, ask: bytes) -> None:
    send = registry.share(2).connections[1]
    with worker(registry, kind, "round-robin") as own, socket.create_server(("127.0.0.1", 0)) as listener:
        for turn in range(3):
            clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
            for number, client in enumerate(clients):
                accepted, _ = listener.accept()
                with client, accepted:
                    accepted.setblocking(False)
                    client.setblocking(False)
                    rest = b""
                    packet = unread_packet(0)
                    if number == 1:  # one that something has been read of
                        rest, packet = ask[:9], packet_of(Handed(accepted, 0, True, ask[:9], placed=True))
                    assert post(send, packet, (accepted.fileno(),)) is Posted.QUEUED
                    client.sendall(ask[len(rest) :])
                    assert own.answer(client).startswith(b"HTTP/1.1 200 OK\r\n"), (turn, number)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_server_that_stops_passes_nothing_on(registry: MailboxRegistry, kind: KindParts) -> None:
    with worker(registry, kind, "round-robin") as own:
        own.board.server.cells[Cell.STATE] = ServerState.STOPPING
        for _ in range(2):
            client = own.connect()
            own.ask(client, CLOSING)
            assert own.answer(client).endswith(b"hello")
