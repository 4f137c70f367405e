"""All that the open connections of one worker ask of it.

What becomes of their requests is the runner's affair.
"""

import math
from collections.abc import Callable
from time import monotonic
from typing import Any

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import Overloaded, ProtocolError, ServerError
from wsgicluster.ipc.reasons import BadRequest, CloseReason, ShedReason, bad_request_of
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.host import FastPath
from wsgicluster.worker.connection.offloaded import OffloadedConnection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.from_settings import head_limits
from wsgicluster.worker.hosting.hand_off import give
from wsgicluster.worker.hosting.refusals import Refusals
from wsgicluster.worker.lifecycle.exit_request import ExitRequest
from wsgicluster.worker.request.cycle import Cycle
from wsgicluster.worker.runner import KindRunner
from wsgicluster.worker.transport.outbox import SpoolError, Storage
from wsgicluster.worker.transport.timeouts import Timing

_CLOSED = int(Cell.CLOSED)

NO_ROOM_AGAIN_S = 5.0
"""When responses could be stored for this long, and then cannot again, that is logged again."""


@dataclass(frozen=True)
class HostParts:
    """The parts of a worker that connections reach through their host."""

    cycle: Cycle
    runner: KindRunner
    fast_path: FastPath[Connection] | None
    offer: Callable[[OffloadedConnection], bool]
    """Gives a connection that is readable to a sibling, instead of letting it wait for slow requests here."""
    exit_request: ExitRequest
    refusals: Refusals
    on_request: Callable[[Connection], object]
    """What is called with each complete request."""


class ConnectionHost:
    """What connections know of their worker: a `wsgicluster.worker.connection.host.Host`."""

    def __init__(self, context: WorkerContext, parts: HostParts) -> None:
        settings = context.settings
        runner = parts.runner
        self.loop = context.loop
        self.timing = Timing.of(
            settings.keepalive, settings.head_timeout, settings.body_timeout, settings.write_timeout
        )
        self.storage = Storage(
            settings.tmp_upload_dir,
            settings.response_buffer,
            settings.response_spool,
            runner.waits.spools_responses,
            self._no_storage,
            runner.waits.is_crowded,
        )
        # Begins with what earlier workers of the slot have received: the sum is stored in each turn, and nothing added.
        self.received_bytes = context.page.cells[Cell.BYTES_IN]
        self.fast_path: FastPath[Any] | None = parts.fast_path
        self.limits = head_limits(settings)
        self.on_request = parts.on_request
        self.running = runner.load.running
        self.capacity = runner.load.capacity
        self.may_keep = runner.may_keep
        self.runs_early = runner.runs_early
        self.adopt = runner.adopt
        self.offer_to_sibling = parts.offer
        self.call_soon = context.loop.call_soon
        self.wait_for_client = runner.waits.wait_for_client
        self.has_waited = runner.waits.has_waited
        self._context = context
        self._cells = context.page.cells
        self._state = context.state
        self._parts = parts
        self._no_storage_at = -math.inf

    @property
    def draining(self) -> bool:
        """Whether the worker serves what it has, and nothing after that."""
        return self._state.leaving

    def hold(self, held: bool) -> None:
        """Without any capacity even requests of those who are kept are passed on."""
        self.capacity = 0 if held else self._parts.runner.load.capacity

    # -- what connections ask

    def waits(self, connection: Connection) -> None:
        """A connection of a draining worker is idle: it goes to a sibling when there is one."""
        if self._parts.exit_request.retiring and connection.between_requests and connection.movable:
            give(connection, self._context.assignment.hand_off_send)

    def left(self, connection: Connection, reason: CloseReason) -> None:
        """A connection is closed or handed over."""
        self._cells[_CLOSED + reason] += 1
        self._context.connections.discard(connection)
        connection.contact.close()

    def date(self) -> str:
        """The text of a ``Date`` field."""
        return self._parts.cycle.date()

    def broken(self, connection: Connection, error: ServerError) -> None:
        """Log why a response could not be sent to its end."""
        self._context.log.error("%s: the response is cut off: %s", connection.client.decode("latin-1"), error)

    def refused(self, connection: Connection, error: ProtocolError, sent_bytes: int) -> None:
        """Count and log what was refused."""
        if isinstance(error, Overloaded):
            self._cells[Cell.SHED + ShedReason[error.reason.upper()]] += 1
        else:
            in_preamble = connection.state is ConnectionState.OPENING
            self.note_bad_request(bad_request_of(error.status, connection.reader.idle, in_preamble))
        self._parts.refusals.add(connection, error, sent_bytes)

    def note_bad_request(self, what: BadRequest) -> None:
        """Count what was refused, for this reason."""
        self._cells[Cell.BAD_REQUESTS + what] += 1

    def rejected(self, connection: Connection, kind: str, reason: str) -> None:
        """Log which connection is closed before its first request."""
        self._parts.refusals.tell_closed(connection.client, kind, reason)

    def _no_storage(self, error: SpoolError) -> None:
        """Responses cannot be stored: their applications have to wait for slow clients."""
        now = monotonic()
        logged, self._no_storage_at = now - self._no_storage_at < NO_ROOM_AGAIN_S, now
        if not logged:
            self._context.log.warning(
                "worker %d: %s; the application waits for slow clients instead", self._context.slot, error
            )
