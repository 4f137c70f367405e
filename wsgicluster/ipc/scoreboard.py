"""The scoreboard: a file in memory, shared by all processes of a server, with a page for it and one for each child.

One unlinked temp file, which messages to users call the heartbeat file, as Gunicorn
does; mapped by the arbiter before it forks. The first page is
the server's; each child then has a page of its own. The child writes its page
and the arbiter reads it: every cell is eight aligned bytes, so that one store
replaces one value, without a lock or a system call. A text that is read while it
changes may be torn; it is only used in messages.
"""

import contextlib
import dataclasses
import enum
import mmap
import os
import struct
import sys
import tempfile
from collections.abc import Sequence

from wsgicluster.errors import ServerError

PAGE_BYTES = 4096
_CELLS_A_PAGE = PAGE_BYTES // 8
PAGES = 1024
"""Enough for 1,023 children at a time; pages that were never written take no memory."""

HISTOGRAM_BOUNDS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the latency buckets in seconds; one more bucket counts longer ones."""


class Cell(enum.IntEnum):
    """Index of an eight-byte cell within a page; the first two are floats, the others unsigned."""

    DEADLINE = 0
    STARTED = 1
    STATE = 2
    PID = 3
    GENERATION = 4
    SLOT = 5
    REQUESTS = 6
    FAILED = 7
    BYTES_IN = 8
    BYTES_OUT = 9
    CONNECTIONS = 10
    RESIDENT = 11
    PAGES_USED = 12
    """In the server's page only: no page from this one on has ever been used."""
    LAG = 13
    """How late the worker's loop woke last, in microseconds; 0 when no request runs outside the loop."""
    SHED = 14
    """Requests that were not run, since they had waited too long or their clients had disconnected meanwhile."""
    CUT = 15
    """Requests that were still running when the worker's time to drain ended."""
    HISTOGRAM = 16
    EVICTED = 32
    """Idle connections that were closed to make room for others."""
    ROLE = 48
    """What the child is for, a `ChildRole`."""
    READS_MESSAGES = 49
    """1 as soon as the child has handlers for messages; its mailbox is read from when it is ready."""
    MESSAGES_RECEIVED = 50
    MESSAGES_DROPPED = 51
    """Messages that the child could not queue for others in a broadcast, or that were invalid."""
    LATE_REPLIES = 52
    """Replies of the child that arrived when no process waited for them any more."""
    RUNNING = 53
    """Requests that run outside the loop now; a worker that runs them in its loop only says when one has begun."""
    WANTED = 54
    """In the server's page only: how many workers there are to be, which have the slots from 1 on."""
    CROWDED = 55
    """In the server's page only: 1 once a worker has said that most clients have one address."""
    FORGED_COOKIES = 56
    """Cookies that named a slot and were not signed by this server, or name one that there is no more."""
    SCHEDULING_SERIAL = 57
    """In the server's page only: twice the number of scheduling policies so far; see `wsgicluster.ipc.scheduling`."""
    MAIL_SINCE = 58
    """A float: since when connections lie in the slot's mailbox that the worker has not taken; 0.0 for none."""
    MAIL_WATCHED = 59
    """In the server's page only: 1 while the arbiter looks at those by itself, and needs no message of one."""


TOTALS = (
    Cell.REQUESTS,
    Cell.FAILED,
    Cell.BYTES_IN,
    Cell.BYTES_OUT,
    Cell.SHED,
    Cell.EVICTED,
    Cell.MESSAGES_RECEIVED,
    Cell.MESSAGES_DROPPED,
    Cell.LATE_REPLIES,
    Cell.FORGED_COOKIES,
)
"""Counters that are added to the server's totals when their child exits."""

CLIENT_OFFSET = 512
CLIENT_BYTES = 64
LINE_OFFSET = CLIENT_OFFSET + CLIENT_BYTES
LINE_BYTES = 640
_BUCKETS = len(HISTOGRAM_BOUNDS_S) + 1

STORE_REQUEST = struct.Struct(f"{CLIENT_BYTES}s{LINE_BYTES}s").pack_into
"""``STORE_REQUEST(buffer, CLIENT_OFFSET, client, request_line)``: pads and cuts both."""


class WorkerState(enum.IntEnum):
    """The state that a worker reports."""

    FREE = 0
    BOOTING = 1
    READY = 2
    HELD = 3
    """It serves the connections that it has, and leaves new ones to siblings."""
    DRAINING = 4
    """It serves the connections that it has, and exits."""
    ORPHANED = 5
    """The same, because the arbiter has exited."""


