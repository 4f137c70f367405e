"""The sync worker: the application runs in the loop's own thread, one request at a time, to its end."""

import math
import time
from typing import Any

from wsgicluster.http import core
from wsgicluster.http.connection import BodyStore
from wsgicluster.scoreboard import Cell, WorkerState
from wsgicluster.worker.admission import LOOK_S
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.drain import give
from wsgicluster.worker.exchange import PlainExchange
from wsgicluster.worker.relief import Relief, ToldLoop
from wsgicluster.worker.server import LoopWorker
from wsgicluster.wsgi.input import MEMORY_BYTES

TOLD_S = 1.0
"""How often a worker that works alone looks whether it has siblings."""

GIVEN_AT_ONCE = 64


class SyncWorker(LoopWorker):
    """One thread for everything; where compiled code is in use it serves the usual requests.

    A request that keeps the thread for ``slow_s`` is answered with ``Connection: close``: connections that a worker
    keeps are lost with it when it is killed, and where requests take this long, opening one anew costs next to
    nothing. Those that have something to say while it works go to siblings; see `wsgicluster.worker.relief`.
    """

    loop_class = ToldLoop
    loop: ToldLoop

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._relief = Relief(self.assignment.page, self.loop, self._relieve)
        self._looks_at = 0.0
        self.loop.told = self._be_told
        self.slow_s = self.settings.keepalive_slow or math.inf
        if not core.compiled:
            if self.admission is None and self.ids is None:
                self.exchange = PlainExchange(self.cycle, self._trust, self.timing.keepalive_s, self.slow_s)
            return
        from wsgicluster.worker._exchange import BodyBuffer, Exchange, Peer, keep_freed_memory

        keep_freed_memory()
        self._peer = Peer
        self._body_buffer = BodyBuffer
        self.exchange = self.arrivals = self.loop.batch = Exchange(
            self.cycle, self.limits[False], self._trust, self.timing.keepalive_s, self.slow_s
        )
        self.exchange.ids = self.ids
        self.exchange.aged_ms = int(min(self.settings.queue_timeout, LOOK_S) * 1000 + 0.999)

    def open_body(self, length: int) -> BodyStore:
        """Where a body that arrives in pieces goes; ``length`` is CHUNKED when it is not known."""
        if core.compiled and 0 < length <= MEMORY_BYTES:
            return self._body_buffer(length)
        return super().open_body(length)

    def adopt(self, connection: Connection, template: dict[str, Any]) -> None:
        """Tell the compiled code what it needs of a new connection."""
        if core.compiled:
            connection.peer = self._peer(connection, template)

    def _be_told(self) -> None:
        """There is work: have the other thread look after those who would wait for it, if there are any."""
        # One is enough: the slow request may be that of a client who is only about to come in.
        if not self.connections or not (self._relief.begun or self.loop.now >= self._looks_at):
            return
        self._looks_at = self.loop.now + TOLD_S
        if self.assignment.board.ready_workers() > 1:
            self._relief.wake()
            self.cycle.relief = self._relief
            if core.compiled and self.exchange is not None:
                self.exchange.relief = self._relief  # type: ignore[attr-defined]

    def _relieve(self) -> None:
        """In the other thread, while a request runs."""
        page = self.assignment.page
        if self.assignment.board.ready_workers() <= (page.cells[Cell.STATE] == WorkerState.READY):
            return
        exchange = self.exchange
        for handler in self.loop.ready(GIVEN_AT_ONCE):
            found = getattr(handler, "__self__", None)
            if (
                isinstance(found, Connection)
                and found.between_requests
                and found.movable
                and not (exchange is not None and (exchange.serving is found or exchange.holds(found)))
            ):
                give(found, self.hand_off_send)

    def rescue(self) -> None:
        """As every worker's; from then on nothing is given away."""
        self._relief.end()
        super().rescue()

    def waiting(self) -> list[Connection]:
        """The connections that wait for their clients; the one in whose request a signal has come is none of them."""
        serving = self.exchange.serving if self.exchange is not None else None
        return [c for c in self.connections if c.between_requests and c is not serving]

    def run(self, connection: Connection) -> None:
        """Call the application here and now."""
        if not self.complete(connection):
            return
        reader = connection.reader
        environ = reader.environ
        # The application owns it now: it goes with its last reference, not with the connection.
        del reader.environ
        connection.finished(self.cycle.serve(connection, environ, reader.flags, reader.line))

    def may_keep(self) -> bool:
        """Whether connections are to be kept, now."""
        return (
            not (self.draining or self.held)
            and self.timing.keepalive_s > 0
            and time.monotonic() - self.cycle.started < self.slow_s
        )
