"""The gevent worker: each request runs in a greenlet of its own, the loop in the main one.

The loop's epoll is one descriptor among those that gevent's hub waits for, so that connections which only wait cost
neither a greenlet nor a watcher. The standard library is patched before the application is imported, and so is
everything of ours that looks names up late: sockets and locks that must stay the system's own are taken before.
"""

import contextlib
import dataclasses
import gc
import itertools
import logging
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any

import gevent
import gevent.hub
import gevent.monkey
from gevent._hub_local import get_hub_if_exists
from greenlet import getcurrent, greenlet

from wsgicluster.errors import BrokenBody, ProtocolError
from wsgicluster.http import core
from wsgicluster.http.connection import BodyStore
from wsgicluster.ipc.scoreboard import Cell, Page
from wsgicluster.logs.loggers import ERROR_LOGGER
from wsgicluster.settings.types.worker import KINDS
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.offloaded import OffloadedConnection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.hosting.refusals import Refusals
from wsgicluster.worker.kinds.gevent.streaming import BodyFeed, StreamedBody, is_streamed
from wsgicluster.worker.kinds.offloading import OffloadedLoad, Offloading, reraise
from wsgicluster.worker.kinds.parts import KindParts, RunnerParts, T
from wsgicluster.worker.kinds.request_timeouts import RequestCalls, SharedLoop
from wsgicluster.worker.loop.loop import do_nothing
from wsgicluster.worker.request.cycle import Client, Cycle, Outcome
from wsgicluster.worker.request.in_flight import STACK_FRAMES, RequestRunner, RequestsInFlight, stack_text
from wsgicluster.worker.runner import KindRunner, NoQueue
from wsgicluster.wsgi.response import Response

FREE = 256
"""Runners without a request that are kept for the next ones."""

LONGEST_CHAIN = 20
"""Of errors that were raised because of each other."""

_log = logging.getLogger(ERROR_LOGGER)

_CLIENT_LEFT = int(Cell.CLIENT_LEFT)

_READ = 1
"""libev's EV_READ."""


if TYPE_CHECKING:
    _Greenlet = gevent.Greenlet[..., None]
else:
    _Greenlet = gevent.Greenlet


@contextlib.contextmanager
def _entry_points_known() -> Iterator[None]:
    """Read what the installed packages offer once: gevent asks for each of its 25 events, and reads it all anew."""
    offered, look_up = metadata.entry_points(), metadata.entry_points
    metadata.entry_points = offered.select
    try:
        yield
    finally:
        metadata.entry_points = look_up


class RequestCancelled(BaseException):
    """Raised in a greenlet whose request has timed out; no ``except Exception`` of an application stops it."""


class HubLoop(SharedLoop):
    """A loop that waits by letting the hub run; made and turned in the main greenlet."""

    def __init__(self, page: Page, beat_s: float) -> None:
        super().__init__(page, beat_s)
        self.hub = hub = gevent.get_hub()
        # They would end the main greenlet, and the worker with it, where a greenlet of the application raises them.
        # It alone is to end, as a thread would.
        hub.SYSTEM_ERROR = ()
        # gevent does so with the first child, after the fork: the end of one that is quicker would never be heard of.
        hub.loop.install_sigchld()
        self._main = getcurrent()
        self._waits = False
        self._called = False
        self._wakes_at = 0.0
        self._timer: Any = None
        self._watcher = self.hub.loop.io(self.fileno(), _READ)
        self._watcher.start(self._resume)
        self._poll = self._yield

    def _yield(self, timeout_s: float | None, most: int) -> list[tuple[int, int]]:
        if self.soon:
            self.wake()
        elif timeout_s is not None:
            self._set_timer(timeout_s)
        if self.occupied:
            self.beat(monotonic())
        self._waits = True
        try:
            self.hub.switch()
        except BaseException:
            # Thrown into this greenlet by the application: a Timeout that was begun in one of its hooks, say.
            if self._epoll.closed:
                raise  # forked by the application: nothing is left to wait for
            _log.exception("an exception was raised in the main greenlet while it waited; the worker keeps serving")
            self._waits = False
        return self._epoll.poll(0, most)

    def _set_timer(self, timeout_s: float) -> None:
        # One that goes off too early does no harm, and setting it anew for each turn would cost more.
        now = monotonic()
        if now < self._wakes_at <= now + timeout_s:
            return
        if self._timer is not None:
            self._timer.close()
        self._wakes_at = now + timeout_s
        self._timer = self.hub.loop.timer(timeout_s)
        self._timer.start(self._ring)

    def _ring(self) -> None:
        # Early, maybe: the hub counts from when it last looked at its clock. So there is no timer from now on.
        self._wakes_at = 0.0
        self._resume()

    def wake(self) -> None:
        """Have the loop turn once all greenlets that can run have run."""
        if not self._called:
            self._called = True
            self.hub.loop.run_callback(self._answer_call)

    def _answer_call(self) -> None:
        self._called = False
        self._resume()

    def _resume(self) -> None:
        # Called in the hub. The main greenlet may wait for something else now: a lock of the logs, say.
        if self._waits:
            self._waits = False
            self._main.switch()

    def close(self) -> None:
        """Close the descriptors, and wait for nothing in the hub any more."""
        self._watcher.close()
        if self._timer is not None:
            self._timer.close()
        super().close()

    def soon_in_hub(self, call: Callable[..., object], *arguments: object) -> None:
        """Have the hub call something, after what is ready now."""
        self.hub.loop.run_callback(call, *arguments)


