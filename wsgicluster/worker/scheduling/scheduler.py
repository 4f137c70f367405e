"""Carries the scheduling policy of one worker out: gives connections to the slots that they are to be served by.

Which slot that is, is decided in `wsgicluster.worker.scheduling.placement`. A connection that cannot be given away now,
because the slot's mailbox is full or its bytes are too many, is served here.
"""

import contextlib
import dataclasses
import socket
from collections.abc import Sequence
from functools import partial
from os import close as _close  # gevent replaces it by one that closes only when its hub runs
from typing import Any

from wsgicluster.errors import ProtocolError
from wsgicluster.http.routed import ask_at_heads, ask_no_more
from wsgicluster.ipc.handoff import PACKET_BYTES, Handed, hand_over, packet_of, unread_packet
from wsgicluster.ipc.mailbox import Mailboxes, Posted, post
from wsgicluster.ipc.messages import ChannelClosed, MailPosted
from wsgicluster.ipc.scoreboard import Cell, ServerState
from wsgicluster.settings import Settings
from wsgicluster.settings.types.scheduling import SHARED, STICKY_POLICY
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.request.cycle import Application
from wsgicluster.worker.scheduling.binding import bound
from wsgicluster.worker.scheduling.placement import Asked, Balance, Crowd, SlotTable, Stickiness, asked_when, turns_of
from wsgicluster.worker.scheduling.policies import SlotLoad, with_room
from wsgicluster.wsgi.trust import Trust

# Members of an Enum cost a look-up each time; these are plain integers.
_STATE, _STOPPING, _MAIL_WATCHED = int(Cell.STATE), int(ServerState.STOPPING), int(Cell.MAIL_WATCHED)


