"""The scoreboard: a file in memory, shared by all processes of a server, with a page for it and one for each child.

One unlinked temp file, which messages to users call the heartbeat file, as Gunicorn
does; mapped by the arbiter before it forks. The first page is
the server's; each child then has a page of its own. The child writes its page
and the arbiter reads it: every cell is eight aligned bytes, so that one store
replaces one value, without a lock or a system call. A text that is read while it
changes may be torn; it is only used in messages.

Counters never go back, for any reader in any process at any moment. A page belongs to the slot that was the first to
use it, for as long as the server runs: the slot's next child gets it again, and continues to count where the last one
ended. Nothing is ever moved from one cell to another or cleared, so that no reader sees a count twice or not at all,
and none needs a lock: the sum of a slot's pages is what the slot has counted since the server was started, two living
workers, those that have exited, and slots that are wanted no more included (`wsgicluster.ipc.slot_totals`). What one
child has counted is the difference to what stood on its page when it was forked, which is kept beside it.
"""

import contextlib
import enum
import mmap
import os
import struct
import sys
import tempfile
from collections.abc import Sequence

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import ServerError
from wsgicluster.ipc.reasons import ShedReason

PAGE_BYTES = 4096
_CELLS_A_PAGE = PAGE_BYTES // 8
PAGES = 1024
"""Enough for 1,023 children at a time; pages that were never written take no memory."""

HISTOGRAM_BOUNDS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the buckets of a duration in seconds; one more bucket counts longer ones. All of those are among them
that OpenTelemetry's semantic conventions name for the duration of a request."""


class Cell(enum.IntEnum):
    """Index of an eight-byte cell within a page; floats are called so, the others are unsigned.

    Those from `FIRST_COUNTER` on are counters, which are never cleared; see `Page.counted`.
    """

    DEADLINE = 0
    """A float, as the next one."""
    STARTED = 1
    STATE = 2
    PID = 3
    GENERATION = 4
    SLOT = 5
    REQUESTS = 6
    """Requests that this child has run; `RESPONSES` has those of the slot."""
    CONNECTIONS = 10
    RESIDENT = 11
    PAGES_USED = 12
    """In the server's page only: no page from this one on has ever been used."""
    LAG = 13
    """How late the worker's loop woke last, in microseconds; 0 when no request runs outside the loop."""
    QUEUED = 14
    """Requests that wait for one of the `THREADS`, as of the last time that the worker's loop went to sleep."""
    THREADS = 15
    """How many threads may run requests; 0 in a worker that runs them otherwise."""
    ROLE = 48
    """What the child is for, a `ChildRole`."""
    READS_MESSAGES = 49
    """1 as soon as the child has handlers for messages; its mailbox is read from when it is ready."""
    RUNNING = 53
    """Requests that run outside the loop now; a worker that runs them in its loop only says when one has begun."""
    WANTED = 54
    """In the server's page only: how many workers there are to be, in the first slots unless `scheduling` is shared."""
    CROWDED = 55
    """In the server's page only: 1 once a worker has said that most clients have one address."""
    SCHEDULING_SERIAL = 57
    """In the server's page only: twice the number of scheduling policies so far; see `wsgicluster.ipc.scheduling`."""
    MAIL_SINCE = 58
    """A float: since when connections lie in the slot's mailbox that the worker has not taken; 0.0 for none."""
    MAIL_WATCHED = 59
    """In the server's page only: 1 while the arbiter looks at those by itself, and needs no message of one."""

    RESPONSES = 160
    """Requests that are over, by the first digit of their status; the first cell has those without any response."""
    DURATION_NS = 166
    """How long those have taken, from their last byte received to the last one of their responses sent or stored."""
    APPLICATION_NS = 167
    """How much of that the application has taken with its call and its iterable, waits for the client left out."""
    QUEUE_NS = 168
    """How long they had waited for their run, since the worker had found them complete."""
    FAILED = 169
    """Requests whose application raised."""
    BAD_ITERABLES = 170
    """Requests whose application returned or declared what cannot be sent."""
    CLIENT_LEFT = 171
    """Requests whose client left before it had the response."""
    CUT = 172
    """Requests that were still running when the worker's time to drain ended."""
    BYTES_IN = 174
    BYTES_OUT = 175
    EVICTED = 176
    """Idle connections that were closed to make room for others."""
    MESSAGES_RECEIVED = 177
    MESSAGES_DROPPED = 178
    """Messages that the child could not queue for others in a broadcast, or that were invalid."""
    LATE_REPLIES = 179
    """Replies of the child that arrived when no process waited for them any more."""
    FORGED_COOKIES = 180
    """Cookies that named a slot and were not signed by this server, or name one that there is no more."""
    CPU_USER_NS = 181
    """Processor time of the slot's workers; the arbiter writes it, of those that run when it is asked for."""
    CPU_SYSTEM_NS = 182
    PROBES = 183
    """Requests of ``health_path`` and ``ready_path``, which are none of the application's."""
    HISTOGRAM = 192
    """The requests of `DURATION_NS` by duration, a cell for each bucket of `HISTOGRAM_BOUNDS_S`."""
    APPLICATION_HISTOGRAM = 212
    """Those of `APPLICATION_NS`."""
    QUEUE_HISTOGRAM = 232
    """Those of `QUEUE_NS`."""
    ACCEPTED = 252
    """Connections that were accepted from listeners, to be served here or elsewhere."""
    CLOSED = 253
    """Connections that are this worker's no more, a cell for each `wsgicluster.ipc.reasons.CloseReason`."""
    BAD_REQUESTS = 261
    """Requests that were refused before the application saw them, a cell for each `BadRequest`."""
    SHED = 269
    """Requests that were valid and not run, a cell for each `ShedReason`."""
    HAND_OFFS = 273
    """Connections between workers, a cell for each `HandOffResult`."""
    SCRAPE_ERRORS = 275
    """Scrapes of the metrics that the admin worker could not answer."""