class HubWaiter:
    """One wait of a greenlet."""

    def __init__(self, loop: HubLoop) -> None:
        self._loop = loop
        self._waiter: Any = gevent.hub.Waiter()

    def wait(self) -> None:
        """Let others run until `wake`, which may have been called already."""
        self._waiter.get()

    def wake(self) -> None:
        """End the wait."""
        self._loop.soon_in_hub(self._waiter.switch, None)


class RequestGreenlet(_Greenlet):
    """The greenlet of one request, which ends with it.

    Whatever is left behind with it, timeouts, locals or references, is that of a greenlet that is dead and can reach
    no other request.
    """

    # The stack of the worker's loop would tell an application nothing, and takes a quarter of the time of a new one.
    spawning_stack_limit = 0


class GreenletRequestRunner(RequestRunner):
    """The runner of one request; ``greenlet`` runs it."""

    greenlet: RequestGreenlet | None = None

    def __init__(self, cycle: Cycle, running: RequestsInFlight, refusals: Refusals) -> None:
        super().__init__(cycle, running)
        self._refusals = refusals

    def fail(self, response: Response, client: Client, line: bytes, error: BaseException) -> Outcome:
        """The application raised: because of its client, if that has not sent the body it should, else as ever."""
        broken = broken_body(error)
        if broken is None or self.abandoned or response.complete:
            return super().fail(response, client, line, error)
        # What the application has made of it may be of interest to its author.
        trace = error if error is not broken else None
        self.error_log.debug("%s: the body broke off: %s", client.client.decode("latin-1"), broken, exc_info=trace)
        self.add(_CLIENT_LEFT)  # or what it has sent is not a body
        if broken.refusal is None:
            return Outcome.ABORT
        if not response.head_sent:
            self._refusals.tell(client.client, broken.refusal, line.decode("latin-1"))
        return self.answer_instead(response, client, broken.refusal.status, broken.refusal.detail)

    def cancel(self, started: float, error: BaseException) -> None:
        """Raise an error in the greenlet, wherever it waits, if its request is still that which began then."""
        if self.started == started and self in self.running and self.greenlet is not None:
            self.greenlet.throw(error)

    def log_failure(self, what: str, line: bytes, error: BaseException | None = None) -> None:
        """Log what went wrong with a request; one that was cancelled has been reported already."""
        if isinstance(error, RequestCancelled):
            what, error = f"{what} and was cancelled ({error})", None
        super().log_failure(what, line, error)


