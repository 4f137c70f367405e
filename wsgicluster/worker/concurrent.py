"""What the kinds of workers share that run several requests at a time: room, and requests past their time.

The loop is that of every worker. It collects requests, and hands each complete one to whoever runs it; how that
is done is the business of `wsgicluster.worker.thread` and `wsgicluster.worker.gevent`.
"""

import math
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, NoReturn

from wsgicluster.messages import RecycleWanted
from wsgicluster.scoreboard import Cell
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.cycle import Outcome
from wsgicluster.worker.drain import give
from wsgicluster.worker.handoff import nudge
from wsgicluster.worker.loop import Loop
from wsgicluster.worker.reception import FULL_AGAIN_S
from wsgicluster.worker.seats import Running, Seat
from wsgicluster.worker.server import LoopWorker
from wsgicluster.worker.shared import Sharing, shared
from wsgicluster.wsgi.environ import ErrorStream

ACCEPTS = 4
OPEN_FOR_ONE_MORE = 32
"""Connections accepted in one turn, and how many open ones are reason for one more: enough to go on with, and not
so many that siblings would have nothing to do."""

PATIENCE_S = 0.005
"""Requests that have run for longer than this are slow: nobody is to wait behind them while a sibling has room."""

CROWDED_S = 0.005
"""A client whom no worker has had room for in this time is accepted all the same, if not too many such
wait already: all are busy, and the clients they keep shall not be the only ones that are served."""

SILENT_S = 1.0
"""A client that has not come as far as a request in this time makes room for others, in a worker that is full."""

LOOK_S = 1.0
"""While requests run, the loop wakes at least this often: it beats, and looks for those past their time."""

LOOKS = 8
"""It looks at least so many times in each ``timeout``."""


class SharedLoop(Loop):
    """A loop that others may wake; ``occupied`` says that requests run, so that even its waiting has a beat."""

    # No more than the processor's caches hold: a request that was collected long before it runs is cold again.
    most_events = 16
    occupied = False

    def wake(self) -> None:
        """End its wait, from whatever thread or greenlet."""
        raise NotImplementedError


class SharedErrorStream(ErrorStream):
    """``wsgi.errors`` for several requests at a time: each thread or greenlet has a line of its own."""

    def __init__(self, write_line: Callable[[str], object]) -> None:
        self._own = threading.local()
        super().__init__(write_line)

    @property
    def _partial(self) -> str:
        text: str = getattr(self._own, "text", "")
        return text

    @_partial.setter
    def _partial(self, text: str) -> None:
        self._own.text = text