class Scheduler:
    """The policy of one worker at work; ``asked`` is when, ``stickiness`` is there with that policy alone.

    Before `follow` there is none: connections stay where they are accepted.
    """

    def __init__(self, context: WorkerContext, mailboxes: Mailboxes, trust: Trust) -> None:
        self.asked: Asked | None = None
        self._context = context
        self._own = context.slot
        self._mailboxes = mailboxes
        self._trust = trust
        self._board = context.assignment.board
        self._server_cells = self._board.server.cells
        self.stickiness: Stickiness | None = None
        self.capacity = 1
        """How many requests a worker runs at once."""
        self._turns = turns_of(mailboxes)
        self.follow(dataclasses.replace(context.settings, scheduling=SHARED))

    def follow(self, settings: Settings) -> None:
        """From now on do as the policy of these settings says."""
        self.asked = asked_when(settings)
        self.stickiness = None
        if settings.scheduling == STICKY_POLICY:
            self.stickiness = Stickiness(settings, *self._turns.secrets())
        self._table = SlotTable(self._board, self.stickiness is not None)
        self._balance = Balance(settings, self._turns)
        self._crowd = Crowd() if self.stickiness is not None and self.stickiness.by_address else None

    def place_new(self, descriptor: int, listener: int, peer: Any = None) -> bool:
        """Give a connection away that has just been accepted; True when it is another worker's now.

        Only stickiness wants to know the ``peer``.
        """
        if self.stickiness is not None and isinstance(peer, tuple):
            slot = self._slot_of_address(peer[0])
        else:
            slot = self._balance.choose(self._table, self._context.loop.now)
        if not self._is_elsewhere(slot):
            return False
        if not self._post(slot, unread_packet(listener), descriptor):
            return False
        _close(descriptor)
        return True

    def mailbox_of_next(self) -> int:
        """For a policy that knows nothing of clients: the mailbox that the next one has to go to, or -1: none."""
        slot = self._balance.choose(self._table, self._context.loop.now)
        if not self._is_elsewhere(slot):
            return -1
        mailbox = self._mailbox_of(slot)
        return -1 if mailbox is None else mailbox.fileno()

    def place(self, connection: Connection, fresh: bool = True) -> bool:
        """The same for one whose client's address is known by now, and that is bound to it."""
        address = connection.reader.template["REMOTE_ADDR"]
        if self.stickiness is None or self.asked is Asked.AFTER_HEAD or not address or not connection.movable:
            return False
        slot = self._slot_of_address(address)
        if not self._is_elsewhere(slot) or not self._give(slot, connection, connection.reader.rest, fresh):
            return False
        connection.detach().close()
        return True

    def binding(self, application: Application) -> Application:
        """The application, whose responses bind clients to this worker's slot where that is done by a cookie."""
        cookie = self.stickiness.cookie if self.stickiness is not None else None
        if cookie is None:
            return application
        return bound(application, cookie, self._own, lambda: self._table.wanted, self._context.page.cells)

    def prepare(self, connection: Connection) -> None:
        """Have a connection ask about each of its requests from the next one on."""
        ask_at_heads(connection.reader, partial(self._route, connection))

    def release(self, connection: Connection) -> None:
        """Have it ask no more."""
        ask_no_more(connection.reader)

    def keep_next(self, connection: Connection, placed: bool) -> None:
        """A connection from another worker: its next request is served here where a policy has been asked already."""
        connection.reader.placed = placed

    def _route(self, connection: Connection, environ: dict[str, Any], received: bytes) -> bool:
        if self.stickiness is None or not connection.movable:
            return False
        if self._is_replaced() and self._hand_on(connection, received):
            return True
        loads = self._table.loads(self._context.loop.now)
        address = self._address_of(connection, environ) if self.stickiness.by_address else ""
        slot = self.stickiness.of_request(environ, address, loads, self._context.loop.now)
        if slot is None and self.stickiness.cookie is not None:
            slot = self._first(loads)
        if self._crowd is not None and not connection.kept:
            self._note(address)
        return self._is_elsewhere(slot) and self._give(slot, connection, received, False)

    def _first(self, loads: Sequence[SlotLoad]) -> int | None:
        """The slot that a client is bound to with its first request: in turn, of those with room if there are any."""
        slot = self._balance.in_turn(with_room(loads, self.capacity, self._context.most_open))
        if slot is None:
            slot = self._balance.in_turn(loads)
        if slot is not None:
            self._table.add(slot)
        return slot

    def _address_of(self, connection: Connection, environ: dict[str, Any]) -> str:
        """That of the client, where a trusted proxy says it."""
        if connection.trusted and self._trust.hops:
            environ = environ.copy()
            try:
                self._trust.set_scheme(environ)
            except ProtocolError:
                return ""  # it is going to be refused
        address: str = environ["REMOTE_ADDR"]
        return address

    def _slot_of_address(self, address: str) -> int | None:
        assert self.stickiness is not None, "no other policy wants to know it"
        self._note(address)
        now = self._context.loop.now
        return self.stickiness.of_address(address, self._table.loads(now), now)

    def _note(self, address: str) -> None:
        crowded = self._crowd.add(address) if self._crowd is not None and address else ""
        told = self._board.server.cells
        if crowded and not told[Cell.CROWDED]:
            told[Cell.CROWDED] = 1
            self._context.log.warning(
                "worker %d: over half of the clients have the address %s, and sticky by address binds all of them to "
                "one worker: if that is a proxy, see forwarded_hops and proxy_protocol, or use a cookie or a header",
                self._own, crowded,
            )  # fmt: skip

    def _is_elsewhere(self, slot: int | None) -> bool:
        if slot is None or slot == self._own:
            return False
        # The other workers of a server that stops leave, too.
        return self._server_cells[_STATE] != _STOPPING and not self._is_replaced()

    def _is_replaced(self) -> bool:
        """Whether all workers leave, while another server with the same hand-off socket keeps serving."""
        return (
            self._context.state.leaving and not self._board.ready_workers() and self._server_cells[_STATE] != _STOPPING
        )

    def _hand_on(self, connection: Connection, received: bytes) -> bool:
        """Give a connection to the other server, whose policy is asked about it."""
        return hand_over(
            self._context.assignment.hand_off_send,
            Handed(connection.transport, connection.listener, connection.kept, received, connection.proxy_header),
        )

    def _give(self, slot: int | None, connection: Connection, received: bytes, fresh: bool) -> bool:
        fresh = fresh and connection.state is ConnectionState.OPENING
        handed = Handed(
            connection.transport, connection.listener, connection.kept, received, connection.proxy_header, fresh, True
        )
        packet = packet_of(handed)
        return len(packet) <= PACKET_BYTES and self._post(slot, packet, connection.descriptor)

    def _post(self, slot: int | None, packet: bytes, descriptor: int) -> bool:
        mailbox = self._mailbox_of(slot)
        return mailbox is not None and post(mailbox, packet, (descriptor,)) is Posted.QUEUED

    def _mailbox_of(self, slot: int | None) -> socket.socket | None:
        """The mailbox that a connection is about to be put into, of which the slot's page and the arbiter know then."""
        mailbox = self._mailboxes.connections.get(slot or 0)
        if slot is None or mailbox is None:
            return None
        self._table.note_mail(slot, self._context.loop.now)
        # It looks a second later, by which time the connection is there.
        if not self._server_cells[_MAIL_WATCHED]:
            with contextlib.suppress(ChannelClosed):  # without an arbiter this worker leaves, as all others do
                self._context.assignment.channel.send(MailPosted())
        return mailbox


def scheduler_of(context: WorkerContext, trust: Trust) -> Scheduler | None:
    """That of a worker; None in one without mailboxes: there is no other to give a connection to."""
    mailboxes = context.assignment.mailboxes
    return Scheduler(context, mailboxes, trust) if mailboxes is not None else None
