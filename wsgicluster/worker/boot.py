"""From fork to exit: what every kind of worker does before and after it serves.

The arbiter gets `boot_worker` and `load_application` as values; it knows nothing else of workers.
"""

import contextlib
import gc
import os
import sys
import time
import traceback
from functools import partial
from typing import Any, NoReturn

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import AppLoadError, BootError, HookError, ServerError, SmokeTestError
from wsgicluster.http.response import set_server
from wsgicluster.ipc import membership
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import BootFailed, Broken, ChannelClosed, Online, Ready
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings, paste
from wsgicluster.system import forks, parent_death, privileges, process
from wsgicluster.system.descriptors import open_sockets
from wsgicluster.worker.connection.preamble import PreambleSettings
from wsgicluster.worker.from_settings import worker_facts
from wsgicluster.worker.hooks import WorkerHooks
from wsgicluster.worker.kinds.assembly import Booted, build_worker
from wsgicluster.worker.kinds.built import BuiltWorker, recycling_of
from wsgicluster.worker.kinds.parts import KindParts
from wsgicluster.worker.kinds.registry import call_hook, hooks_class, worker_parts
from wsgicluster.worker.kinds.stack_code import SERVING_CODE, calling_code
from wsgicluster.worker.kinds.worker import Worker
from wsgicluster.worker.lifecycle import app_metrics
from wsgicluster.worker.lifecycle.configured_hooks import ConfiguredHooks, WorkerFacts
from wsgicluster.worker.lifecycle.interruptions import Guards
from wsgicluster.worker.lifecycle.promotion import ForkMold, Promotion
from wsgicluster.worker.lifecycle.reloader import Reloader, failing_application
from wsgicluster.worker.lifecycle.signals import WorkerSignals
from wsgicluster.worker.lifecycle.smoke_test import SmokeTest
from wsgicluster.worker.lifecycle.state import StateCell
from wsgicluster.worker.request.cycle import Application
from wsgicluster.wsgi.interface import check_application
from wsgicluster.wsgi.loader import load_callable
from wsgicluster.wsgi.paste import load_paste


def load_application(settings: Settings) -> Application:
    """Import the application that the settings name, in the surroundings that its workers have. Raises AppLoadError."""
    membership.expect()
    hooks = hooks_class(settings.worker_class)
    kind = worker_parts(hooks)
    kind.setup()
    app_metrics.install()
    call_hook(settings.worker_class, hooks.setup)
    forks.on_fork(kind.leave_behind)
    if settings.wsgi_app.startswith(paste.URI):
        application = load_paste(settings.wsgi_app, paste.global_conf(settings.raw_paste_global_conf))
    else:
        application = load_callable(settings.wsgi_app)
    if hooks.call_application is WorkerHooks.call_application:  # else the class may call it in some other way
        check_application(settings.wsgi_app, application)
    return application


@dataclass(frozen=True)
class BootInputs:
    """What a worker's process has from the beginning: ``application`` when it was loaded before the fork.

    ``configured`` when the configuration file has hooks, ``fork_mold`` where this worker may have to fork a mold,
    ``built`` when its parts were made before the fork.
    """

    application: Any = None
    configured: ConfiguredHooks | None = None
    fork_mold: ForkMold | None = None
    built: BuiltWorker | None = None


def boot_worker(logs: Logs, settings: Settings, assignment: Assignment, given: BootInputs) -> NoReturn:
    """Run one worker in this freshly forked process; ends the process, never returns."""
    application, configured = given.application, given.configured
    code = BootError.exit_code
    forks.begin(f"worker {assignment.slot}", settings.proc_name or settings.wsgi_app or "", logs.error)
    forks.on_fork(assignment.close)
    try:
        if application is not None:
            hooks = hooks_class(settings.worker_class)
            worker_parts(hooks).after_fork()
            call_hook(settings.worker_class, hooks.after_fork)
        code = _live(logs, settings, assignment, given)
    except ServerError as error:
        code = error.exit_code
        trace = error.trace if isinstance(error, AppLoadError | SmokeTestError | HookError) else ""
        _say_failed(assignment, code, str(error), trace)
    except BaseException as error:  # noqa: BLE001
        # The boundary of this process: a fault of our own ends one worker. The arbiter puts it in its record.
        if not forks.strayed() and not _say_broken(assignment, error):
            logs.error.exception("worker %d: internal error", assignment.slot)
    if forks.strayed():
        forks.end_stray(logs.error)
    if configured is not None:
        configured.exiting()
    _leave(logs, code)


