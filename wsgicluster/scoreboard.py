"""The scoreboard: heartbeat temp file and shared facts of all workers.

One unlinked temp file, mapped by the arbiter before it forks. The first page is
the server's; each child then has a page of its own. The child writes its page
and the arbiter reads it: every cell is eight aligned bytes, so that one store
replaces one value, and nobody needs a lock or a system call. A text that is read
while it changes may be torn; it is only ever shown to people.
"""

import contextlib
import dataclasses
import enum
import mmap
import os
import struct
import sys
import tempfile

from wsgicluster.errors import ServerError

PAGE_BYTES = 4096
_CELLS_A_PAGE = PAGE_BYTES // 8
PAGES = 1024
"""Room for 1,023 children at a time; pages that were never touched take no memory."""

HISTOGRAM_BOUNDS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the latency buckets in seconds; one more bucket holds all that took longer."""


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
    """How late the worker's loop has woken last, in microseconds; 0 when no request runs outside the loop."""
    SHED = 14
    """Requests that were not run, since they had waited for too long or their clients had left while they waited."""
    CUT = 15
    """Requests that were not over when the worker's time to drain was."""
    HISTOGRAM = 16


TOTALS = (Cell.REQUESTS, Cell.FAILED, Cell.BYTES_IN, Cell.BYTES_OUT, Cell.SHED)
"""Counters that outlive the child that counted them."""

CLIENT_OFFSET = 512
CLIENT_BYTES = 64
LINE_OFFSET = CLIENT_OFFSET + CLIENT_BYTES
LINE_BYTES = 640
_BUCKETS = len(HISTOGRAM_BOUNDS_S) + 1

STORE_REQUEST = struct.Struct(f"{CLIENT_BYTES}s{LINE_BYTES}s").pack_into
"""``STORE_REQUEST(buffer, CLIENT_OFFSET, client, request_line)``: pads and cuts both."""


class WorkerState(enum.IntEnum):
    """What a worker says it is doing."""

    FREE = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3
    HELD = 4
    """It serves what it has, and leaves what is new to siblings."""


class ServerState(enum.IntEnum):
    """What the arbiter tells all workers through the first page."""

    STARTING = 0
    """Fewer workers than ``min_ready`` asks for have been ready yet."""
    SERVING = 1
    LEAVING = 2
    """It serves as before, but will stop soon: nobody should send it new clients."""
    STOPPING = 3

    @property
    def is_ready(self) -> bool:
        """Whether a load balancer should send clients here."""
        return self is ServerState.SERVING


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
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


class Page:
    """A child's page. The hot path writes through ``floats``, ``cells`` and ``raw`` directly."""

    __slots__ = ("cells", "floats", "index", "raw")

    def __init__(self, raw: memoryview, index: int) -> None:
        self.index = index
        self.raw = raw
        self.floats = raw.cast("d")
        self.cells = raw.cast("Q")

    def clear(self) -> None:
        """Forget the last child."""
        self.raw[:] = bytes(PAGE_BYTES)

    def facts(self) -> Facts:
        """What the page says now."""
        cells, floats = self.cells, self.floats
        texts = bytes(self.raw[CLIENT_OFFSET : LINE_OFFSET + LINE_BYTES])
        return Facts(
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
        )


class Scoreboard:
    """The mapped file: page 0 for the server, one page for each child.

    Only the arbiter takes and frees pages. Raises ServerError when the folder has no room, be it for the pages of so
    many ``children`` as shall find room whatever becomes of the folder; later ones may find none.
    """

    def __init__(self, folder: str | None, children: int = 0) -> None:
        try:
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
        self._free: list[int] = []
        self._next = 1
        try:
            self._reserve(0, 1 + children)
        except ServerError:
            self.close()
            raise
        self.server = self.page(0)

    def page(self, index: int) -> Page:
        """The page with this index, for a child that was told only that."""
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
        """How many workers take new connections now, and have served less than that; for the workers themselves."""
        cells, state, requests = self._cells, int(Cell.STATE), int(Cell.REQUESTS)
        pages = range(_CELLS_A_PAGE, self.server.cells[Cell.PAGES_USED] * _CELLS_A_PAGE, _CELLS_A_PAGE)
        return sum(cells[page + state] == WorkerState.READY and cells[page + requests] < served_below for page in pages)

    def free(self, page: Page) -> None:
        """Take a page back from a child that is gone; what it counted is added to the server's totals."""
        totals = self.server.cells
        for cell in TOTALS:
            totals[cell] += page.cells[cell]
        for bucket in range(Cell.HISTOGRAM, Cell.HISTOGRAM + _BUCKETS):
            totals[bucket] += page.cells[bucket]
        page.clear()
        self._free.append(page.index)

    def tell(self, state: ServerState) -> None:
        """Show all workers what the server is about to do."""
        self.server.cells[Cell.STATE] = state

    def told(self) -> ServerState:
        """What the arbiter has told last."""
        return ServerState(self.server.cells[Cell.STATE])

    def is_ready(self) -> bool:
        """Whether a load balancer should send clients to this server."""
        return self.told().is_ready

    def close(self) -> None:
        """Close the file; pages still in use keep the mapping alive."""
        self._file.close()
        with contextlib.suppress(BufferError):
            self._cells.release()
            self._all.release()
            self._map.close()
