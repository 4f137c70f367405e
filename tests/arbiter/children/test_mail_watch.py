"""Connections that a worker does not take go to others, and the arbiter looks only while there are some."""

import contextlib
import math
import socket
from collections.abc import Iterator

import pytest

from wsgicluster.arbiter.children.mail_watch import UNTAKEN_S, MailWatch
from wsgicluster.ipc.handoff import Handed, Nudge, hand_over, take_over
from wsgicluster.ipc.mailbox import Mailboxes, MailboxRegistry
from wsgicluster.ipc.scoreboard import Cell, Page, Scoreboard, WorkerState


class World:
    """Two workers' pages and mailboxes, and what watches these."""

    def __init__(self, owned: contextlib.ExitStack) -> None:
        self.board = Scoreboard(None, 2)
        owned.callback(self.board.close)
        self.registry = MailboxRegistry()
        owned.callback(self.registry.close)
        self.registry.keep_slots([1, 2])
        self.hand_off = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.connection = socket.socketpair()
        for sock in (*self.hand_off, *self.connection):
            sock.setblocking(False)
            owned.callback(sock.close)
        self.pages: dict[int, Page] = {slot: self.board.take(slot, 1) for slot in (1, 2)}
        for page in self.pages.values():
            page.cells[Cell.STATE] = WorkerState.READY
        self.own: Mailboxes = self.registry.share(1)
        self.watch = MailWatch(self.board, self.registry)

    @property
    def is_watched(self) -> bool:
        return bool(self.board.server.cells[Cell.MAIL_WATCHED])

    def post(self, now: float) -> None:
        """A worker gives slot 1 a connection."""
        self.board.note_mail(self.pages[1].index, now)
        assert hand_over(self.own.connections[1], Handed(self.connection[1], 0, False, b""))

    def look(self, now: float) -> None:
        self.watch.look(self.pages, self.hand_off[1], now)

    def handed(self) -> int:
        """How many connections others have got."""
        count = 0
        while (found := take_over(self.hand_off[0])) is not None:
            assert isinstance(found, Handed)
            found.sock.close()
            count += 1
        return count


@pytest.fixture
def world() -> Iterator[World]:
    with contextlib.ExitStack() as owned:
        yield World(owned)


def test_what_is_not_taken_in_time_goes_to_others(world: World) -> None:
    world.post(10.0)
    world.watch.begin(10.0)
    assert (world.watch.next_due, world.is_watched) == (10.0 + UNTAKEN_S, True)
    world.post(10.9)
    world.look(10.5)
    assert world.handed() == 0
    world.look(11.0)
    assert world.handed() == 2
    assert world.watch.next_due == 11.0 + UNTAKEN_S, "it still hangs"
    assert world.pages[1].floats[Cell.MAIL_SINCE] == 10.0
    assert world.own.connections_inbox is not None
    assert isinstance(take_over(world.own.connections_inbox), Nudge), "what it finds when it does take them again"
    world.pages[1].floats[Cell.MAIL_SINCE] = 0.0
    world.look(12.0)
    assert (world.watch.next_due, world.is_watched) == (math.inf, False)


def test_a_slow_worker_has_its_time_from_what_came_first(world: World) -> None:
    world.watch.begin(10.0)
    world.post(10.7)
    world.look(11.0)
    assert (world.handed(), world.watch.next_due) == (0, 10.7 + UNTAKEN_S)


def test_what_was_noted_for_the_worker_before_is_not_forgotten(world: World) -> None:
    """A client that comes while a slot changes its worker, and that the new one does not take, goes to others."""
    world.post(10.0)
    world.watch.begin(10.0)
    world.board.free(world.pages[1])
    world.pages[1] = world.board.take(1, 2)
    world.pages[1].cells[Cell.STATE] = WorkerState.READY
    world.look(11.0)
    assert (world.handed(), world.watch.next_due) == (0, 11.0 + UNTAKEN_S)
    world.look(11.0 + UNTAKEN_S)
    assert world.handed() == 1


def test_what_was_taken_without_being_noted_is_forgotten(world: World) -> None:
    world.board.note_mail(world.pages[1].index, 10.0)
    world.watch.begin(10.0)
    world.look(11.0)
    assert world.pages[1].floats[Cell.MAIL_SINCE] == 0.0
    assert world.watch.next_due == math.inf


@pytest.mark.parametrize("other", ["leaves", "hangs"])
def test_without_another_that_takes_them_they_stay(world: World, other: str) -> None:
    if other == "leaves":
        world.pages[2].cells[Cell.STATE] = WorkerState.DRAINING
    else:
        world.pages[2].floats[Cell.MAIL_SINCE] = 9.0
        assert hand_over(world.own.connections[2], Handed(world.connection[1], 0, False, b""))
    world.post(10.0)
    world.watch.begin(10.0)
    world.look(11.0)
    assert world.handed() == 0
    assert world.registry.has_connections(1)
    assert world.watch.next_due == 11.0 + UNTAKEN_S