def _live(logs: Logs, settings: Settings, assignment: Assignment, given: BootInputs) -> int:
    began = time.monotonic()
    application, configured, built = given.application, given.configured, given.built
    if built is not None:
        forks.on_fork(built.abandon)
    sockets = frozenset(open_sockets()) if given.fork_mold is not None else frozenset[str]()
    _prepare(settings)
    signals, guards = _take_signals(logs, assignment)
    # Before privileges are dropped: a key is best readable by root alone.
    preamble = PreambleSettings.of(settings, logs.error, assignment.tls)
    app_metrics.begin(assignment)  # hooks may make metrics, too
    if configured is not None:
        # As in Gunicorn, before privileges are dropped: the file is the operator's, and its other hooks have them, too.
        _begin_hooks(configured, signals)
    privileges.drop_privileges(settings.user, settings.group, settings.initgroups)
    hooks = hooks_class(settings.worker_class)
    kind = worker_parts(hooks)
    signals.explain(lambda: os.write(assignment.stacks_fd, kind.waiting_stacks().encode(errors="replace")))
    forks.on_fork(kind.leave_behind)
    _join(settings, assignment)
    assignment.channel.send(Online())
    reloader = Reloader(settings.reload_extra_files) if settings.reload else None
    if application is None:
        application = _load(logs, settings, reloader)
    if assignment.smoke_test and settings.smoke:
        _run_smoke_test(logs, settings, assignment, kind, application)
    _application_is_loaded(signals, logs)
    state = StateCell(assignment.page)
    own = hooks(application, settings, assignment.slot, logs.error, state.is_leaving)
    boot_s = time.monotonic() - began
    resident = process.ResidentMemory().bytes
    kind.finish_setup()
    logs.follow_access_logger()
    worker = built.complete(_called(own), signals, boot_s, resident) if built is not None else None
    if worker is None:
        booted = Booted(
            settings, assignment, logs, state, recycling_of(settings, boot_s, resident), preamble, signals, configured,
            Promotion(sockets, kind.thread_names, kind.unforkable),
        )  # fmt: skip
        worker = build_worker(booted, kind, _called(own))
        forks.on_fork(worker.abandon)
    guards.install()  # a kind of workers may have replaced `signal.signal`
    guards.watch(SERVING_CODE | kind.serving_code, calling_code(worker.parts.cycle.application))
    signals.join(worker.context.loop, worker)
    parent_death.notice(assignment.channel.fileno(), worker.parts.exit_request.orphan)
    if assignment.mailboxes is not None:
        assignment.mailboxes.refresh = worker.parts.channel.receive
    if reloader is not None:
        reloader.watch(worker.parts.channel.send)
    call_hook(settings.worker_class, own.begin)
    if configured is not None:
        _initialized(configured, worker, own)
    worker.serve(Ready(boot_s, worker.parts.recycling.measure()))
    _fork_mold(worker, application, configured, given.fork_mold)
    call_hook(settings.worker_class, own.end)
    return 0


def _take_signals(logs: Logs, assignment: Assignment) -> tuple[WorkerSignals, Guards]:
    signals = WorkerSignals(assignment.stacks_fd)
    forks.on_fork(signals.forget)
    forks.on_fork(parent_death.forget)
    signals.install()
    guards = Guards(logs.error, f"worker {assignment.slot}")
    guards.install()
    # No client is served yet, so there is nothing to finish.
    parent_death.notice(assignment.channel.fileno(), _end_orphan)
    return signals, guards