class GreenletOffloading(Offloading):
    """Runs each request in a greenlet of its own."""

    loop: HubLoop

    def __init__(self, context: WorkerContext, parts: RunnerParts) -> None:
        loop = context.loop
        assert isinstance(loop, HubLoop), "as the kind says"
        # Greenlets are never short.
        load = OffloadedLoad(context.page, sys.maxsize, NoQueue())
        super().__init__(context, parts, loop, load, RequestCalls(stack_of, self._cancel))
        self._stream_body = context.settings.stream_body
        self._upload_folder = context.settings.tmp_upload_dir
        self._free: list[GreenletRequestRunner] = []
        self._spawner: Any = getcurrent()
        self._fresh: deque[tuple[RequestGreenlet, OffloadedConnection]] = deque()

    def offered(self) -> KindRunner:
        """What the worker's other parts get of it."""
        return dataclasses.replace(super().offered(), open_body=self.open_feed, runs_early=self.runs_early)

    def submit(self, connection: OffloadedConnection) -> None:
        """Give the request a greenlet."""
        runner = self._free.pop() if self._free else self._new_runner()
        # gevent asks the greenlet that makes another one for its locals. The main one has none, as those that it makes
        # are to share none; but to raise and catch the error of that costs as much as all the rest of a new greenlet.
        spawner = self._spawner
        spawner.spawn_tree_locals = None
        runner.greenlet = found = RequestGreenlet(self._serve, runner, connection)
        del spawner.spawn_tree_locals
        found.spawn_tree_locals = {}
        found.gr_context = self.variables.copy()
        fresh = self._fresh
        if not fresh:
            # One call for all that this turn of the loop collects: to have the hub call costs as much as to begin one.
            self.loop.soon_in_hub(self._begin)
        fresh.append((found, connection))

    def _begin(self) -> None:
        """In the hub: run the requests that have come, but for those whose greenlet has been killed meanwhile."""
        fresh = self._fresh
        try:
            while fresh:
                found, connection = fresh.popleft()
                if found.dead:
                    error = ProtocolError(500, "the request's greenlet was killed")
                    self.loop.call_soon(partial(connection.refuse, error))
                else:
                    found.switch()
        finally:
            if fresh:  # something was thrown into the hub
                self.loop.soon_in_hub(self._begin)

    def _new_runner(self) -> GreenletRequestRunner:
        return GreenletRequestRunner(self._parts.cycle, self.load.running, self._parts.refusals)

    def open_feed(self, length: int) -> BodyStore:
        """Where a body that arrives in pieces goes; ``length`` is CHUNKED when it is not known."""
        if not is_streamed(self._stream_body, length):
            return self.bodies.open(length)
        self.bodies.note()
        return BodyFeed(self._upload_folder)

    def runs_early(self, connection: Connection) -> bool:
        """Run a request whose body is streamed now."""
        feed = connection.reader.store
        if not isinstance(feed, BodyFeed):
            return False
        StreamedBody(self, connection, feed).begin()
        return True

    def new_waiter(self) -> HubWaiter:
        """For a greenlet that has to wait."""
        if gevent.get_hub() is not self.loop.hub:
            raise RuntimeError("the body of a request is read in the worker's own thread, by whatever greenlet")
        return HubWaiter(self.loop)

    def _serve(self, runner: GreenletRequestRunner, connection: OffloadedConnection) -> None:
        """In a greenlet of its own, to the end of the request."""
        try:
            outcome = self.answer(runner, connection)
            # No other thread, no other greenlet while nothing waits: the connection can continue here and now.
            left = connection.settle(outcome)
            if left is not None:
                self.loop.now = monotonic()
                left()
        except Exception as error:  # noqa: BLE001
            # A fault of our own, which the application's boundary has not met: it ends the worker, as in the loop.
            self.loop.call_soon(partial(reraise, error))
        except BaseException as error:  # noqa: BLE001
            # Raised from elsewhere where the application runs no more: it has been killed, or a timeout has passed.
            self._break_off(runner, connection, error)
        runner.greenlet = None
        self.loop.wake()
        if len(self._free) < FREE:
            self._free.append(runner)

    def _break_off(self, runner: GreenletRequestRunner, connection: OffloadedConnection, error: BaseException) -> None:
        """End a request whose greenlet was ended while it did what comes after the application."""
        if runner in self.load.running:
            runner.hide()
        runner.connection = None
        if connection.state is ConnectionState.RUNNING:
            self.loop.call_soon(partial(connection.finished, Outcome.ABORT))
        runner.log_failure("the request's greenlet was ended before its end was logged", runner.line, error)

    def _cancel(self, runner: RequestRunner, passed: str) -> None:
        """End a request that has timed out, by an exception."""
        assert isinstance(runner, GreenletRequestRunner)
        self.loop.soon_in_hub(runner.cancel, runner.started, RequestCancelled(passed))


