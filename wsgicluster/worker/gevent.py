"""The gevent worker: each request runs in a greenlet of its own, the loop in the main one.

The loop's epoll is one descriptor among those that gevent's hub waits for, so that connections which only wait cost
neither a greenlet nor a watcher. The standard library is patched before the application is imported, and so is
everything of ours that looks names up late: sockets and locks that must stay the system's own are taken before.
"""

import contextlib
import gc
import itertools
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from time import monotonic
from types import FrameType
from typing import Any, cast

import gevent
import gevent.hub
import gevent.monkey
from greenlet import getcurrent, greenlet

from wsgicluster.errors import BrokenBody
from wsgicluster.http.connection import BodyStore
from wsgicluster.scoreboard import Page
from wsgicluster.worker.concurrent import ConcurrentWorker, SharedLoop, reraise
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.cycle import Client, Cycle, Outcome
from wsgicluster.worker.seats import STACK_FRAMES, Running, Seat, stack_text
from wsgicluster.worker.server import Answer
from wsgicluster.worker.shared import Sharing, shared
from wsgicluster.worker.streaming import BodyFeed, Streaming, is_streamed
from wsgicluster.wsgi.response import Response

FREE = 256
"""Greenlets without work that are kept; each takes about 20 KiB."""

LONGEST_CHAIN = 20
"""Of errors that were raised because of each other."""

_READ = 1
"""libev's EV_READ."""


@contextlib.contextmanager
def _entry_points_known() -> Iterator[None]:
    """Read what the installed packages offer once: gevent asks for each of its 25 events, and reads it all anew."""
    offered, look_up = metadata.entry_points(), metadata.entry_points
    metadata.entry_points = offered.select
    try:
        yield
    finally:
        metadata.entry_points = look_up


class RequestTimeout(BaseException):
    """Raised in a greenlet whose request is past its time; no ``except Exception`` of an application stops it."""


class HubLoop(SharedLoop):
    """A loop that waits by letting the hub run; made and turned in the main greenlet."""

    def __init__(self, page: Page, beat_s: float) -> None:
        super().__init__(page, beat_s)
        self.hub = gevent.get_hub()
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
        self.hub.switch()
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


class GreenletSeat(Seat):
    """The seat of one greenlet.

    It takes one request after another: a new greenlet for each would have the interpreter map and unmap a
    stack for it, which takes the system as long as all the rest of a small request.
    """

    def __init__(self, cycle: Cycle, running: Running, serve: "Callable[[GreenletSeat, Sharing], bool]") -> None:
        super().__init__(cycle, running)
        self._serve = serve
        self._hub = gevent.get_hub()
        self.greenlet = greenlet(self._run, self._hub)
        self.connection: Streaming | None = None

    def _run(self, connection: Sharing | None) -> None:
        while connection is not None and self._serve(self, connection):
            connection = None  # nothing of it is kept while the seat is free
            connection = self._hub.switch()

    def waited_s(self, now: float) -> float:
        """How much of the time of the request its client has taken."""
        return self.connection.body_wait_s(now) if self.connection is not None else 0.0

    def fail(self, response: Response, client: Client, line: bytes, error: BaseException) -> Outcome:
        """The application raised: because of its client, if that has not sent the body it should, else as ever."""
        broken = broken_body(error)
        if broken is None or self.abandoned or response.complete:
            return super().fail(response, client, line, error)
        # What the application has made of it may be of interest to its author.
        trace = error if error is not broken else None
        self.error_log.debug("%s: the body broke off: %s", client.client.decode("latin-1"), broken, exc_info=trace)
        if broken.refusal is None:
            return Outcome.ABORT
        return self.answer_instead(response, client, broken.refusal.status, broken.refusal.detail)

    def cancel(self, started: float, error: BaseException) -> None:
        """Raise an error in the greenlet, wherever it waits, if its request is still that which began then."""
        if self.started == started and self in self.running:
            self.greenlet.throw(error)

    def log_failure(self, what: str, line: bytes, error: BaseException | None = None) -> None:
        """Log what went wrong with a request; one that was cancelled has been reported already."""
        if isinstance(error, RequestTimeout):
            what, error = f"{what} and was cancelled ({error})", None
        super().log_failure(what, line, error)