FIRST_COUNTER = 160
COUNTERS = 128
"""So many cells are counters; behind them stands what each was when the present child was forked."""
STATUS_CLASSES = 6
_BASES = FIRST_COUNTER + COUNTERS
_OWNER = _BASES + COUNTERS
"""The slot that a page belongs to."""
_MOST = (1 << 64) - 1

CLIENT_OFFSET = 512
CLIENT_BYTES = 64
LINE_OFFSET = CLIENT_OFFSET + CLIENT_BYTES
LINE_BYTES = 640
BUCKETS = len(HISTOGRAM_BOUNDS_S) + 1

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


@dataclass(frozen=True, slots=True)
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
        """Clear the values of the last child, but for counters."""
        raw, kept, behind = self.raw, FIRST_COUNTER * 8, (_OWNER + 1) * 8
        raw[:kept] = bytes(kept)
        raw[behind:] = bytes(PAGE_BYTES - behind)

    def begin(self) -> None:
        """Another child is about to use the page: what it counts begins here."""
        cells = self.cells
        cells[_BASES : _BASES + COUNTERS] = cells[FIRST_COUNTER : FIRST_COUNTER + COUNTERS]

    def before(self, cell: int) -> int:
        """A counter when the present child was forked."""
        return self.cells[COUNTERS + cell]

    def counted(self, cell: int) -> int:
        """What the present child has added to a counter."""
        return self.cells[cell] - self.cells[COUNTERS + cell]

    def raise_to(self, cell: int, value: int) -> None:
        """What the present child has added to a counter is at least this; for the arbiter."""
        # The arbiter does not trust what is in the child's memory: it may be anything.
        self.cells[cell] = max(self.cells[cell], min(self.before(cell) + value, _MOST))

    def histogram(self) -> Sequence[int]:
        """This child's requests by duration: one number for each of `HISTOGRAM_BOUNDS_S`, and one for longer ones."""
        return [self.counted(Cell.HISTOGRAM + bucket) for bucket in range(BUCKETS)]

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
            failed=self.counted(Cell.FAILED) + self.counted(Cell.BAD_ITERABLES),
            bytes_in=self.counted(Cell.BYTES_IN),
            bytes_out=self.counted(Cell.BYTES_OUT),
            connections=cells[Cell.CONNECTIONS],
            resident_bytes=cells[Cell.RESIDENT],
            client=texts[:CLIENT_BYTES].rstrip(b"\0").decode("latin-1"),
            request_line=texts[CLIENT_BYTES:].rstrip(b"\0").decode("latin-1"),
            shed=sum(self.counted(Cell.SHED + reason) for reason in ShedReason),
            cut=self.counted(Cell.CUT),
            evicted=self.counted(Cell.EVICTED),
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
        self._free: dict[int, list[int]] = {}
        """By the slot that they belong to."""
        self._owners: dict[int, int] = {}
        """The slot of each page that was ever used."""
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
        page = self._free_page(slot) or self._new_page(slot)
        page.clear()
        page.begin()
        page.cells[Cell.SLOT] = slot
        page.cells[Cell.GENERATION] = generation
        page.cells[Cell.STATE] = WorkerState.BOOTING
        return page

    def _free_page(self, slot: int) -> Page | None:
        found = self._free.get(slot)
        return self.page(found.pop()) if found else None

    def _new_page(self, slot: int) -> Page:
        try:
            if self._next == PAGES:
                raise ServerError(f"more than {PAGES - 1} children at a time are not supported")
            self._reserve(self._next)
        except ServerError:
            # That of another slot will do: what is counted there is shown with that one, and is not lost.
            found = max((owner for owner, pages in self._free.items() if pages), default=None)
            if found is None:
                raise
            return self.page(self._free[found].pop())
        page = self.page(self._next)
        page.cells[_OWNER] = self._owners[page.index] = slot
        self._next += 1
        # Readers look no further than this: from now on they find it, and whose it is.
        self.server.cells[Cell.PAGES_USED] = self._next
        return page

    def counters(self) -> list[tuple[int, list[int]]]:
        """The slot and all counters of each page that was ever used; from whatever process. The rest is 0."""
        cells = self._cells
        pages = range(_CELLS_A_PAGE, self.server.cells[Cell.PAGES_USED] * _CELLS_A_PAGE, _CELLS_A_PAGE)
        return [
            (cells[page + _OWNER], cells[page + FIRST_COUNTER : page + FIRST_COUNTER + COUNTERS].tolist())
            for page in pages
        ]

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

    def has_room(self, requests: int, connections: int, besides: int) -> bool:
        """Whether a worker that accepts new connections has fewer requests in progress, and connections, than these.

        One ``besides`` that whose page has this number: a worker has requests that no page shows yet.
        """
        return any(
            state == WorkerState.READY
            and running < requests
            and open_ < connections
            and role <= ChildRole.WORKER
            and page != besides
            for page, state, running, open_, role in self.children(
                Cell.STATE, Cell.RUNNING, Cell.CONNECTIONS, Cell.ROLE
            )
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
        """Free the page of a child that has exited; what it has counted stays where it is."""
        page.clear()
        self._free.setdefault(self._owners[page.index], []).append(page.index)

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
