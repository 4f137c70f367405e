"""A worker that waits in an event loop: its life, recycling, drain; and what users' own classes may make anew.

The kinds of worker differ in `run`: where the application is called.
"""

import io
import logging
import math
import os
import time
from collections.abc import Callable, Iterable
from operator import methodcaller
from typing import Any, TypeVar

from wsgicluster import orphan
from wsgicluster.cluster.assignment import Assignment
from wsgicluster.errors import Overloaded, ProtocolError, ServerError
from wsgicluster.logs import Logs
from wsgicluster.messages import ListenersEnd, Message, Ready
from wsgicluster.scoreboard import Cell, ServerState, WorkerState
from wsgicluster.settings import Settings
from wsgicluster.worker.admission import Admission, Tally
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.cycle import Cycle
from wsgicluster.worker.drain import Drain, rescue
from wsgicluster.worker.loop import do_nothing
from wsgicluster.worker.parent import Parent
from wsgicluster.worker.reception import Reception
from wsgicluster.worker.recycle import Recycling
from wsgicluster.worker.rules import request_ids
from wsgicluster.worker.signals import WorkerSignals

Answer = TypeVar("Answer")

HOLD_S = 0.05

SHOWN_CUT = 10

AWAY_S = 1
"""When a client may try again whose request came too late for a worker that leaves."""

UNASKED_S = 0.1
"""A TERM may come from outside, to all processes at once: the arbiter gets this long to say that the server stops."""


