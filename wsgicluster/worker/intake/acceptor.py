"""How clients come in from the listeners; those from other workers come by `wsgicluster.worker.intake.adoption`.

When none may is decided by the intake policy, and what becomes of their requests by the runner.
"""

import _socket
import contextlib
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable

from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.handoff import unread_packet
from wsgicluster.ipc.reasons import CloseReason
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.host import Arrivals
from wsgicluster.worker.connection.offloaded import OffloadedConnection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.intake.adoption import Adoption, EntryParts
from wsgicluster.worker.intake.policy import (
    ACCEPT_S,
    Accept,
    Defer,
    Occasion,
    Snapshot,
    accept_until,
    batch,
    decide,
    may_over_admit,
)
from wsgicluster.worker.intake.sharing import SiblingOffers
from wsgicluster.worker.intake.snapshot import snapshot
from wsgicluster.worker.scheduling.placement import Asked

# Members of an Enum cost a look-up each time; these are plain integers.
_ACCEPTED, _GIVEN = int(Cell.ACCEPTED), Cell.CLOSED + int(CloseReason.HANDED_OVER)


@dataclass(frozen=True)
class AcceptorParts:
    """What an `Acceptor` joins; ``arrivals`` is the compiled way to accept, if there is one."""

    entry: EntryParts
    adoption: Adoption
    offers: SiblingOffers
    arrivals: Arrivals[Connection] | None = None


