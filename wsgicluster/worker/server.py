"""A worker that waits in an event loop: listeners, connections, recycling, drain.

The kinds of worker differ in `run`: where the application is called.
"""

import errno
import logging
import math
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any

from wsgicluster.cluster.assignment import Assignment
from wsgicluster.errors import ProtocolError, ServerError
from wsgicluster.http.connection import BodyStore
from wsgicluster.logs import Logs
from wsgicluster.messages import Ready
from wsgicluster.scoreboard import Cell, ServerState, WorkerState
from wsgicluster.settings import Settings
from wsgicluster.worker.connection import Connection, State
from wsgicluster.worker.cycle import Cycle
from wsgicluster.worker.drain import Drain, rescue
from wsgicluster.worker.handoff import Nudge, nudge, take_over
from wsgicluster.worker.host import Arrivals, Exchange
from wsgicluster.worker.loop import EXCLUSIVE_READ, Loop, do_nothing
from wsgicluster.worker.opening import Entrance, introduce, peer_text
from wsgicluster.worker.parent import Parent
from wsgicluster.worker.recycle import Recycling
from wsgicluster.worker.rules import head_limits, reader_class, trust
from wsgicluster.worker.signals import WorkerSignals
from wsgicluster.worker.timing import Timing
from wsgicluster.wsgi.environ import ErrorStream, connection_template, listener_template
from wsgicluster.wsgi.input import StoredBody

NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ACCEPT_PAUSE_S = 0.5
ACCEPT_S = 0.0005
OPEN_FOR_ONE_MORE = 32
HOLD_S = 0.05
FULL_AGAIN_S = 5.0
"""A worker that has found room for this long, and then none again, says so again."""

UNASKED_S = 0.1
"""A TERM may come from outside, to all processes at once: the arbiter gets this long to say that the server stops."""

HANDED_A_TURN = 16