class ConcurrentWorker(LoopWorker):
    """A worker that runs several requests at a time, outside its loop.

    What is called "room" is for new connections only: requests of those it keeps are always taken.
    """

    loop: SharedLoop
    multithread = True
    connection_class = shared(Connection)
    error_stream = SharedErrorStream

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.running = Running(self.assignment.page)
        self.crowded = False
        self.capacity = self.places = sys.maxsize
        self._asked = False
        self._adopts = False
        self._aside: list[Sharing] = []
        self._relents = False
        self._relents_at = 0.0
        self._cleared_at = -math.inf
        self._early: deque[Sharing] = deque()
        """New clients that were accepted without room, the oldest first."""
        self._look_at = 0.0
        self._looks = False
        timeout_s = self.settings.timeout
        self._look_s = min(LOOK_S, timeout_s / LOOKS) if timeout_s else LOOK_S

    # -- what a kind decides

    def submit(self, connection: Sharing) -> None:
        """Have somebody `answer` a connection, soon."""
        raise NotImplementedError

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have the loop call something, from whatever thread or greenlet."""
        self.loop.soon.append(call)
        self.loop.wake()

    def has_room(self) -> bool:
        """Whether a new connection would be served without having to wait for others."""
        raise NotImplementedError

    def stack_of(self, seat: Seat) -> str:
        """Where the request in a seat is now."""
        raise NotImplementedError

    def past_time(self, found: list[Seat]) -> None:
        """These requests have been found, and reported, to be past their time."""

    # -- requests

    def run(self, connection: Connection) -> None:
        """Complete the environ, and hand the request on."""
        if not self.complete(connection):
            return
        connection.guest = False  # type: ignore[attr-defined]  # all its connections are shared
        if not self._looks:
            self._begin_to_look()
        self.submit(connection)  # type: ignore[arg-type]

    def answer(self, seat: Seat, connection: Sharing) -> Outcome:
        """Serve the request that a connection holds; for who runs it."""
        reader = connection.reader
        environ = reader.environ
        # The application owns them now: they go with their last reference, not with the connection.
        del reader.environ
        return seat.serve(connection, environ, reader.flags, reader.line)

    def _abandon(self) -> None:
        super()._abandon()
        for seat in self.running:
            seat.abandoned = True

    # -- room

    def _accept(self, index: int, listener: socket.socket) -> None:
        most = ACCEPTS + len(self.connections) // OPEN_FOR_ONE_MORE
        while most and self.listening and not self._paused:
            if self._is_full():
                self._close_silent()
            roomy = self.has_room()
            if self._is_full() or not (roomy or (self._relents and self._may_queue())):
                self._relents = False
                self._crowd()
                if self.assignment.board.ready_workers() > 1:
                    nudge(self.hand_off_send)  # the wake-up may have been for this worker alone
                return
            found = self._take(index, listener)
            if not found:
                return
            if isinstance(found, Sharing):
                found.receive_if_open()
                if not roomy:
                    self._early.append(found)
            most -= 1
        self._relents = False

    def _take(self, index: int, listener: socket.socket) -> Connection | bool:
        try:
            # Without a socket object of the usual class, which costs more than all the rest of accepting.
            descriptor, peer = listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return False  # a sibling was quicker
        except OSError as error:
            return not self._cannot_accept(error)
        return self._open(descriptor, index, peer, b"", self.entrance)

    def _crowd(self) -> None:
        """Leave new connections to siblings, until there is room or they have had the time to take them."""
        self.crowded = True
        self._wait_for_clients(False)
        self._relent_later()

    def _relent_later(self) -> None:
        now = self.loop.now
        moment = now + (SILENT_S if self._is_full() else CROWDED_S)
        if self._relents_at <= now or moment < self._relents_at:
            self._relents_at = moment
            self.loop.call_at(moment, self._relent)

    def _relent(self) -> None:
        if not self.crowded:
            return
        if self._is_full():
            self._close_silent()
        if self._is_full():
            self._relent_later()
        elif self._may_queue():
            self._relents = True
            self._welcome()

    def _may_queue(self) -> bool:
        """Whether one more new client may wait here: what waits in this process is lost with it, at the listener not.

        One always may, and as many as there are requests of kept clients that wait, so that these come not first.
        """
        early = self._early
        while early and not early[0].waits_for_turn:
            early.popleft()
        return len(early) < max(1, self.queued() // 2)

    def _welcome(self) -> None:
        self.crowded = False
        self._resume()

    def _resume(self) -> None:
        if not self.crowded:
            super()._resume()

    def _hold(self, below: int) -> None:
        super()._hold(below)
        # Without any capacity even those who are kept are passed on.
        self.capacity = 0 if self.held else self.places

    def _is_full(self) -> bool:
        return len(self.connections) >= self.settings.worker_connections

    def _close_silent(self) -> None:
        """Close connections on which no request has come: silence costs nothing, so it must not be worth a place."""
        before = self.loop.now - SILENT_S
        silent = [each for each in self.connections if each.is_silent_since(before)]  # type: ignore[attr-defined]
        for connection in silent:
            connection.close()
        if silent:
            now = self.loop.now
            said, self._cleared_at = now - self._cleared_at < FULL_AGAIN_S, now
            if not said:
                self.log.warning(
                    "worker %d: full, with %d connections (worker_connections); closed %d of them on which no request "
                    "had come",
                    self.assignment.slot, self.settings.worker_connections, len(silent),
                )  # fmt: skip

    def _record(self) -> None:
        super()._record()
        if self._aside and self.has_room():
            self._hear_again()
        if self.crowded:
            if self.has_room() and not self._is_full():
                self._welcome()
            else:
                self._relent_later()

    def pass_on(self, connection: Sharing) -> bool:
        """Give a connection that has just spoken to a sibling, instead of letting it wait for slow requests here.

        Its request is still in its socket, and stays there for a moment in which it may turn out that none is slow.
        """
        if (
            connection.guest
            or not connection.movable
            or not connection.reader.idle
            or connection.reader.rest
            or self.draining
            or self.assignment.board.ready_workers() < (1 if self.held else 2)
        ):
            return False
        if not self.held and monotonic() - self.running.oldest_at() < PATIENCE_S:
            connection.pause()
            if not self._aside:
                self.loop.call_at(self.loop.now + PATIENCE_S, self._hear_again)
            self._aside.append(connection)
            return True
        # Whoever has room first takes it. That may be this worker again, but not before it has some.
        if not (self.crowded or self.held):
            self._crowd()
        return give(connection, self.hand_off_send)

    def _hear_again(self) -> None:
        aside, self._aside = self._aside, []
        for connection in aside:
            connection.wait_if_reading()

    def adopt(self, connection: Connection, template: dict[str, Any]) -> None:
        """A connection that a sibling has given away is not given away again before it has been served."""
        connection.guest = self._adopts  # type: ignore[attr-defined]

    def _take_over(self) -> None:
        self._adopts = True
        super()._take_over()
        self._adopts = False

    # -- time

    def _begin_to_look(self) -> None:
        self._looks = self.loop.occupied = True
        self._look_at = monotonic() + self._look_s
        self.loop.call_at(self._look_at, self._look)

    def _look(self) -> None:
        """While requests run: how late the loop is, and which requests are past their time."""
        now = self.loop.now
        cells = self.assignment.page.cells
        if not self.running and not self.queued():
            self._looks = self.loop.occupied = False
            cells[Cell.LAG] = 0
            return
        cells[Cell.LAG] = int((now - self._look_at) * 1_000_000)
        self._find_past(now)
        self._begin_to_look()

    def _find_past(self, now: float) -> None:
        timeout_s = self.settings.timeout
        if not timeout_s:
            return
        past = [seat for seat in self.running if now - seat.started - seat.waited_s(now) >= timeout_s]
        new = [seat for seat in past if not seat.reported]
        for seat in new:
            seat.reported = True
            self._report(seat, now)
        if new:
            self.past_time(new)
            self._ask_to_be_replaced()

    def _report(self, seat: Seat, now: float) -> None:
        self.log.error(
            "worker %d: stuck in %s from %s for %.1f s: timeout of %g s passed; other requests go on\n%s",
            self.assignment.slot, seat.line.decode("latin-1")[:512], seat.client.decode("latin-1"),
            now - seat.started, self.settings.timeout, self.stack_of(seat),
        )  # fmt: skip

    def _ask_to_be_replaced(self) -> None:
        # A thread cannot be ended, and what was cancelled may have left anything behind. Other requests are not
        # in danger: the worker leaves when its replacement is ready, and finishes them.
        if not self._asked:
            self._asked = self.parent.say(RecycleWanted("hang", "a request is past its time"))

    def lines_running(self) -> list[bytes]:
        """The request lines of the requests that run."""
        return [seat.line for seat in self.running]

    def _drain_step(self) -> bool:
        return super()._drain_step() or self._only_stuck()

    def _only_stuck(self) -> bool:
        """While the worker leaves: what is left has had its time, and is not waited for."""
        if self._drain is None or not self.connections or self.queued():
            return False
        stuck = sum(seat.reported for seat in self.running)
        if stuck < len(self.connections):
            return False
        self.assignment.page.cells[Cell.CUT] = stuck
        self.log.warning("worker %d: leaves with %d requests past their time", self.assignment.slot, stuck)
        return True


def reraise(error: BaseException) -> NoReturn:
    """Raise, in the loop, what was raised elsewhere."""
    raise error
