"""From fork to exit: what every kind of worker does before and after it serves.

The arbiter gets `boot_worker` and `load_application` as values; it knows nothing else of workers.
"""

import atexit
import contextlib
import gc
import os
import sys
import time
import traceback
from functools import partial
from typing import Any, NoReturn

from wsgicluster import orphan, process
from wsgicluster.cluster.assignment import Assignment
from wsgicluster.errors import AppLoadError, BootError, RehearsalError, ServerError
from wsgicluster.logs import Logs
from wsgicluster.messages import BootFailed, Broken, ChannelClosed, Ready
from wsgicluster.settings import Settings
from wsgicluster.worker.cycle import Application, Cycle
from wsgicluster.worker.kinds import call_hook, worker_kind
from wsgicluster.worker.opening import Entrance
from wsgicluster.worker.recycle import Recycling, with_jitter
from wsgicluster.worker.rehearsal import Rehearsal
from wsgicluster.worker.reloader import Reloader, failing_application
from wsgicluster.worker.server import LoopWorker
from wsgicluster.worker.signals import WorkerSignals
from wsgicluster.wsgi.loader import load_callable


def load_application(settings: Settings) -> Application:
    """Import the application that the settings name, in the surroundings that its workers have. Raises AppLoadError."""
    call_hook(settings.worker_class, worker_kind(settings.worker_class).setup)
    return load_callable(settings.wsgi_app)


def boot_worker(logs: Logs, settings: Settings, assignment: Assignment, application: Any = None) -> NoReturn:
    """Run one worker in this freshly forked process; ends the process, never returns.

    ``application`` is given when it was loaded before the fork.
    """
    code = BootError.exit_code
    try:
        if application is not None:
            call_hook(settings.worker_class, worker_kind(settings.worker_class).after_fork)
        code = _live(logs, settings, assignment, application)
    except ServerError as error:
        code = error.exit_code
        trace = error.trace if isinstance(error, AppLoadError | RehearsalError) else ""
        _say_failed(assignment, code, str(error), trace)
    except BaseException as error:  # noqa: BLE001
        # The boundary of this process: a fault of our own ends one worker. The arbiter puts it in its record.
        if not _say_broken(assignment, error):
            logs.error.exception("worker %d: internal error", assignment.slot)
    _leave(logs, code)


def _live(logs: Logs, settings: Settings, assignment: Assignment, application: Any) -> int:
    began = time.monotonic()
    signals = WorkerSignals(assignment.stacks_fd)
    signals.install()
    # Nobody is served yet, so there is nothing to finish.
    orphan.notice(assignment.channel.fileno(), lambda: os._exit(0))
    # Before privileges are dropped: a key is best readable by root alone. Nothing of the user's is imported before.
    entrance = Entrance.of(settings, logs.error)
    process.drop_privileges(settings.user, settings.group, settings.initgroups)
    kind = worker_kind(settings.worker_class)
    signals.explain(lambda: os.write(assignment.stacks_fd, kind.waiting_stacks().encode(errors="replace")))
    reloader = Reloader(settings.reload_extra_files) if settings.reload else None
    if application is None:
        application = _load(logs, settings, reloader)
    if assignment.rehearse and settings.smoke:
        _rehearse(logs, settings, assignment, kind, application)
    taken = signals.reinstall()
    if taken:
        logs.error.warning(
            "The application has set handlers for %s; a worker needs these itself and has taken them back", taken
        )
    gc.collect()
    gc.freeze()
    cycle = Cycle(application, assignment.page, settings.timeout, logs.error, logs.access)
    cycle.sendfile = settings.sendfile
    boot_s = time.monotonic() - began
    recycling = Recycling(
        with_jitter(settings.max_requests, settings.max_requests_jitter),
        with_jitter(settings.max_memory, settings.max_memory_jitter),
        boot_s,
        process.ResidentMemory().bytes,
    )
    worker = kind(settings, assignment, cycle, recycling, logs)
    signals.join(worker.loop, worker)
    orphan.notice(assignment.channel.fileno(), worker.bereave)
    worker.signals = signals
    if entrance is not None:
        entrance.fit(kind.connection_class)
        # Whoever answers arrivals takes the first that comes for a request.
        worker.entrance, worker.arrivals = entrance, None
    if settings.forwarded_hops or settings.protocol != "http":
        # The short ways know only HTTP, and of what is forwarded only the scheme.
        worker.exchange = worker.arrivals = None
    if reloader is not None:
        reloader.watch(lambda message: worker.parent.say(message))
    call_hook(settings.worker_class, worker.begin)
    worker.serve(Ready(boot_s))
    call_hook(settings.worker_class, worker.end)
    return 0


def _rehearse(
    logs: Logs, settings: Settings, assignment: Assignment, kind: type[LoopWorker], application: Application
) -> None:
    """Have the application answer what ``smoke`` names. Raises RehearsalError."""
    facts = kind.facts(settings, assignment)
    failure = kind.aside(partial(Rehearsal(settings, assignment, logs, facts).run, application))
    if failure is not None:
        raise failure
    logs.error.info("worker %d: the application answers: %s", assignment.slot, ", ".join(settings.smoke))


def _load(logs: Logs, settings: Settings, reloader: Reloader | None) -> Application:
    try:
        return load_application(settings)
    except AppLoadError as error:
        if reloader is None:
            raise
        logs.error.error("%s\n%s\nWaiting for a source file to change.", error, error.trace)
        return failing_application(error)


def _say_failed(assignment: Assignment, code: int, summary: str, trace: str) -> None:
    with contextlib.suppress(ChannelClosed):
        assignment.channel.send(BootFailed(code, summary, trace))


def _say_broken(assignment: Assignment, error: BaseException) -> bool:
    summary = traceback.format_exception_only(error)[-1].strip()
    with contextlib.suppress(ChannelClosed, OSError):
        return assignment.channel.send(Broken(summary, "".join(traceback.format_exception(error))))
    return False


def _leave(logs: Logs, code: int) -> NoReturn:
    try:
        atexit._run_exitfuncs()
        if logs.access is not None:
            logs.access.flush()
        for stream in (sys.stdout, sys.stderr):
            # The application may have closed it, and nobody may be there to read it.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
    finally:
        os._exit(code)
