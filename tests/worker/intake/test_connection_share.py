"""What a worker gives of its kept connections to one on probation, and what it leaves in the mailbox of its slot."""

import select
import socket
import time
from collections.abc import Iterator

import pytest

from tests.worker.own_worker import OwnWorker
from wsgicluster.ipc.handoff import Handed, Nudge, hand_over, take_over
from wsgicluster.ipc.mailbox import MailboxRegistry
from wsgicluster.ipc.messages import ShareConnections
from wsgicluster.ipc.scoreboard import Cell, WorkerState
from wsgicluster.worker.intake.connection_share import LEFT_S
from wsgicluster.worker.kinds import gthread
from wsgicluster.worker.kinds.parts import KindParts
from wsgicluster.worker.kinds.sync import worker as sync

KINDS = pytest.mark.parametrize("kind", [sync.PARTS, gthread.PARTS], ids=["sync", "gthread"])


@pytest.fixture
def registry() -> Iterator[MailboxRegistry]:
    made = MailboxRegistry()
    made.keep_slots([1, 2])
    yield made
    made.close()


def kept(own: OwnWorker, count: int) -> list[socket.socket]:
    """So many clients that have had a response each."""
    clients = [own.connect() for _ in range(count)]
    for client in clients:
        own.ask(client)
        assert own.answer(client).endswith(b"hello")
    own.turn_until(lambda: all(each.between_requests for each in own.context.connections))
    return clients


def taken(inbox: socket.socket) -> list[Handed[socket.socket]]:
    """The connections that lie in a mailbox."""
    found = []
    while isinstance(handed := take_over(inbox), Handed):
        found.append(handed)
    return found


@KINDS
def test_it_gives_as_many_as_it_is_told_and_serves_the_others(kind: KindParts, registry: MailboxRegistry) -> None:
    inbox = registry.share(2).connections_inbox
    assert inbox is not None
    with OwnWorker(kind, siblings=1, mailboxes=registry.share(1)) as own:
        fresh = own.connect()
        clients = kept(own, 6)
        for left, count in ((4, 2), (1, 3)):
            own.arbiter.send(ShareConnections(count, 2))
            own.turn_until(lambda left=left: len(own.context.connections) == left + 1)  # type: ignore[misc]
            given = taken(inbox)
            assert [(handed.kept, handed.fresh) for handed in given] == [(True, False)] * count
            for handed in given:
                handed.sock.close()
        # One that has had no response yet stays, and so does the last one.
        own.ask(fresh)
        assert own.answer(fresh).endswith(b"hello")
        ended = [client for client in clients if _is_ended(client)]
        assert len(ended) == 5
        (last,) = set(clients) - set(ended)
        own.ask(last)
        assert own.answer(last).endswith(b"hello")


def _is_ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


@KINDS
@pytest.mark.parametrize("ends", ["by time", "when it is said"])
def test_mail_is_left_to_the_other_worker_of_the_slot_for_a_moment(
    kind: KindParts, registry: MailboxRegistry, ends: str
) -> None:
    inbox = registry.share(1).connections_inbox
    assert inbox is not None
    with OwnWorker(kind, siblings=1, mailboxes=registry.share(1)) as own:
        for _ in range(2):
            (client,) = kept(own, 1)
            own.arbiter.send(ShareConnections(1, 1))
            before = time.monotonic()
            own.turn_until(lambda: not own.context.connections)
            if ends == "when it is said":
                own.arbiter.send(ShareConnections(0, 0))
            own.ask(client)
            assert own.answer(client).endswith(b"hello"), "nobody has taken it"
            if ends == "by time":
                assert time.monotonic() - before >= LEFT_S
            (handed,) = own.context.connections
            handed.close()


@KINDS
def test_where_it_cannot_move_the_next_response_is_the_last(kind: KindParts, registry: MailboxRegistry) -> None:
    with OwnWorker(kind, siblings=1, mailboxes=registry.share(1)) as own:
        clients = kept(own, 4)
        for connection in own.context.connections:
            connection.movable = False
            connection.fast_path = None  # as one over TLS
        may_keep = own.parts.host.may_keep
        for count in (1, 2):  # those that have been asked to before count
            own.arbiter.send(ShareConnections(count, 2))
            own.turn_until(
                lambda count=count: sum(c.may_keep != may_keep for c in own.context.connections) == count  # type: ignore[misc]
            )
        answers = []
        for client in clients:
            own.ask(client)
            answers.append(own.answer(client))
        assert sum(b"Connection: close" in answer for answer in answers) == 2
        assert all(answer.endswith(b"hello") for answer in answers)


@KINDS
def test_a_worker_that_leaves_gives_nothing(kind: KindParts, registry: MailboxRegistry) -> None:
    inbox = registry.share(2).connections_inbox
    assert inbox is not None
    with OwnWorker(kind, siblings=1, mailboxes=registry.share(1)) as own:
        kept(own, 2)
        own.arbiter.send(ShareConnections(2, 2))
        own.worker.begin_drain()
        own.turn_until(lambda: own.drained)
        assert taken(inbox) == []


@KINDS
@pytest.mark.parametrize("why", ["it leaves", "mail is left to the other"])
def test_the_other_worker_of_the_slot_is_woken(kind: KindParts, registry: MailboxRegistry, why: str) -> None:
    """The kernel may have woken only the one that takes nothing from now on, for what lies there."""
    inbox = registry.share(1).connections_inbox
    assert inbox is not None
    with OwnWorker(kind, siblings=1, mailboxes=registry.share(1)) as own:
        other = own.board.take(1, 2)
        other.cells[Cell.STATE] = WorkerState.READY
        if why == "it leaves":
            own.worker.begin_drain()
            own.turn_until(lambda: own.drained)
        else:
            own.arbiter.send(ShareConnections(0, 1))
            own.turn_until(lambda: select.select([inbox], [], [], 0)[0] != [])
        assert isinstance(take_over(inbox), Nudge)


def test_a_full_mailbox_is_tried_again(registry: MailboxRegistry) -> None:
    mailboxes = registry.share(1)
    inbox = registry.share(2).connections_inbox
    assert inbox is not None
    ours, theirs = socket.socketpair()
    with ours, theirs, OwnWorker(sync.PARTS, siblings=1, mailboxes=mailboxes) as own:
        kept(own, 1)
        while hand_over(mailboxes.connections[2], Handed(ours, 0, True, b"x" * 4096)):
            pass
        own.arbiter.send(ShareConnections(1, 2))
        own.turn()
        own.turn()
        assert len(own.context.connections) == 1
        for handed in taken(inbox):
            handed.sock.close()
        own.arbiter.send(ShareConnections(1, 2))
        own.turn_until(lambda: not own.context.connections)
