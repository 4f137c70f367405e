"""What the kinds of workers share that run several requests at a time, outside their loop.

The loop is that of every worker. It collects requests, and hands each complete one to a thread or a greenlet; how
that is done is the business of `wsgicluster.worker.kinds.gthread` and `wsgicluster.worker.kinds.gevent.worker`.
"""

import math
import select
from contextvars import copy_context
from time import monotonic
from typing import NoReturn

from wsgicluster.ipc.scoreboard import Page
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.host import FastPath
from wsgicluster.worker.connection.keep_alive import KeepAlive
from wsgicluster.worker.connection.offloaded import OffloadedConnection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.intake.load_shedding import admission_of
from wsgicluster.worker.intake.policy import OFFLOADED_BATCH
from wsgicluster.worker.kinds.parts import RunnerParts
from wsgicluster.worker.kinds.request_timeouts import RequestCalls, RequestTimeouts, SharedLoop
from wsgicluster.worker.kinds.requests import finish_environ
from wsgicluster.worker.request.bodies import worker_bodies
from wsgicluster.worker.request.in_flight import RequestRunner, RequestsInFlight
from wsgicluster.worker.request.leaves import receiver, serve
from wsgicluster.worker.request.outcome import Outcome
from wsgicluster.worker.runner import KindRunner, RequestQueue, Step
from wsgicluster.worker.transport.transport import RECEIVE_BYTES

CROWD_LOOK_S = 0.05
"""How often an application that waits for its client checks whether others wait for its thread meanwhile: then the
response is stored instead."""


class OffloadedLoad:
    """The requests of one worker that run outside its loop, and those that wait for that: a `Load`."""

    batch = OFFLOADED_BATCH

    def __init__(self, page: Page, capacity: int, queue: RequestQueue) -> None:
        self.capacity = capacity
        self.queue = queue
        self.room_awaited = False
        self.running = RequestsInFlight(page)

    def oldest_s(self, now: float) -> float:
        """How long the oldest request that runs has done so; without any, since the clock began."""
        return now - self.running.oldest_at()


class OffloadedWaits:
    """What happens while one of several requests waits for its client: a `ClientWaits`."""

    spools_responses = False

    def __init__(self, load: OffloadedLoad) -> None:
        self._load = load

    def is_crowded(self) -> bool:
        """Whether all that could run other requests is taken."""
        return len(self._load.running) >= self._load.capacity

    def wait_for_client(self, poll: select.poll, limit_s: float) -> None:
        """While the application waits for its client: wait until the socket takes more, for a moment."""
        poll.poll(min(limit_s, CROWD_LOOK_S) * 1000)

    def has_waited(self, seconds: float) -> None:
        """The application has waited for its client; the time limit of its request counts that itself."""

    def lift_deadline(self, connection: Connection) -> None:
        """The request that runs on a connection may take as long as it wants."""
        for runner in self._load.running:
            # No other request's line is the same object.
            if runner.line is connection.reader.line:
                runner.extend_deadline(math.inf)


class Offloading:
    """Runs requests outside the loop; `submit` is left to kinds, and what is said of a request that runs: ``calls``.

    What is called "room" is for new connections only: requests of those that are kept are always taken.
    """

    def __init__(
        self, context: WorkerContext, parts: RunnerParts, loop: SharedLoop, load: OffloadedLoad, calls: RequestCalls
    ) -> None:
        self.load = load
        self.loop = loop
        self.variables = copy_context()
        """What the import of the application has left of context variables; each request begins with a copy."""
        self.timeouts = RequestTimeouts(context, loop, load, calls, parts.channel)
        self.admission = admission_of(context, self.run, load.queue)
        self._parts = parts
        self._serve_request = parts.serve or serve
        self._trust = parts.trust
        self._error_stream = context.error_stream
        self.bodies = worker_bodies(loop, context.settings.tmp_upload_dir, context.connections)
        self._may_keep = KeepAlive(context.page.cells, context.settings.keepalive).allows

    def offered(self) -> KindRunner:
        """What the worker's other parts get of it."""
        return KindRunner(
            run=self.run if self.admission is None else self.admission.admit,
            load=self.load,
            waits=OffloadedWaits(self.load),
            fast_path_for=self._fast_path_for,
            may_keep=self._may_keep,
            open_body=self.bodies.open,
            begin=self._begin_serving,
            end_threads=self.end_threads,
        )

    def _fast_path_for(self, on_request: Step) -> FastPath[Connection] | None:
        """Compiled code that receives, if there is any, and calls ``on_request`` with each complete request."""
        if not self._parts.fast:
            return None
        return receiver(self._parts.cycle, on_request, ConnectionState.RUNNING, RECEIVE_BYTES, self._trust)

    def end_threads(self) -> None:
        """End the threads that have run requests, once none does; there are none by default."""

    def _begin_serving(self) -> None:
        self.variables = copy_context()

    def submit(self, connection: OffloadedConnection) -> None:
        """Have a thread or a greenlet `answer` a connection, soon."""
        raise NotImplementedError

    def run(self, connection: Connection) -> None:
        """Complete the environ, and hand the request on."""
        # The compiled way to receive has completed the environ of a request without a body.
        if not finish_environ(connection, self._trust):
            return
        connection.complete_at = self.loop.now
        connection.guest = False  # type: ignore[attr-defined]  # all connections of these workers are offloaded
        if not self.timeouts.active:
            self.timeouts.begin(monotonic())
        self.submit(connection)  # type: ignore[arg-type]

    def answer(self, runner: RequestRunner, connection: OffloadedConnection) -> Outcome:
        """Serve the request that a connection holds; for that which runs it."""
        reader = connection.reader
        environ = reader.environ
        # The application owns them now: they go with their last reference, not with the connection.
        del reader.environ
        runner.connection = connection
        outcome = self._serve_request(runner, connection, environ, reader.flags, reader.line)
        runner.connection = None
        if self._error_stream.unfinished:
            self._error_stream.settle()
        return outcome


def reraise(error: BaseException) -> NoReturn:
    """Raise, in the loop, what was raised elsewhere."""
    raise error