class ChildRole(enum.IntEnum):
    """What a child is for, on its page: 0 before it has joined the cluster, and for those that never do."""

    NONE = 0
    WORKER = 1
    JOBS = 2
    STEWARD = 3
    ADMIN = 4


class ServerState(enum.IntEnum):
    """The server's state, which the arbiter writes to the first page for all workers."""

    STARTING = 0
    """Fewer workers than ``min_ready`` are ready so far."""
    SERVING = 1
    LEAVING = 2
    """It still serves, but will stop soon: load balancers should send no new clients."""
    STOPPING = 3

    @property
    def is_ready(self) -> bool:
        """Whether a load balancer should send clients here."""
        return self is ServerState.SERVING


@dataclasses.dataclass(frozen=True, slots=True)
class PageSnapshot:
    """One child's page at one moment; times in seconds of the monotonic clock, 0.0 meaning none."""

    deadline: float
    started: float
    state: WorkerState
    pid: int
    generation: int
    slot: int
    requests: int
    failed: int
    bytes_in: int
    bytes_out: int
    connections: int
    resident_bytes: int
    client: str
    request_line: str
    shed: int = 0
    cut: int = 0
    evicted: int = 0


class Page:
    """A child's page. The hot path writes through ``floats``, ``cells`` and ``raw`` directly."""

    __slots__ = ("cells", "floats", "index", "raw")

    def __init__(self, raw: memoryview, index: int) -> None:
        self.index = index
        self.raw = raw
        self.floats = raw.cast("d")
        self.cells = raw.cast("Q")

    def clear(self) -> None:
        """Clear the values of the last child."""
        self.raw[:] = bytes(PAGE_BYTES)

    def histogram(self) -> Sequence[int]:
        """Finished requests by duration: one number for each of `HISTOGRAM_BOUNDS_S`, and one for longer ones."""
        return self.cells[Cell.HISTOGRAM : Cell.HISTOGRAM + _BUCKETS].tolist()

    def facts(self) -> PageSnapshot:
        """The present values of the page."""
        cells, floats = self.cells, self.floats
        texts = bytes(self.raw[CLIENT_OFFSET : LINE_OFFSET + LINE_BYTES])
        return PageSnapshot(
            deadline=floats[Cell.DEADLINE],
            started=floats[Cell.STARTED],
            state=WorkerState(cells[Cell.STATE]),
            pid=cells[Cell.PID],
            generation=cells[Cell.GENERATION],
            slot=cells[Cell.SLOT],
            requests=cells[Cell.REQUESTS],
            failed=cells[Cell.FAILED],
            bytes_in=cells[Cell.BYTES_IN],
            bytes_out=cells[Cell.BYTES_OUT],
            connections=cells[Cell.CONNECTIONS],
            resident_bytes=cells[Cell.RESIDENT],
            client=texts[:CLIENT_BYTES].rstrip(b"\0").decode("latin-1"),
            request_line=texts[CLIENT_BYTES:].rstrip(b"\0").decode("latin-1"),
            shed=cells[Cell.SHED],
            cut=cells[Cell.CUT],
            evicted=cells[Cell.EVICTED],
        )