class GeventWorker(ConcurrentWorker):
    """A loop and the hub."""

    loop_class = HubLoop
    loop: HubLoop
    connection_class = shared(Connection, Streaming)

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        gevent.monkey.patch_os()
        gevent.monkey.patch_signal()
        self._free: list[GreenletSeat] = []

    @classmethod
    def setup(cls) -> None:
        """Make the standard library cooperative."""
        with _entry_points_known():
            # Not os.fork and SIGCHLD yet: a mold's workers are no children that a hub should watch.
            gevent.monkey.patch_all(os=False, signal=False)

    @classmethod
    def after_fork(cls) -> None:
        """Give a worker of a mold a hub of its own, where the application has made one in the mold.

        To be called before the worker opens anything: the hub's descriptors are closed already, and are closed
        once more here, by their numbers. What waited in the mold is not there any more, as its threads are not.
        """
        gevent.get_hub().destroy(destroy_loop=True)

    @staticmethod
    def aside(call: Callable[[], Answer]) -> Answer:
        """Call before this kind serves, where its requests would run: in a greenlet, while the hub runs."""
        answer: Answer = gevent.spawn(call).get()
        return answer

    @staticmethod
    def waiting_stacks() -> str:
        """Where greenlets wait: while all of them do, the thread's stack is that of the hub."""
        # Not isinstance: an application's proxies answer for the class of something else, or raise.
        found: list[greenlet] = [each for each in gc.get_objects() if issubclass(type(each), greenlet)]
        waiting = [each.gr_frame for each in found if not isinstance(each, gevent.hub.Hub)]
        return "".join(_stack(frame) for frame in waiting if frame is not None)

    def submit(self, connection: Sharing) -> None:
        """Give the request a greenlet."""
        seat = self._free.pop() if self._free else GreenletSeat(self.cycle, self.running, self._serve)
        self.loop.soon_in_hub(seat.greenlet.switch, connection)

    def open_body(self, length: int) -> BodyStore:
        """Where a body that arrives in pieces goes; ``length`` is CHUNKED when it is not known."""
        return BodyFeed() if is_streamed(self.settings.stream_body, length) else super().open_body(length)

    def new_waiter(self) -> HubWaiter:
        """For a greenlet that has to wait."""
        if gevent.get_hub() is not self.loop.hub:
            raise RuntimeError("the body of a request is read in the worker's own thread, by whatever greenlet")
        return HubWaiter(self.loop)

    def has_room(self) -> bool:
        """Whether a new connection would be served without having to wait for others: greenlets are never short."""
        return True

    def _serve(self, seat: GreenletSeat, connection: Sharing) -> bool:
        """In a seat's greenlet; False when it is not needed any more."""
        try:
            seat.connection = cast(Streaming, connection)
            outcome = self.answer(seat, connection)
            seat.connection = None
            # No other thread, no other greenlet while nothing waits: the connection can be gone on with here and now.
            self.loop.now = monotonic()
            connection.finished(outcome)
        except BaseException as error:  # noqa: BLE001
            # A fault of our own, which the application's boundary has not met: it ends the worker, as in the loop.
            self.call_soon(partial(reraise, error))
        self.loop.wake()
        if len(self._free) >= FREE:
            return False
        self._free.append(seat)
        return True

    def stack_of(self, seat: Seat) -> str:
        """The stack of the greenlet that runs the seat's request."""
        assert isinstance(seat, GreenletSeat)
        return stack_text(seat.greenlet.gr_frame)

    def past_time(self, found: list[Seat]) -> None:
        """Cancel them."""
        for seat in found:
            assert isinstance(seat, GreenletSeat)
            error = RequestTimeout(f"timeout of {self.settings.timeout:g} s passed")
            self.loop.soon_in_hub(seat.cancel, seat.started, error)


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
