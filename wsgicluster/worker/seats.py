"""Requests that run at the same time: one seat for each, and which of them is shown on the worker's page.

The page has room for one request. It shows the oldest: the one that is most likely to be asked about.
"""

import traceback
from _thread import allocate_lock
from collections import OrderedDict
from collections.abc import Iterator
from types import FrameType

from wsgicluster.scoreboard import CLIENT_OFFSET, STORE_REQUEST, Cell, Page
from wsgicluster.worker.cycle import Cycle

STACK_FRAMES = 200
"""The innermost ones that are shown of a stack: a recursion may have a million."""

_STARTED = int(Cell.STARTED)


class Running:
    """The requests that run now, the oldest first; that one is shown on the worker's page."""

    def __init__(self, page: Page) -> None:
        self._floats = page.floats
        self._raw = page.raw
        self.seats: OrderedDict[Seat, None] = OrderedDict()
        self._shown: Seat | None = None
        self._lock = allocate_lock()

    def __len__(self) -> int:
        return len(self.seats)

    def __contains__(self, seat: object) -> bool:
        return seat in self.seats

    def __iter__(self) -> "Iterator[Seat]":
        # Without the lock: it may be held in a process that has been forked, by a thread that is not there.
        return iter(list(self.seats))

    def oldest_at(self) -> float:
        """When the oldest request has begun; 0.0 for none."""
        return float(self._floats[_STARTED])

    def begin(self, seat: "Seat") -> None:
        """A request begins."""
        with self._lock:
            self.seats[seat] = None
            if self._shown is None:
                self._show(seat)

    def end(self, seat: "Seat") -> None:
        """A request is over."""
        with self._lock:
            del self.seats[seat]
            if self._shown is seat:
                self._show(next(iter(self.seats), None))

    def _show(self, seat: "Seat | None") -> None:
        self._shown = seat
        if seat is None:
            self._floats[_STARTED] = 0.0
        else:
            self._floats[_STARTED] = seat.started
            STORE_REQUEST(self._raw, CLIENT_OFFSET, seat.client, seat.line)


class Seat(Cycle):
    """The cycle of one request at a time, of which a worker has several.

    ``client`` and ``line`` are those of the present request; ``reported`` says that it is known to be past its time.
    """

    def __init__(self, cycle: Cycle, running: Running) -> None:
        # Without a beat: that is the loop's.
        super().__init__(cycle.application, cycle.page, 0.0, cycle.error_log, cycle.access)
        self.sendfile = cycle.sendfile
        self.client = self.line = b""
        self.reported = False
        self.running = running

    def show(self, started: float, client: bytes, line: bytes) -> None:
        """Count the request among those that run."""
        self.client = client
        self.line = line
        self.reported = False
        self.running.begin(self)

    def waited_s(self, now: float) -> float:
        """How much of the time of the request its client has taken."""
        return 0.0

    def hide(self) -> None:
        """It runs no more."""
        self.running.end(self)


def stack_text(frame: FrameType | None) -> str:
    """The stack of a running request, most recent call last; None is that of one that is over meanwhile."""
    if frame is None:
        return "(over by now)"
    return "".join(traceback.format_stack(frame, STACK_FRAMES)).rstrip("\n")
