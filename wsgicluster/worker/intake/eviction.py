"""Places for new clients in a worker that has as many connections as it may: silence must not be worth one."""

import math

from wsgicluster.counting import count_of
from wsgicluster.ipc.reasons import CloseReason
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.worker.connection.offloaded import OffloadedConnection
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.intake.policy import SILENT_S
from wsgicluster.worker.intake.reserve import FULL_AGAIN_S


class SilentEviction:
    """Closes connections on which no request has come: silence costs nothing."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._cleared_at = -math.inf

    def make_place(self) -> None:
        """Where all places are taken: close connections on which no request has come."""
        context = self._context
        if len(context.connections) < context.most_open:
            return
        now = context.loop.now
        before = now - SILENT_S
        silent = [
            each
            for each in context.connections
            if isinstance(each, OffloadedConnection) and each.is_silent_since(before)
        ]
        for connection in silent:
            connection.close(CloseReason.EVICTED)
        if silent:
            context.page.cells[Cell.EVICTED] += len(silent)
            logged, self._cleared_at = now - self._cleared_at < FULL_AGAIN_S, now
            if not logged:
                context.log.warning(
                    "worker %d: full, with %s (worker_connections); closed %d of them on which no request had come",
                    context.slot, count_of(context.most_open, "connection"), len(silent),
                )  # fmt: skip
