"""The sync worker: the application runs in the loop's own thread, one request at a time, to its end."""

import math
import sys
import time
from collections.abc import Callable, Collection
from contextvars import copy_context
from typing import Any, Protocol

from wsgicluster.http import core
from wsgicluster.ipc.scoreboard import Cell, Page
from wsgicluster.settings import Settings
from wsgicluster.settings.types.worker import KINDS
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.host import Arrivals, FastPath
from wsgicluster.worker.connection.keep_alive import KeepAlive
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.from_settings import head_limits
from wsgicluster.worker.intake.load_shedding import admission_of
from wsgicluster.worker.intake.policy import INLINE_BATCH
from wsgicluster.worker.kinds.parts import KindParts, RunnerParts
from wsgicluster.worker.kinds.requests import finish_environ
from wsgicluster.worker.kinds.slow_requests import SlowRequests, SlowRequestThread
from wsgicluster.worker.kinds.sync.client_waits import InlineWaits
from wsgicluster.worker.kinds.sync.fast_path import PythonFastPath
from wsgicluster.worker.kinds.sync.notifying_loop import NotifyingLoop
from wsgicluster.worker.kinds.sync.slow_request_monitor import SlowRequestMonitor
from wsgicluster.worker.kinds.sync.waiting_clients import WaitingClients
from wsgicluster.worker.request.bodies import worker_bodies
from wsgicluster.worker.request.cycle import Cycle
from wsgicluster.worker.request.in_flight import RequestRunner
from wsgicluster.worker.request.leaves import receiver, serve
from wsgicluster.worker.request.outcome import Outcome
from wsgicluster.worker.runner import KindRunner, NoQueue, Step
from wsgicluster.worker.transport.transport import RECEIVE_BYTES

_STARTED = int(Cell.STARTED)

Serve = Callable[[Cycle, Connection, dict[str, Any], int, bytes], Outcome]


class Way(Protocol):
    """How requests are answered: by the cycle alone, or by one of the fast paths where they can."""

    fast_path: FastPath[Connection] | None
    arrivals: Arrivals[Connection] | None
    serve: Serve
    """How a request is answered that the fast path does not take; as `Cycle.serve`."""
    compiled: bool

    def adopt(self, connection: Connection, template: dict[str, Any]) -> None:
        """A connection is new, or has got another client; ``template`` is that of its environs."""

    def tell(self, on_finished: Callable[[], object] | None) -> None:
        """From now on call this when a request has run; None: nothing."""


class CycleAlone:
    """No fast path: of plain Python, with requests that it does not take; and what the others are compared with."""

    fast_path: FastPath[Connection] | None = None
    arrivals: Arrivals[Connection] | None = None
    serve: Serve = staticmethod(Cycle.serve)
    compiled = False

    def adopt(self, connection: Connection, template: dict[str, Any]) -> None:
        """Nothing is kept for a connection."""

    def tell(self, on_finished: Callable[[], object] | None) -> None:
        """The owner of the cycle does."""


class PythonWay(CycleAlone):
    """The fast path in plain Python."""

    def __init__(self, parts: RunnerParts) -> None:
        self.fast_path = PythonFastPath(parts.cycle, parts.trust)


class CompiledWay:
    """Compiled code: for connections and bodies in any case, for requests and arrivals where these are such."""

    compiled = True

    def __init__(self, context: WorkerContext, parts: RunnerParts, slow_s: float) -> None:
        from wsgicluster.worker.kinds.sync._fast_path import CompiledFastPath, Peer
        from wsgicluster.worker.request._coalesce import Coalescer

        coalescer = Coalescer(context.page, parts.cycle.beat_s)
        parts.cycle.send_blocks = coalescer.send
        settings = context.settings
        self._peer = Peer
        self.fast_path: FastPath[Connection] | None = None
        self.arrivals: Arrivals[Connection] | None = None
        self.serve: Serve = serve
        self._compiled: Any = None
        if parts.fast and not _asked_first(settings, parts):
            self._compiled = compiled = CompiledFastPath(
                parts.cycle, coalescer, head_limits(settings)[False], parts.trust, settings.keepalive, slow_s
            )
            self.fast_path = self.arrivals = context.loop.batch = compiled

    def adopt(self, connection: Connection, template: dict[str, Any]) -> None:
        """Tell the compiled code what it needs of a new connection."""
        connection.peer = self._peer(connection, template)

    def tell(self, on_finished: Callable[[], object] | None) -> None:
        """The compiled code writes on the page itself, and has to tell instead."""
        if self._compiled is not None:
            self._compiled.on_finished = on_finished


def usual_way(context: WorkerContext, parts: RunnerParts, slow_s: float) -> Way:
    """The fastest way there is."""
    if core.compiled:
        return CompiledWay(context, parts, slow_s)
    return PythonWay(parts) if parts.fast and not _asked_first(context.settings, parts) else CycleAlone()