class LoopWorker(Reception):
    """One worker process, from its first listener to its last connection.

    A class of the user's own is derived from one of the kinds, and may override `setup`, `after_fork`, `begin`,
    `call_application` and `end`. It may use ``settings``, ``application``, ``slot``, ``draining`` and ``log``.
    """

    def __init__(
        self, settings: Settings, assignment: Assignment, cycle: Cycle, recycling: Recycling, logs: Logs
    ) -> None:
        super().__init__(settings, assignment, logs)
        self.cycle = cycle
        self.slot = assignment.slot
        self.application = cycle.application
        if type(self).call_application is not LoopWorker.call_application:
            # Else the application is called straight away, without a detour for each request.
            cycle.application = self.call_application
        self.signals: WorkerSignals | None = None
        self.draining = False
        self.orphaned = False
        self._deaf = False
        self.parent = Parent(assignment.channel, self._lose_parent, self._hear)
        self._logs = logs
        self._access = logs.access
        self._recycling = recycling
        self._drain: Drain | None = None
        self._asked_at = 0.0
        self._decide_at = math.inf
        self._hold_again_at = 0.0
        self.on_request = self.run
        self.admission: Admission | None = None
        if settings.queue_timeout:
            self.admission = Admission(self, settings.queue_timeout)
            self.on_request = self.admission.admit
            self._shed = Tally(self.loop, self._say_shed)
        self.ids = request_ids(settings)
        if self.ids is not None:
            cycle.application = self.ids.wrap(cycle.application)
            self._on_named_request, self.on_request = self.on_request, self._name_request

    # -- what a class of the user's own may override

    @classmethod
    def setup(cls) -> None:
        """Called before the application is imported, in each process that imports it; nothing in it runs as root."""

    @classmethod
    def after_fork(cls) -> None:
        """Called first in a worker that has been forked after the application was imported (``preload_app``)."""

    def begin(self) -> None:
        """Called when the application is there, before the first request."""

    def call_application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Called for each request, where its kind has it run; as PEP 3333 has it of an application."""
        response: Iterable[bytes] = self.application(environ, start_response)
        return response

    def end(self) -> None:
        """Called after the last request, unless the worker is ended by force."""

    # -- what a kind decides

    def run(self, connection: Connection) -> None:
        """Have the application answer the request that the connection's reader holds."""
        raise NotImplementedError

    def complete(self, connection: Connection) -> bool:
        """Give that request's environ its body and its scheme; False when it had to be refused."""
        reader = connection.reader
        body = reader.body
        reader.environ["wsgi.input"] = io.BytesIO() if body is None else body
        if connection.trusted:
            try:
                self._trust.set_scheme(reader.environ)
            except ProtocolError as error:
                connection.refuse(error)
                return False
        # A body goes with the last reference to it, not with the connection.
        del reader.body
        return True

    @staticmethod
    def aside(call: Callable[[], Answer]) -> Answer:
        """Call before this kind serves, where its requests would run: in the main thread, and nothing else runs."""
        return call()

    @staticmethod
    def waiting_stacks() -> str:
        """Where code waits that is in no thread now, as ``faulthandler`` writes stacks."""
        return ""

    # -- the life of the worker

    def serve(self, ready: Ready) -> None:
        """Listen, say so, and serve until drained."""
        self.loop.add(self.parent.fileno(), self.parent.on_event)
        os.register_at_fork(after_in_child=self._abandon)
        if self.arrivals is not None:
            self.arrivals.serve_listeners(self._open, self._templates)
        self.listen()
        cells = self.assignment.page.cells
        cells[Cell.STATE] = WorkerState.READY
        self.parent.say(ready)
        while True:
            self.loop.turn(methodcaller("expired"))
            self._record()
            self.flush_logs()
            if self.signals is not None and self.signals.reopen:
                self.signals.reopen = False
                self._logs.reopen()
            if self.draining and self._drain_step():
                return

    def _record(self) -> None:
        cells = self.assignment.page.cells
        cells[Cell.BYTES_IN] = self.received_bytes + (self.exchange.received_bytes if self.exchange else 0)
        cells[Cell.CONNECTIONS] = len(self.connections)
        requests = cells[Cell.REQUESTS]
        wanted = self._recycling.check(self.loop.now, requests)
        cells[Cell.RESIDENT] = self._recycling.resident_bytes
        if wanted is not None:
            self.parent.say(wanted)
        elif (moment := self._recycling.look_again_at) is not None:
            self.loop.call_at(moment, do_nothing)
        if (below := self._recycling.yields_to(requests)) and not self.draining:
            self._hold(below)

    def begin_drain(self) -> None:
        """Leave; called from a signal handler too, so that the request in progress is already told."""
        if not self.draining:
            self._asked_at = time.monotonic()
        self.draining = True
        self.assignment.page.cells[Cell.STATE] = WorkerState.DRAINING

    def flush_logs(self) -> None:
        """Write what the requests of this turn have left to be logged."""
        if self._access is not None:
            self._access.flush()

    def rescue(self) -> None:
        """Before a hung worker is ended: give its waiting connections to siblings, and log what it has served."""
        rescue(self.waiting(), self.hand_off_send)
        self.flush_logs()

    def _drain_step(self) -> bool:
        drain = self._drain
        if drain is None:
            retiring = not self.orphaned and self.assignment.board.told() is not ServerState.STOPPING
            if retiring and self.loop.now < self._decide_at:
                self._decide_at = min(self._decide_at, self.loop.now + UNASKED_S)
                self.loop.call_at(self._decide_at, do_nothing)
                return False
            if not self.orphaned:
                self.parent.listen()  # what was said before the signal came
            drain = self._drain = Drain(self, retiring, self._asked_at, self.settings.graceful_timeout)
            drain.begin()
        if not drain.step():
            return False
        if drain.cut:
            self._say_cut(drain.cut)
        return True

    def _say_cut(self, count: int) -> None:
        self.assignment.page.cells[Cell.CUT] = count
        lines = [line.decode("latin-1")[:512] for line in self.lines_running()[:SHOWN_CUT]]
        self.log.warning(
            "worker %d: graceful_timeout is over; cut %d requests%s%s",
            self.assignment.slot, count, ": " if lines else "", ", ".join(lines),
        )  # fmt: skip

    def turn_away(self) -> None:
        """Answer the requests that nobody has begun to run, and nobody will."""
        for connection in self.withdraw(lambda _: True):
            connection.refuse(Overloaded("the server had to end before the request could be run", AWAY_S))

    def lines_running(self) -> list[bytes]:
        """The request lines of the requests that run, where a kind runs them while its loop turns."""
        return []

    def _abandon(self) -> None:
        """In a process that the application has forked: nothing of the worker's is this process's to use or hold."""
        self.cycle.abandoned = True
        for connection in self.connections:
            connection.contact.close()
            connection.close_socket()
        if self.arrivals is not None:
            self.arrivals.abandon()
        for sock in (self.assignment.hand_off_receive, self.assignment.hand_off_send, *self.assignment.listeners):
            sock.close()
        self.parent.close()
        self.loop.close()

    def bereave(self) -> None:
        """The arbiter is gone: leave; called from a signal handler too, as soon as that is so."""
        if not self.orphaned:
            self.orphaned = True
            self.begin_drain()
            orphan.end_after(self.settings.graceful_timeout, self.assignment.stacks_fd)

    def _lose_parent(self) -> None:
        self.bereave()
        if not self._deaf:
            self._deaf = True
            self.loop.remove(self.parent.fileno())
            self.log.warning(
                "worker %d: the arbiter is gone; it finishes what it runs and leaves", self.assignment.slot
            )

    def _hear(self, message: Message) -> None:
        if isinstance(message, ListenersEnd):
            self.last_here.update(message.numbers)

    def _hold(self, below: int) -> None:
        """Far beyond a limit: leave what is new to siblings that have served fewer, as long as there are any."""
        # Said first, asked then: of two workers in this state one at least sees the other and goes on.
        cells = self.assignment.page.cells
        cells[Cell.STATE] = WorkerState.HELD
        held = self.assignment.board.ready_workers(below) > 0
        if not held:
            cells[Cell.STATE] = WorkerState.READY
        if held is not self.held:
            self.held = held
            if held:
                self._wait_for_clients(False)
            else:
                self._resume()
        if self.loop.now >= self._hold_again_at:
            self._hold_again_at = self.loop.now + HOLD_S
            self.loop.call_at(self._hold_again_at, do_nothing)

    def _name_request(self, connection: Connection) -> None:
        reader = connection.reader
        assert self.ids is not None, "else nobody would ask for names"
        connection.own_fields, reader.line = self.ids.identify(reader.environ, connection.trusted, reader.line)
        self._on_named_request(connection)

    # -- requests that have waited

    def queued(self) -> int:
        """Requests that nobody runs yet."""
        return 0

    def withdraw(self, _unwanted: Callable[[Connection], bool]) -> list[Connection]:
        """Take the oldest out of the queue, as long as they are unwanted."""
        return []

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have the loop call something."""
        self.loop.soon.append(call)

    def shed(self, connection: Connection, gone: bool) -> None:
        """Count a request that has waited for too long to be run."""
        self.assignment.page.cells[Cell.SHED] += 1
        self._shed.add()
        if gone:
            self.log.debug("%s: has left while its request waited", connection.client.decode("latin-1"))

    def _say_shed(self, count: int) -> None:
        self.log.warning(
            "worker %d: overloaded: %d %s not run after having waited for more than %g s (queue_timeout), or until the "
            "client had left",
            self.assignment.slot, count, "request" if count == 1 else "requests", self.settings.queue_timeout,
        )  # fmt: skip

    # -- what connections ask

    def waits(self, connection: Connection) -> None:
        """A connection of a draining worker is idle."""
        if self._drain is not None:
            self._drain.waits(connection)

    def may_keep(self) -> bool:
        """Whether connections are to be kept, now."""
        return not (self.draining or self.held) and self.timing.keepalive_s > 0

    def date(self) -> str:
        """The text of a ``Date`` field."""
        return self.cycle.date()

    def broken(self, connection: Connection, error: ServerError) -> None:
        """Log why a response could not be sent to its end."""
        self.log.error("%s: the response is cut off: %s", connection.client.decode("latin-1"), error)

    def refused(self, connection: Connection, error: ProtocolError) -> None:
        """Log what was refused: our own trouble as an error, a client's, or what there is much of, as a remark."""
        ours = error.status >= 500 and error.status not in (501, 505) and not isinstance(error, Overloaded)
        level = logging.ERROR if ours else logging.DEBUG
        self.log.log(level, "%s: refused with %d: %s", connection.client.decode("latin-1"), error.status, error.detail)