class Scoreboard:
    """The mapped file: page 0 for the server, one page for each child.

    Only the arbiter allocates and frees pages. Raises ServerError when the folder has no room; room for the pages of
    ``children`` is reserved at once, that for more of them when they are allocated.
    """

    def __init__(self, folder: str | None, children: int = 0) -> None:
        try:
            self.folder = folder or tempfile.gettempdir()
            """Where the file was made, and where others like it have room."""
            self._file = tempfile.TemporaryFile(prefix="wsgicluster-", dir=folder, buffering=0)
            os.ftruncate(self._file.fileno(), PAGE_BYTES * PAGES)
        except OSError as error:
            raise ServerError(
                f"worker_tmp_dir: cannot make the heartbeat file in {folder or tempfile.gettempdir()}: "
                f"{error.strerror}; name a writable folder with room"
            ) from error
        self._map = mmap.mmap(self._file.fileno(), PAGE_BYTES * PAGES)
        self._all = memoryview(self._map)
        self._cells = self._all.cast("Q")
        self._floats = self._all.cast("d")
        self._free: list[int] = []
        self._next = 1
        try:
            self._reserve(0, 1 + children)
        except ServerError:
            self.close()
            raise
        self.server = self.page(0)

    def page(self, index: int) -> Page:
        """The page with this index, for a child that only knows that."""
        start = index * PAGE_BYTES
        return Page(self._all[start : start + PAGE_BYTES], index)

    def _reserve(self, index: int, count: int = 1) -> None:
        # A page that the file system cannot back would end its writer with SIGBUS at the first store.
        try:
            os.posix_fallocate(self._file.fileno(), index * PAGE_BYTES, count * PAGE_BYTES)
        except OSError as error:
            raise ServerError(f"worker_tmp_dir: no room for a worker's heartbeat page: {error.strerror}") from error

    def take(self, slot: int, generation: int) -> Page:
        """A clean page for a child that is about to be forked."""
        if self._free:
            index = self._free.pop()
        elif self._next < PAGES:
            index = self._next
            self._reserve(index)
            self._next += 1
            self.server.cells[Cell.PAGES_USED] = self._next
        else:
            raise ServerError(f"more than {PAGES - 1} children at a time are not supported")
        page = self.page(index)
        page.clear()
        page.cells[Cell.SLOT] = slot
        page.cells[Cell.GENERATION] = generation
        page.cells[Cell.STATE] = WorkerState.BOOTING
        return page

    def ready_workers(self, served_below: int = sys.maxsize) -> int:
        """How many workers accept new connections now, and have served fewer requests than that; called by workers."""
        cells, state, requests, role = self._cells, int(Cell.STATE), int(Cell.REQUESTS), int(Cell.ROLE)
        pages = range(_CELLS_A_PAGE, self.server.cells[Cell.PAGES_USED] * _CELLS_A_PAGE, _CELLS_A_PAGE)
        return sum(
            cells[page + state] == WorkerState.READY
            and cells[page + requests] < served_below
            and cells[page + role] <= ChildRole.WORKER
            for page in pages
        )

    def idle_workers(self) -> int:
        """How many workers accept new connections now and show no request that runs; called by workers."""
        found = self.children(Cell.STATE, Cell.STARTED, Cell.ROLE)
        # What is 0.0 as a float is 0 as a number, too.
        return sum(
            state == WorkerState.READY and not started and role <= ChildRole.WORKER for _, state, started, role in found
        )

    def has_room(self, requests: int, connections: int) -> bool:
        """Whether a worker that accepts new connections has fewer requests in progress, and connections, than these."""
        return any(
            state == WorkerState.READY and running < requests and open_ < connections and role <= ChildRole.WORKER
            for _, state, running, open_, role in self.children(Cell.STATE, Cell.RUNNING, Cell.CONNECTIONS, Cell.ROLE)
        )

    def ready_in(self, slot: int) -> int:
        """How many workers of a slot accept new connections now; called by workers."""
        return sum(state == WorkerState.READY and its == slot for _, state, its in self.children(Cell.STATE, Cell.SLOT))

    def children(self, *wanted: Cell) -> list[tuple[int, ...]]:
        """The number of its page, and these cells, of each child that has a page now; for the children themselves."""
        cells, state = self._cells, int(Cell.STATE)
        indexes = [int(cell) for cell in wanted]
        pages = range(_CELLS_A_PAGE, self.server.cells[Cell.PAGES_USED] * _CELLS_A_PAGE, _CELLS_A_PAGE)
        return [
            (page // _CELLS_A_PAGE, *[cells[page + index] for index in indexes])
            for page in pages
            if cells[page + state] != WorkerState.FREE
        ]

    def note_mail(self, page: int, now: float) -> None:
        """A connection is put into the mailbox of the worker whose page has this number; before it is."""
        cell = page * _CELLS_A_PAGE + Cell.MAIL_SINCE
        if not self._floats[cell]:
            self._floats[cell] = now

    def free(self, page: Page) -> None:
        """Free the page of a child that has exited; its counters are added to the server's totals."""
        totals = self.server.cells
        for cell in TOTALS:
            totals[cell] += page.cells[cell]
        for bucket in range(Cell.HISTOGRAM, Cell.HISTOGRAM + _BUCKETS):
            totals[bucket] += page.cells[bucket]
        page.clear()
        self._free.append(page.index)

    def tell(self, state: ServerState) -> None:
        """Write the server's state for all workers."""
        self.server.cells[Cell.STATE] = state

    def told(self) -> ServerState:
        """The state that the arbiter has written last."""
        return ServerState(self.server.cells[Cell.STATE])

    def is_ready(self) -> bool:
        """Whether a load balancer should send clients to this server."""
        return self.told().is_ready

    def close(self) -> None:
        """Close the file; pages still in use keep the mapping alive."""
        self._file.close()
        with contextlib.suppress(BufferError):
            self._cells.release()
            self._floats.release()
            self._all.release()
            self._map.close()