def _asked_first(settings: Settings, parts: RunnerParts) -> bool:
    """Whether each request gets a name, or is asked how long it has waited or if it is a probe, before it may run.

    Or hooks are called with it.
    """
    first = settings.queue_timeout > 0 or parts.named or bool(settings.health_path or settings.ready_path)
    return first or parts.serve is not None


class InlineLoad:
    """At most one request, which runs while the loop does not turn: a `Load`."""

    batch = INLINE_BATCH
    capacity = sys.maxsize
    running: Collection[RequestRunner] = ()
    room_awaited = False

    def __init__(self, page: Page) -> None:
        self.queue = NoQueue()
        self._floats = page.floats

    def oldest_s(self, now: float) -> float:
        """How long the request that runs has done so; 0.0 for none."""
        started: float = self._floats[_STARTED]
        return now - started if started else 0.0


class InlineRunner:
    """Runs each request in the loop's own thread; where compiled code is in use that serves the usual ones.

    A request that keeps the thread for ``slow_s`` is answered with ``Connection: close``: connections that a worker
    keeps are lost with it when it is killed, and where requests take this long, opening one anew costs next to
    nothing. Those on which something comes while it works go to siblings; see
    `wsgicluster.worker.kinds.sync.slow_request_monitor`.
    """

    def __init__(
        self,
        context: WorkerContext,
        parts: RunnerParts,
        choose_way: Callable[[WorkerContext, RunnerParts, float], Way] = usual_way,
    ) -> None:
        loop = context.loop
        assert isinstance(loop, NotifyingLoop), "as the kind says"
        settings = context.settings
        self.loop = loop
        self._context = context
        self._parts = parts
        self._cycle = parts.cycle
        self._load = load = InlineLoad(context.page)
        self._clients = WaitingClients(context, parts.listeners, load, lambda: self.fast_path)
        self._monitor = SlowRequestMonitor(context.page, loop, self._clients, self._tell_end)
        if settings.hand_off_waiting:
            loop.tell(self._on_ready)
        slow_s = settings.keepalive_slow or math.inf
        self._keep_alive = KeepAlive(context.page.cells, settings.keepalive, slow_s)
        self._admission = admission_of(context, self.run, load.queue)
        self._way = way = choose_way(context, parts, slow_s)
        self.fast_path = way.fast_path
        self._serve = parts.serve or way.serve

    def offered(self) -> KindRunner:
        """What the worker's other parts get of it."""
        return KindRunner(
            run=self.run if self._admission is None else self._admission.admit,
            load=self._load,
            waits=InlineWaits(self._context, self._monitor.undisturbed, self._parts.logs.write),
            fast_path_for=self._fast_path_for,
            may_keep=self.may_keep,
            open_body=worker_bodies(self.loop, self._context.settings.tmp_upload_dir).open,
            adopt=self._way.adopt,
            arrivals=self._way.arrivals,
            begin=self._begin_to_look,
            end_quickly=self._monitor.end,
        )

    def _fast_path_for(self, on_request: Step) -> FastPath[Connection] | None:
        """The one that runs what it receives itself; where requests are asked about first, it only receives them."""
        if self.fast_path is None and self._parts.fast and self._way.compiled:
            self.fast_path = receiver(
                self._cycle, on_request, ConnectionState.RUNNING, RECEIVE_BYTES, self._parts.trust
            )
        return self.fast_path

    def run(self, connection: Connection) -> None:
        """Call the application here and now."""
        if not finish_environ(connection, self._parts.trust):
            return
        reader = connection.reader
        environ = reader.environ
        connection.complete_at = self.loop.now
        # The application owns it now: it goes with its last reference, not with the connection.
        del reader.environ
        outcome = copy_context().run(self._serve, self._cycle, connection, environ, reader.flags, reader.line)
        connection.finished(outcome)

    def may_keep(self) -> bool:
        """Whether connections are to be kept, now."""
        return self._keep_alive.allows(time.monotonic() - self._cycle.started)

    # -- while a request keeps the thread

    def _begin_to_look(self) -> None:
        context = self._context
        if slow_s := context.settings.slow_request:
            requests = SlowRequests(slow_s, context.slot, context.log)
            SlowRequestThread(slow_s, context.page, requests).begin()

    def _on_ready(self) -> None:
        """There is work: have the other thread look after those who would wait for it, if there are any."""
        if self._clients.may_have_to_wait():
            self._monitor.begin()

    def _tell_end(self, on_finished: Callable[[], object] | None) -> None:
        self._cycle.on_finished = on_finished
        self._way.tell(on_finished)


CALLS_APPLICATION = frozenset((InlineRunner.run.__code__,))
"""The functions that call the application by way of compiled code that catches what it raises."""


def inline_runner(context: WorkerContext, parts: RunnerParts) -> KindRunner:
    """What sync gives to one worker."""
    return InlineRunner(context, parts).offered()


PARTS = KindParts(row=KINDS["sync"], loop=NotifyingLoop, connection=Connection, runner=inline_runner, multithread=False)