class Acceptor:
    """Takes clients in, as many as the policy says."""

    def __init__(self, context: WorkerContext, parts: AcceptorParts) -> None:
        self._context = context
        self._loop = context.loop
        self._cells = context.page.cells
        self._connections = context.connections
        self._listeners = parts.entry.listeners
        self._reserve = parts.entry.reserve
        self._factory = parts.entry.factory
        self._load = parts.entry.load
        self._silent = parts.entry.silent
        self._preamble = parts.entry.preamble
        self._scheduler = parts.entry.scheduler
        self._adoption = parts.adoption
        self._offers = parts.offers
        self._arrivals = parts.arrivals
        self._overflow = parts.entry.overflow
        self._take: Callable[[int, socket.socket], Connection | bool] = self._take_next
        self._answer = self._accept if parts.arrivals is None else self._answer_arrivals
        self._over_admitted: deque[OffloadedConnection] = deque()
        """New clients that were accepted without room, the oldest first."""
        self._siblings_had_time = False
        self._retries_at = 0.0

    def begin(self) -> None:
        """Accept clients from now on."""
        arrivals = self._arrivals
        if arrivals is not None:
            packets = [unread_packet(number) for number in self._factory.numbers]
            arrivals.serve_listeners(self._factory.open, self._factory.templates, packets)
        self._reserve.descriptors.keep_spare()
        self._listeners.begin(self._answer, self._adoption.take_over)
        self._adoption.begin()

    def follow(self, asked: Asked | None, binds: bool) -> None:
        """Have another scheduling policy asked from now on, or none; one that is asked later costs nothing here.

        Where it ``binds`` clients to workers, compiled code neither accepts nor responds: of a client who may be bound
        to another worker its address or its request has to be known.
        """
        at_accept = asked is Asked.AT_ACCEPT
        self._take = self._take_and_place if at_accept else self._take_next
        self._answer = self._accept
        if self._arrivals is not None and not binds:
            assert at_accept or asked is None, "only what binds clients wants to know more of them"
            self._answer = self._answer_arrivals
            assert self._scheduler is not None, "there is a policy to follow"
            self._arrivals.choose = self._scheduler.mailbox_of_next if at_accept else None
        self._adoption.answers_passed = not binds
        self._listeners.answer_with(self._answer)

    def step(self) -> None:
        """At the end of a turn of the loop in which room was awaited: there may be some now."""
        listeners, offers = self._listeners, self._offers
        found = self._snapshot()
        if offers.deferred and found.room > 0:
            offers.retry()
        if listeners.saturated:
            if found.room > 0 and not found.is_full:
                self._resume()
            else:
                # A moment of their own for siblings, whatever came of the last one.
                decision = decide(Occasion.CLIENTS_WAIT, found._replace(siblings_had_time=False))
                self._retry_at(decision.until if isinstance(decision, Defer) else found.now)
        self._load.room_awaited = listeners.saturated or bool(offers.deferred)

    def accept_all(self) -> bool:
        """Empty the accept queues; False when descriptors ran out on the way.

        No client is answered before the queues are empty: under steady load they would never be.
        """
        self._listeners.watch(True)
        for index, listener in self._listeners.open.items():
            while not self._listeners.paused and (found := self._take(index, listener)):
                if isinstance(found, Connection):
                    self._loop.soon.append(found.receive_if_open)
        return not self._listeners.paused

    def abandon(self) -> None:
        """In a process that the application has forked: hold no client's connection open."""
        self._reserve.descriptors.free_spare()
        # A process that comes back from its request may still send, while what it has opened itself has the numbers
        # that are free. So a socket that takes nothing keeps those of requests that run.
        with contextlib.closing(_socket.socket(_socket.AF_UNIX)) as dead:
            for connection in self._connections:
                served = connection.is_served()
                connection.contact.close()
                connection.close_socket()
                if served:
                    os.dup2(dead.fileno(), connection.descriptor, inheritable=False)
            answered = self._arrivals.abandon() if self._arrivals is not None else -1
            if answered >= 0:
                os.dup2(dead.fileno(), answered, inheritable=False)

    # -- from the listeners

    def _answer_arrivals(self, index: int, listener: socket.socket) -> None:
        """Have compiled code accept connections and answer their requests. There is always room to run one here."""
        ends = time.monotonic() + ACCEPT_S
        most = batch(self._load.batch, len(self._connections))
        while self._may_accept():
            try:
                self._arrivals.answer_arrivals(listener.fileno(), index, ends, most)  # type: ignore[union-attr]
            except OSError as error:
                if not self._reserve.cannot_accept(error):
                    continue
            return

    def _accept(self, index: int, listener: socket.socket) -> None:
        """Accept connections, and receive from each what has come already."""
        left = batch(self._load.batch, len(self._connections))
        ends = accept_until(time.monotonic(), self._load.batch)
        decision = Accept(0)
        while left > 0 and self._may_accept():
            if not decision.clients:
                found = self._decide()
                if not isinstance(found, Accept) or (found.beyond and self._overflow.is_for_others(self._snapshot())):
                    self._siblings_had_time = False
                    self._overflow.leave()
                    return
                decision = found
                if found.beyond:
                    left = max(left, found.clients)
            taken = self._take(index, listener)
            if not taken:
                break
            decision = Accept(decision.clients - 1, decision.beyond)
            left -= self._begin(taken, decision.beyond) or ends == math.inf
            if time.monotonic() >= ends:
                break
        self._siblings_had_time = False

    def _begin(self, taken: Connection | bool, beyond: bool) -> bool:
        """Receive what a new client has sent already; whether its connection is still open then."""
        if not isinstance(taken, Connection):
            return False
        if beyond and isinstance(taken, OffloadedConnection):
            self._over_admitted.append(taken)
            # What runs may be slow: its request goes to a sibling then, as that of a client that is here already.
            taken.receive_unless_full()
        else:
            taken.receive_if_open()
        return taken.state is not ConnectionState.CLOSED

    def _may_accept(self) -> bool:
        return self._listeners.listening and not self._listeners.paused and not self._reserve.scarce

    def _decide(self) -> object:
        self._silent.make_place()
        return decide(Occasion.CLIENTS_WAIT, self._snapshot())

    def _snapshot(self) -> Snapshot:
        over_admitted = self._over_admitted
        while over_admitted and not over_admitted[0].waits_for_turn:
            over_admitted.popleft()
        load = self._load
        has_room = len(load.running) + len(load.queue.waiting) < load.capacity
        return snapshot(
            self._context,
            load,
            self._loop.now,
            0 if has_room else self._context.siblings_ready(),  # of no concern then
            over_admitted=len(over_admitted),
            siblings_had_time=self._siblings_had_time,
        )

    def _take_and_place(self, index: int, listener: socket.socket) -> Connection | bool:
        """The same, with a policy that says which worker's it is; True also for one that was given to another."""
        try:
            descriptor, peer = listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return False
        except OSError as error:
            return not self._reserve.cannot_accept(error)
        assert self._scheduler is not None, "only then this is called"
        self._cells[_ACCEPTED] += 1
        if self._scheduler.place_new(descriptor, self._factory.numbers[index], peer):
            self._cells[_GIVEN] += 1
            return True
        return self._factory.open(descriptor, index, peer, b"", self._preamble)

    def _take_next(self, index: int, listener: socket.socket) -> Connection | bool:
        """The next connection from a listener; False when there is none, True for a client that has left already."""
        try:
            if self._arrivals is not None:
                found = self._arrivals.accept(listener.fileno())
                return found is not None and self._factory.open(found[0], index, found[1], b"")
            # Without a socket object of the usual class, which costs more than all the rest of accepting.
            descriptor, peer = listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return False  # a sibling was quicker
        except OSError as error:
            return not self._reserve.cannot_accept(error)
        self._cells[_ACCEPTED] += 1
        return self._factory.open(descriptor, index, peer, b"", self._preamble)

    # -- room

    def _retry_at(self, moment: float) -> None:
        if self._retries_at <= self._loop.now or moment < self._retries_at:
            self._retries_at = moment
            self._loop.call_at(moment, self._retry)

    def _retry(self) -> None:
        """Siblings have had the time to take new clients: one more may come in here, although there is no room."""
        if not self._listeners.saturated:
            return
        self._silent.make_place()
        if may_over_admit(self._snapshot()):
            self._siblings_had_time = True
            self._resume()

    def _resume(self) -> None:
        self._listeners.saturated = False
        self._listeners.resume()


CALLS_APPLICATION = frozenset((Acceptor._answer_arrivals.__code__, Adoption.take_mail.__code__))
"""The functions whose compiled callees call the application and catch what it raises: those have no frames."""