def _prepare(settings: Settings) -> None:
    """What holds for the process as a whole."""
    set_server(settings.server_header)
    if settings.spew:
        # Late: no worker in production spends memory on it.
        from wsgicluster.worker.lifecycle.line_trace import LineTrace

        LineTrace(sys.stderr).begin()


def _begin_hooks(configured: ConfiguredHooks, signals: WorkerSignals) -> None:
    """Call what comes first, and from now on what comes before the process ends for QUIT, and for ABRT."""

    def interrupted() -> None:
        configured.interrupted()
        configured.exiting()

    def aborted() -> None:
        configured.aborted()
        configured.exiting()

    signals.call_hooks(interrupted, aborted)
    configured.forked()


def _initialized(configured: ConfiguredHooks, worker: Worker, own: WorkerHooks) -> None:
    context, before = worker.context, own.application
    most = worker.parts.recycling.max_requests
    facts = WorkerFacts(context.state, context.page, worker.parts.channel.send, most)
    own.application = configured.initialized(before, facts, context.assignment.listeners)
    if own.application is not before:
        worker.parts.replace_application(_called(own))


def _fork_mold(
    worker: Worker, application: Any, configured: ConfiguredHooks | None, fork_mold: ForkMold | None
) -> None:
    """Fork a mold from this worker, which has drained, if that was ordered, and nothing speaks against it."""
    promotion, context = worker.parts.promotion, worker.context
    order, refused = promotion.order, ""
    try:
        # A server that stops needs none.
        if order is None or fork_mold is None or not worker.parts.exit_request.retiring:
            return
        worker.parts.runner.end_threads()
        if configured is not None:
            configured.before_mold()
        refused = promotion.refusal()
        if not refused:
            fork_mold(order, application, configured.after_mold if configured is not None else None)
    except (OSError, HookError) as error:
        refused = str(error)
    finally:
        promotion.decline()  # the mold has its own copies
    if refused:
        context.log.warning("worker %d: no mold was forked from it: %s", context.slot, refused)


def _application_is_loaded(signals: WorkerSignals, logs: Logs) -> None:
    """Its import may have forked, and have set signal handlers; collections skip what it has made."""
    if forks.strayed():
        forks.end_stray(logs.error)
    forks.booted()
    _take_back(signals, logs)
    gc.collect()
    gc.freeze()


def _take_back(signals: WorkerSignals, logs: Logs) -> None:
    taken = signals.reinstall()
    if taken:
        logs.error.warning(
            "The application has set handlers for %s; a worker needs these itself and has taken them back", taken
        )


def _called(hooks: WorkerHooks) -> Application:
    """What is called for each request: the application straight away, where a class does not come in between."""
    overridden = type(hooks).call_application is not WorkerHooks.call_application
    application: Application = hooks.call_application if overridden else hooks.application
    return application


def _join(settings: Settings, assignment: Assignment) -> None:
    """Make this process a member of the cluster, before the application is imported."""
    os.environ["WSGICLUSTER_SLOT"] = str(assignment.slot)
    if assignment.mailboxes is not None and assignment.shared_files is not None:
        membership.join(assignment.membership("worker", settings))


def _run_smoke_test(
    logs: Logs, settings: Settings, assignment: Assignment, kind: KindParts, application: Application
) -> None:
    """Have the application answer what ``smoke`` names. Raises `SmokeTestError`."""
    facts = worker_facts(settings, assignment, kind.multithread)
    failure = kind.apart(partial(SmokeTest(settings, assignment, logs, facts).run, application))
    if failure is not None:
        raise failure
    logs.error.info("worker %d: smoke test passed: %s", assignment.slot, ", ".join(settings.smoke))


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


def _end_orphan() -> None:
    forks.end_children()
    os._exit(0)


def _leave(logs: Logs, code: int) -> NoReturn:
    try:
        forks.run_exit_functions()
        if logs.access is not None:
            logs.access.flush()
        for stream in (sys.stdout, sys.stderr):
            # The application may have closed it, or its reader may have ended.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
    finally:
        os._exit(code)
