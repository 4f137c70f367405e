"""The drain, how a worker comes to its end: one code path for reload, recycling, scaling and stop.

A *retiring* worker has siblings: it stops listening at once and passes its idle connections to them. Only listeners
that no newer sibling has keep it a moment: it empties their queues before. A worker of a *stopping* server has no
siblings: it empties the accept queue, gives each kept connection the chance of one more request, which is answered
with ``Connection: close``, and then closes what stays silent.
"""

import enum
import math
from itertools import islice

from wsgicluster.counting import count_of
from wsgicluster.dataclass import dataclass
from wsgicluster.errors import Overloaded
from wsgicluster.ipc.reasons import CloseReason
from wsgicluster.ipc.scoreboard import Cell, ServerState
from wsgicluster.worker.connection.closing import Lingering
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.hosting.host import ConnectionHost
from wsgicluster.worker.intake.acceptor import Acceptor
from wsgicluster.worker.intake.adoption import Adoption
from wsgicluster.worker.intake.listeners import WatchedListeners
from wsgicluster.worker.intake.mail import ConnectionMail
from wsgicluster.worker.intake.policy import RETRY_S, SILENCE_S, STOP_GRACE_S, STOP_NOTICE_GRACE_S
from wsgicluster.worker.lifecycle.arbiter_channel import ArbiterChannel
from wsgicluster.worker.lifecycle.exit_request import ExitRequest
from wsgicluster.worker.loop.loop import do_nothing
from wsgicluster.worker.runner import Load

AWAY_S = 1
"""When a client may try again whose request came too late for a worker that leaves."""

SHOWN_CUT = 10
"""So many of the requests that are cut are named in the log."""


class DrainStage(enum.Enum):
    """How far a drain has come."""

    UNDECIDED = enum.auto()
    """Whether the server stops, or siblings stay, is not known yet."""
    PASSING_ON = enum.auto()
    """Siblings take what is idle."""
    WAITING = enum.auto()
    """Silent connections are closed, and what runs is waited for."""


@dataclass(frozen=True)
class DrainParts:
    """What a `Drain` brings to its end."""

    listeners: WatchedListeners
    acceptor: Acceptor
    adoption: Adoption
    load: Load
    host: ConnectionHost
    exit_request: ExitRequest
    channel: ArbiterChannel
    mail: ConnectionMail


class Drain:
    """The end of one worker, advanced once in each turn of its loop.

    Times run from when the worker was asked to leave: it may have been in the middle of a request.
    """

    def __init__(self, context: WorkerContext, parts: DrainParts) -> None:
        self.stage = DrainStage.UNDECIDED
        self._context = context
        self._loop = context.loop
        self._connections = context.connections
        self._parts = parts
        self._undecided_since = math.inf
        self._silence_ends = self._deadline = math.inf

    def step(self) -> bool:
        """True when nothing is left to do."""
        if self.stage is DrainStage.UNDECIDED and not self._decide():
            return False
        listeners = self._parts.listeners
        if listeners.listening and self._parts.acceptor.accept_all():
            listeners.close_all()
        now = self._loop.now
        if now >= self._silence_ends:
            self.stage = DrainStage.WAITING
            self._close_silent()
        elif self.stage is DrainStage.PASSING_ON:
            self._pass_on()
        if not self._connections and not self._parts.exit_request.retiring:
            # No other worker is left for what lies in the slot's mailbox.
            self._parts.adoption.take_mail()
        if not self._connections:
            return not listeners.listening
        if now >= self._deadline:
            self._cut()
            return True
        return self._only_timed_out()

    def _decide(self) -> bool:
        """Whether it is known by now how to leave: with siblings that stay, or with the server."""
        request = self._parts.exit_request
        server = self._context.assignment.board.told()
        retiring = request.may_retire(server)
        if retiring:
            self._undecided_since = min(self._undecided_since, self._loop.now)
            grace_s = STOP_GRACE_S if server is ServerState.LEAVING else STOP_NOTICE_GRACE_S
            if self._loop.now < self._undecided_since + grace_s:
                self._loop.call_at(self._undecided_since + grace_s, do_nothing)
                return False
        if not self._context.state.orphaned:
            self._parts.channel.receive()  # what was sent before the signal came
        request.retiring = retiring
        self._silence_ends = request.asked_at + SILENCE_S
        self._deadline = request.asked_at + self._context.settings.graceful_timeout
        self._loop.call_at(self._silence_ends, do_nothing)
        self._loop.call_at(self._deadline, do_nothing)
        self.stage = DrainStage.WAITING
        if retiring:
            self.stage = DrainStage.PASSING_ON
            self._parts.listeners.close_shared()
        self._parts.mail.leave(retiring)
        for connection in list(self._connections):
            if isinstance(connection.phase, Lingering):
                connection.phase.hurry()
            self._parts.host.waits(connection)
        return True

    def _pass_on(self) -> None:
        waiting = False
        for connection in list(self._connections):
            if connection.between_requests:
                self._parts.host.waits(connection)
                waiting = waiting or connection.between_requests
        if waiting:
            self._loop.call_at(self._loop.now + RETRY_S, do_nothing)

    def _close_silent(self) -> None:
        for connection in list(self._connections):
            if connection.state is ConnectionState.OPENING:
                # It has had its time, and no request is lost with it.
                connection.receive_if_open()
                if connection.state is ConnectionState.OPENING:
                    connection.close(CloseReason.STOP)
            elif _is_silent(connection):
                # A last look: what has come since the loop looked is still answered.
                connection.reading.receive()
                if _is_silent(connection):
                    connection.close(CloseReason.STOP)

    def _cut(self) -> None:
        """The time is over: answer the requests that have not begun to run, and log those that do."""
        load, slot = self._parts.load, self._context.slot
        for connection in load.queue.withdraw(lambda _: True):
            connection.refuse(Overloaded("the server had to end before the request could be run", AWAY_S, "stop"))
        count = sum(_is_in_request(connection) for connection in self._connections)
        if not count:
            return
        self._context.page.cells[Cell.CUT] += count
        lines = [runner.line.decode("latin-1")[:512] for runner in islice(load.running, SHOWN_CUT)]
        self._context.log.warning(
            "worker %d: graceful_timeout is over; cut %s%s%s",
            slot, count_of(count, "request"), ": " if lines else "", ", ".join(lines),
        )  # fmt: skip

    def _only_timed_out(self) -> bool:
        """What is left has had its time, and is not waited for."""
        load = self._parts.load
        count = sum(runner.reported for runner in load.running)
        if load.queue.waiting or count < len(self._connections):
            return False
        self._context.page.cells[Cell.CUT] += count
        requests = count_of(count, "timed-out request")
        self._context.log.warning("worker %d: exiting with %s still running", self._context.slot, requests)
        return True


def _is_silent(connection: Connection) -> bool:
    return connection.state is ConnectionState.READING and connection.reader.idle and not connection.reader.rest


def _is_in_request(connection: Connection) -> bool:
    if connection.state is ConnectionState.READING:
        return not connection.reader.idle or bool(connection.reader.rest)
    return connection.state in (ConnectionState.RUNNING, ConnectionState.SENDING)