def stack_of(runner: RequestRunner) -> str:
    """The stack of the greenlet that runs a runner's request."""
    assert isinstance(runner, GreenletRequestRunner)
    return stack_text(runner.greenlet.gr_frame if runner.greenlet is not None else None)


def greenlet_runner(context: WorkerContext, parts: RunnerParts) -> KindRunner:
    """What gevent gives to one worker."""
    return GreenletOffloading(context, parts).offered()


def setup() -> None:
    """Make the standard library cooperative."""
    with _entry_points_known():
        # Not os.fork and SIGCHLD yet: a hub should not watch a mold's workers.
        gevent.monkey.patch_all(os=False, signal=False)


def finish_setup() -> None:
    """Make the rest of the standard library cooperative, in a process that is going to serve."""
    gevent.monkey.patch_os()
    gevent.monkey.patch_signal()
    if core.compiled:
        from wsgicluster.worker.kinds.gevent._frames import keep_freed_frames

        keep_freed_frames()


def after_fork() -> None:
    """Give a worker of a mold a hub of its own, where the application has made one in the mold.

    To be called before the worker opens anything: the hub's descriptors are closed already, and are closed
    once more here, by their numbers. What waited in the mold is not there any more, as its threads are not.
    """
    gevent.get_hub().destroy(destroy_loop=True)


def run_in_greenlet(call: Callable[[], T]) -> T:
    """Call something as a request is called: in a greenlet, while the hub runs."""
    result: T = gevent.spawn(call).get()
    return result


def leave_behind() -> None:
    """In a process that the application has forked: no greenlet but that which has forked it ever runs again.

    That is as with threads. gevent itself has all of them continue in both processes: other requests would be run
    twice. They are not ended either, which would have them clean up what belongs to the parent.
    """
    hub = get_hub_if_exists()
    if hub is None:
        return
    pending: type = type(hub.loop.run_callback(do_nothing))
    watcher: type = next(base for base in type(hub.loop.timer(0)).__mro__ if base.__name__ == "watcher")
    # What was made while the worker booted is among them.
    gc.unfreeze()
    for found in gc.get_objects():
        kind = type(found)
        if issubclass(kind, pending) or (issubclass(kind, watcher) and kind is not type(hub.loop.fork())):
            with contextlib.suppress(ValueError):  # its loop is destroyed
                found.stop()
    gc.freeze()
    gevent.reinit()


def waiting_stacks() -> str:
    """Where greenlets wait: while all of them do, the thread's stack is that of the hub."""
    # Not isinstance: an application's proxies answer for the class of something else, or raise.
    found: list[greenlet] = [each for each in gc.get_objects() if issubclass(type(each), greenlet)]
    waiting = [each.gr_frame for each in found if not isinstance(each, gevent.hub.Hub)]
    return "".join(_stack(frame) for frame in waiting if frame is not None)


def _stack(frame: FrameType) -> str:
    innermost = itertools.islice(traceback.walk_stack(frame), STACK_FRAMES)
    codes = [(found.f_code, line) for found, line in innermost]
    lines = [f'  File "{code.co_filename}", line {line} in {code.co_name}\n' for code, line in codes]
    return "".join(["Greenlet (most recent call first):\n", *lines, "\n"])


def broken_body(error: BaseException | None) -> BrokenBody | None:
    """The failure of a client that has led to an error, whatever an application has made of it, or None."""
    for _ in range(LONGEST_CHAIN):
        if error is None or isinstance(error, BrokenBody):
            return error
        error = error.__cause__ or error.__context__
    return None


PARTS = KindParts(
    row=KINDS["gevent"],
    loop=HubLoop,
    connection=OffloadedConnection,
    runner=greenlet_runner,
    setup=setup,
    finish_setup=finish_setup,
    after_fork=after_fork,
    leave_behind=leave_behind,
    waiting_stacks=waiting_stacks,
    apart=run_in_greenlet,
    serving_code=frozenset((GreenletOffloading._serve.__code__,)),
    unforkable="greenlets that wait for something, and the event loop that would wake them, cannot be forked",
)