class LoopWorker:
    """One worker process, from its first listener to its last connection."""

    def __init__(
        self, settings: Settings, assignment: Assignment, cycle: Cycle, recycling: Recycling, logs: Logs
    ) -> None:
        self.assignment = assignment
        self.settings = settings
        self.cycle = cycle
        self.log = log = logs.error
        self.signals: WorkerSignals | None = None
        self.loop = self.loop_class(assignment.page, settings.timeout)
        self.timing = Timing.of(
            settings.keepalive, settings.head_timeout, settings.body_timeout, settings.write_timeout
        )
        self.upload_folder = settings.tmp_upload_dir
        self.hand_off_send = assignment.hand_off_send
        self.connections: set[Connection] = set()
        self.received_bytes = 0
        self.exchange: Exchange | None = None
        self.arrivals: Arrivals | None = None
        self.entrance: Entrance | None = None
        self.listening = False
        self.draining = False
        self.held = False
        self.orphaned = False
        self.parent = Parent(assignment.channel, self._lose_parent)
        self._logs = logs
        self._access = logs.access
        self._recycling = recycling
        self._drain: Drain | None = None
        self._asked_at = 0.0
        self._decide_at = math.inf
        self._paused = True
        self._full_at = -math.inf
        self._trust = trust(settings)
        self._reader_class = reader_class(settings)
        self.limits = head_limits(settings)
        facts: dict[str, Any] = {
            "wsgi.multithread": self.multithread,
            "wsgi.multiprocess": settings.workers > 1,
            "wsgicluster.slot": assignment.slot,
        }
        self._templates = [
            listener_template(listener.getsockname(), self.error_stream(log.error), facts)
            for listener in assignment.listeners
        ]

    multithread = False
    loop_class = Loop
    connection_class = Connection
    error_stream = ErrorStream

    def run(self, connection: Connection) -> None:
        """Have the application answer the request that the connection's reader holds."""
        raise NotImplementedError

    # -- the life of the worker

    def serve(self, ready: Ready) -> None:
        """Listen, say so, and serve until drained."""
        self.loop.add(self.parent.fileno(), self.parent.on_event)
        os.register_at_fork(after_in_child=self._abandon)
        if self.arrivals is not None:
            self.arrivals.serve_listeners(self._open, self._templates)
        self._listen()
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
        if self._recycling.beyond_ceiling(requests) and not self.draining:
            self._hold()

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
            drain = self._drain = Drain(self, retiring, self._asked_at, self.settings.graceful_timeout)
            drain.begin()
        if not drain.step():
            return False
        if drain.cut:
            self.log.warning("worker %d: graceful_timeout is over; cut %d connections", self.assignment.slot, drain.cut)
        return True

    def _abandon(self) -> None:
        """In a process that the application has forked: nothing of the worker's is this process's to use or hold."""
        self.cycle.abandoned = True
        for connection in self.connections:
            connection.close_socket()
        if self.arrivals is not None:
            self.arrivals.abandon()
        for sock in (self.assignment.hand_off_receive, self.assignment.hand_off_send, *self.assignment.listeners):
            sock.close()
        self.parent.close()
        self.loop.close()

    def _lose_parent(self) -> None:
        if not self.orphaned:
            self.orphaned = True
            self.begin_drain()
            self.loop.remove(self.parent.fileno())

    # -- listeners

    def _listen(self) -> None:
        self.listening = True
        self._wait_for_clients(True)

    def stop_listening(self) -> None:
        """Close this process's copies of the listeners, and take no connection from siblings any more."""
        if not self.listening:
            return
        self._wait_for_clients(False)
        # Wake-ups that were for this worker alone, and came too late for it, are a sibling's now.
        nudge(self.hand_off_send)
        self.listening = False
        for listener in self.assignment.listeners:
            listener.close()
        self.assignment.hand_off_receive.close()

    def _on_listener(self, accept: Callable[[], None], _events: int) -> None:
        # Connections that are open come first: what is accepted now must not wait behind them
        # while a sibling has nothing to do.
        self.loop.last.append(accept)

    def accept_all(self) -> bool:
        """Empty the accept queues; False when descriptors ran out on the way.

        Nobody is answered before the queues are empty: under steady load they would never be.
        """
        self._wait_for_clients(True)
        for index, listener in enumerate(self.assignment.listeners):
            while not self._paused and (found := self._take(index, listener)):
                if isinstance(found, Connection):
                    self.loop.soon.append(found.receive_if_open)
        return not self._paused

    def _accept(self, index: int, listener: socket.socket) -> None:
        """Accept a connection and answer its request; and others as long as they are answered, closed, and quick.

        Few connections that stay are taken in one turn: their next requests would wait behind those of the others,
        while a sibling may be idle. With many open it may be more, or the last to come would wait for long.
        """
        ends = time.monotonic() + ACCEPT_S
        most = 1 + len(self.connections) // OPEN_FOR_ONE_MORE
        while self.listening and not self._paused:
            if self.arrivals is None:
                found = self._take(index, listener)
                if isinstance(found, Connection):
                    found.receive_if_open()
                    most -= found.state is not State.CLOSED
                if not found or not most or time.monotonic() >= ends:
                    return
                continue
            try:
                self.arrivals.answer_arrivals(listener.fileno(), index, ends, most)
            except OSError as error:
                if not self._cannot_accept(error):
                    continue
            return

    def _cannot_accept(self, error: OSError) -> bool:
        """Whether an error says that nothing can be accepted now; else one client has gone already."""
        if error.errno in NO_DESCRIPTORS:
            self._pause(error)
            return True
        return False  # ECONNABORTED, EPROTO and the like; the next client may be there

    def _take(self, index: int, listener: socket.socket) -> Connection | bool:
        """The next connection from a listener; False when there is none, True for one that is gone already."""
        try:
            if self.arrivals is not None:
                found = self.arrivals.accept(listener.fileno())
                return found is not None and self._open(found[0], index, found[1], b"")
            sock, peer = listener.accept()
        except BlockingIOError:
            return False  # a sibling was quicker
        except OSError as error:
            return not self._cannot_accept(error)
        sock.setblocking(False)
        return self._open(sock, index, peer, b"", self.entrance)

    def _pause(self, error: OSError) -> None:
        self._wait_for_clients(False)
        # The wake-up that has led here was for one worker alone: a sibling with room has to be told.
        nudge(self.hand_off_send)
        now = self.loop.now
        said, self._full_at = now - self._full_at < FULL_AGAIN_S, now
        if not said:
            self.log.error(
                "worker %d: cannot accept: %s, with %d connections open; accepting again as soon as that is over "
                "(raise the limit on open files, or lower keepalive)",
                self.assignment.slot, error.strerror, len(self.connections),
            )  # fmt: skip
        self.loop.call_at(self.loop.now + ACCEPT_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if not self.held:
            self._wait_for_clients(True)

    def _wait_for_clients(self, wanted: bool) -> None:
        if not self.listening or wanted is not self._paused:
            return
        self._paused = not wanted
        # Without room for a descriptor a connection from a sibling would be lost on its way.
        receiver = self.assignment.hand_off_receive.fileno()
        if wanted:
            self.loop.add(receiver, self._on_hand_off, EXCLUSIVE_READ)
        else:
            self.loop.remove(receiver)
        for index, listener in enumerate(self.assignment.listeners):
            if wanted:
                accept = partial(self._accept, index, listener)
                self.loop.add(listener.fileno(), partial(self._on_listener, accept), EXCLUSIVE_READ)
            else:
                self.loop.remove(listener.fileno())

    def _hold(self) -> None:
        """Far beyond a limit: leave what is new to siblings, as long as there are any."""
        # Said first, asked then: of two workers in this state one at least sees the other and goes on.
        cells = self.assignment.page.cells
        cells[Cell.STATE] = WorkerState.HELD
        self.held = self.assignment.board.ready_workers() > 0
        if not self.held:
            cells[Cell.STATE] = WorkerState.READY
        self._wait_for_clients(not self.held)
        self.loop.call_at(self.loop.now + HOLD_S, do_nothing)

    # -- connections

    def _open(
        self, sock: socket.socket | int, index: int, peer: Any, rest: bytes, entrance: Entrance | None = None
    ) -> Connection:
        template = connection_template(self._templates[index], peer)
        trusted = self._trust.trusts(template["REMOTE_ADDR"])
        reader = self._reader_class(template, self.limits[trusted], self.open_body, rest)
        kind = self.connection_class if entrance is None else entrance.connection_class
        connection = kind(self, sock, index, reader)
        connection.client = peer_text(peer)
        connection.trusted = trusted
        self.connections.add(connection)
        self.adopt(connection, template)
        if entrance is not None:
            entrance.admit(connection)
        return connection

    def open_body(self, length: int) -> BodyStore:
        """Where a body that arrives in pieces goes; ``length`` is CHUNKED when it is not known."""
        return StoredBody(self.upload_folder, length)

    def adopt(self, connection: Connection, template: dict[str, Any]) -> None:
        """A connection is new; for kinds that keep something of their own for each."""

    def waiting(self) -> list[Connection]:
        """The connections that wait for their clients."""
        return [each for each in self.connections if each.state is State.READING and each.reader.idle]

    def _on_hand_off(self, _events: int) -> None:
        self.loop.last.append(self._take_over)

    def _take_over(self) -> None:
        for _ in range(HANDED_A_TURN):
            handed = None
            if self.listening and not self._paused:
                handed = take_over(self.assignment.hand_off_receive)
            if handed is None:
                return
            if isinstance(handed, Nudge):
                for index, listener in enumerate(self.assignment.listeners):
                    self._accept(index, listener)
                continue
            try:
                peer = handed.sock.getpeername()
            except OSError:
                handed.sock.close()  # the client left while the connection was under way
                continue
            connection = self._open(handed.sock, handed.listener, peer, handed.rest)
            connection.kept = handed.kept
            introduce(connection, handed.introduction, self._trust.peers)
            connection.resume()

    def waits(self, connection: Connection) -> None:
        """A connection of a draining worker is idle."""
        if self._drain is not None:
            self._drain.waits(connection)

    def left(self, connection: Connection) -> None:
        """A connection is closed or handed over."""
        self.connections.discard(connection)

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
        """Log what was refused: our own trouble as an error, a client's as a remark."""
        level = logging.ERROR if error.status >= 500 and error.status not in (501, 505) else logging.DEBUG
        self.log.log(level, "%s: refused with %d: %s", connection.client.decode("latin-1"), error.status, error.detail)
