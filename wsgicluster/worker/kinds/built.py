"""A worker whose parts are made before its process is, in the process that forks it.

What is made there is shared; and code that has run before the fork writes on no page of the worker's: even to call a
function, Python counts references to it, to its code and to all names in it. So a process that builds its worker by
itself has a copy of a third of the pages that it would share otherwise.

Nothing here may depend on the application, or on the process: what does is given when the worker is completed.
"""

import contextlib
import gc
import os
import resource
from collections.abc import Callable, Iterable
from typing import Any

from wsgicluster.ipc.assignment import Assignment
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.settings.types.worker import KINDS
from wsgicluster.worker.connection.preamble import PreambleSettings
from wsgicluster.worker.hooks import OF_KIND
from wsgicluster.worker.kinds.assembly import Booted, build_worker
from wsgicluster.worker.kinds.registry import worker_parts
from wsgicluster.worker.kinds.worker import Worker
from wsgicluster.worker.lifecycle.promotion import Promotion
from wsgicluster.worker.lifecycle.recycle import Recycling, with_jitter
from wsgicluster.worker.lifecycle.signals import WorkerSignals
from wsgicluster.worker.lifecycle.state import StateCell
from wsgicluster.worker.request.cycle import Application
from wsgicluster.wsgi.environ import place_of


class BuiltWorker:
    """The parts of one worker, for its process alone; to be closed in the process that has made them.

    ``descriptors`` are those of the parts, which the worker's process has to keep open.
    """

    def __init__(self, logs: Logs, settings: Settings, assignment: Assignment) -> None:
        kind = worker_parts(OF_KIND[str(settings.worker_class)])
        self._logs = logs
        self._recycling = recycling_of(settings, 0.0, _unknown)
        self._surroundings = _surroundings(logs)
        promotion = Promotion((), kind.thread_names, kind.unforkable)
        loop = kind.loop(assignment.page, settings.timeout)
        booted = Booted(
            settings,
            assignment,
            logs,
            StateCell(assignment.page),
            self._recycling,
            promotion=promotion,
            loop=loop,
        )
        with contextlib.ExitStack() as undo:
            undo.callback(loop.close)
            self.worker: Worker = build_worker(booted, kind, _not_loaded)
            undo.pop_all()
        self.descriptors = loop.descriptors()
        self._closed = False

    def close(self) -> None:
        """Close the descriptors; harmless when repeated."""
        if not self._closed:
            self._closed = True
            self.worker.context.loop.close()

    def abandon(self) -> None:
        """In a process that the application has forked: nothing of the worker's is this process's to use or hold."""
        if not self._closed:
            self._closed = True
            self.worker.abandon()

    def complete(
        self, application: Application, signals: WorkerSignals, boot_s: float, resident: Callable[[], int]
    ) -> Worker | None:
        """In the worker's process: the worker, with what could not be known before.

        None if the import of the application has changed what it was made of; then it is closed.
        """
        if self._surroundings != _surroundings(self._logs):
            self.close()
            return None
        self._recycling.begin(boot_s, resident)
        self.worker.parts.logs.signals = signals
        self.worker.parts.cycle.make_stamp()
        self.worker.parts.replace_application(application)
        return self.worker


def build_before_fork(logs: Logs, settings: Settings, assignment: Assignment) -> BuiltWorker | None:
    """The parts of a worker, unless these settings ask for some that only its own process can make."""
    row = KINDS.get(settings.worker_class) if isinstance(settings.worker_class, str) else None
    if row is None or row.package or settings.has_hooks or settings.refork_after or settings.trace_spans:
        return None
    if settings.has_tls or PreambleSettings.of(settings, logs.error) is not None:
        return None  # what it needs is read late, and may not be there
    # The parts of workers that were built before refer to each other, and are left behind. Not collected as soon as
    # these are forked: their place would be written to, which it need not be until it is used again.
    gc.collect()
    try:
        return BuiltWorker(logs, settings, assignment)
    except Exception:  # noqa: BLE001
        # The worker's process makes them again, and reports what is wrong: that is no reason for this one to fail.
        logs.error.debug("worker %d: its parts are left to its process", assignment.slot, exc_info=True)
        return None


def recycling_of(settings: Settings, boot_s: float, resident: Callable[[], int]) -> Recycling:
    """The limits of one worker, at random within their jitter."""
    return Recycling(
        with_jitter(settings.max_requests, settings.max_requests_jitter),
        with_jitter(settings.max_memory, settings.max_memory_jitter),
        boot_s,
        resident,
    )


def _surroundings(logs: Logs) -> tuple[object, ...]:
    """What parts look at while they are made, and the import of an application may change."""
    return logs.access, place_of(os.environ), resource.getrlimit(resource.RLIMIT_NOFILE)


def _unknown() -> int:
    return 0


def _not_loaded(_environ: dict[str, Any], _start_response: Callable[..., Any]) -> Iterable[bytes]:
    raise RuntimeError("no request comes before the application is there")
