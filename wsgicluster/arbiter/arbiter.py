"""The arbiter: one process, one loop, one inbox.

Makes the parts of a server in their order, and joins them in its loop. It runs no application code, reads no request
and starts no thread.
"""

import contextlib
import functools
import gc
import math
import os
import signal
from collections.abc import Callable

from wsgicluster.arbiter import startup
from wsgicluster.arbiter.children.entry_points import Roles
from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.children.scoreboard_file import open_scoreboard
from wsgicluster.arbiter.control.handlers import CommandHandlers
from wsgicluster.arbiter.control.launch_handlers import Launch, LaunchHandlers
from wsgicluster.arbiter.control.memory_handlers import MemoryHandlers
from wsgicluster.arbiter.control.opening import open_control
from wsgicluster.arbiter.control.setting_handlers import SettingHandlers
from wsgicluster.arbiter.control.stack_handlers import StackHandlers
from wsgicluster.arbiter.fault_budget import FaultBudget
from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.arbiter.listeners.registry import Addresses
from wsgicluster.arbiter.listeners.shutdown import ListenerShutdown
from wsgicluster.arbiter.operations import Operations, Parts
from wsgicluster.arbiter.plan.requester import Requester
from wsgicluster.arbiter.plan.rollout import Result
from wsgicluster.arbiter.plan.status import ServiceStatus
from wsgicluster.arbiter.reload import Reload
from wsgicluster.arbiter.server_metrics import ServerMetrics
from wsgicluster.arbiter.service.daemonize import Background
from wsgicluster.arbiter.service.launch import Origin
from wsgicluster.arbiter.service.pidfile import PidFile
from wsgicluster.arbiter.service.sd_notify import Announcer, Notifier
from wsgicluster.arbiter.supervision.observation import event_as_json
from wsgicluster.arbiter.supervision.supervisor import Supervisor
from wsgicluster.arbiter.ticket_keys import TicketKeys
from wsgicluster.arbiter.upgrade.upgrade import Upgrade
from wsgicluster.clock import Clock, SystemClock
from wsgicluster.control.event_history import EventHistory
from wsgicluster.errors import ServerError
from wsgicluster.ipc.app_metrics import AppMetricsFolder
from wsgicluster.ipc.mailbox import MailboxRegistry
from wsgicluster.ipc.scoreboard import ServerState
from wsgicluster.ipc.shared_files import SharedFilesOwner
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.system import process
from wsgicluster.system.signals import ARBITER_ACTIONS

__all__ = ["Arbiter", "Roles"]

_CLOCK = SystemClock()
_ORIGIN = Origin()


class Arbiter:
    """One server. ``reload_settings`` reads the settings anew and raises ServerError when they are wrong.

    ``origin`` is how it was started, and what was passed on to it.
    """

    def __init__(
        self,
        settings: Settings,
        reload_settings: Callable[[], Settings],
        roles: Roles,
        logs: Logs,
        clock: Clock = _CLOCK,
        origin: Origin = _ORIGIN,
    ) -> None:
        self._settings = settings
        self._reload_settings = reload_settings
        self._roles = roles
        self._logs = logs
        self._log = logs.error
        self._clock = clock
        self._origin = origin
        self._background: Background | None = None
        """The way back to the process that was started, until that has learned how the start ended."""

    def run(self) -> int:
        """Serve until the end; returns the exit code. Raises ServerError when the server cannot start."""
        # A new server beside an old daemon is in the background already.
        if self._settings.daemon and self._origin.predecessor is None:
            self._background = Background.enter()
        try:
            return self._run()
        except ServerError as error:
            if self._background is not None:
                self._background.failed(error.exit_code, str(error))
                self._background.detach()  # it has been shown there
            raise

    def _run(self) -> int:
        with contextlib.ExitStack() as owned:
            try:
                self._start(owned)
            except OSError as error:
                # Whatever the system refuses by now, most likely descriptors or memory.
                raise ServerError(f"cannot start: {error.strerror or error}") from error
            if self._background is not None:
                # Before there are children, which would hold the terminal, or the pipe of the process that starts this.
                self._background.detach(self._settings.capture_output, self._settings.enable_stdio_inheritance)
            # Workers share these objects' memory as long as no collection touches it.
            gc.collect()
            gc.freeze()
            self._loop()
            self._children.hooks.stopped()
        code = self._exit_code()
        if self._background is not None:
            self._background.failed(code or ServerError.exit_code, self._why_not_started())
        return code

    def _why_not_started(self) -> str:
        """Why a daemon has never had a worker, for the process that was started."""
        last = self._supervisor.status().last
        aborted = last is not None and last.result is Result.ABORTED
        reason = last.reason if last is not None and aborted else "stopped before its first worker was ready"
        log = self._settings.errorlog
        more = "start it without -D, or with --error-logfile, to see its log" if log == "-" else f"see {log}"
        return f"the server has not started: {reason}; {more}"

    def _exit_code(self) -> int:
        code, forced = self._supervisor.failures.final_exit_code, self._supervisor.failures.forced
        if forced:
            self._log.warning("Stopped by force: %s; the exit code is %d", forced, code)
        else:
            self._log.info("Stopped")
        return code

    def _start(self, owned: contextlib.ExitStack) -> None:
        settings = self._settings
        process.set_title("arbiter", settings.proc_name or settings.wsgi_app)
        startup.log_start(settings, self._roles.core, self._log)
        startup.warn_about_environment(self._log)
        self._roles.hooks(settings).starting()
        # First of all, so that from now on no signal is lost; none is acted on before the loop.
        self._inbox = inbox = Inbox({number: functools.partial(self._act, number) for number in ARBITER_ACTIONS})
        owned.callback(inbox.close)
        self._upgrade = upgrade = Upgrade(self._origin, inbox, self._log)
        pidfile = None
        if settings.pidfile:
            pidfile = PidFile(upgrade.pidfile(settings.pidfile))
            pidfile.create(os.getpid())
            owned.callback(pidfile.discard, self._log)
        listeners = self._listen(owned)
        self._log.info("%s", startup.how_to_stop(settings, os.getpid(), startup.in_foreground()))
        addresses = self._addresses
        shared = upgrade.keep(addresses.passed(), startup.hand_off_kind(settings), self._admin.passed())
        self._board = open_scoreboard(settings.worker_tmp_dir, self._log, startup.most_children(settings))
        owned.callback(self._board.close)
        shared_files = SharedFilesOwner.adopt(self._origin.shared_files, self._board.folder)
        owned.callback(shared_files.close)
        app_metrics = AppMetricsFolder(shared_files.files, self._log)
        owned.callback(app_metrics.close)
        prepare = functools.partial(startup.prepare_process, shared_files=shared_files, app_metrics=app_metrics)
        self._children = children = self._make_children(inbox, shared_files, app_metrics, owned)
        if shared is not None:
            children.mailboxes.share_hand_off(shared)
        self._keep_of_predecessor(children.mailboxes.registry)
        self._make_announcer(owned)
        self._supervise(children, owned)
        self._reload = Reload(settings, self._reload_settings, addresses, self._admin, prepare, self._logs)
        ticket_keys = TicketKeys(self._origin.directory, self._clock)
        parts = Parts(
            settings=settings,
            logs=self._logs,
            clock=self._clock,
            upgrade=upgrade,
            addresses=addresses,
            admin=self._admin,
            shutdown=self._shutdown,
            board=self._board,
            shared_files=shared_files,
            children=children,
            announcer=self._announcer,
            supervisor=self._supervisor,
            reload=self._reload,
            ticket_keys=ticket_keys,
            registered=self._roles.registered,
            pidfile=pidfile,
        )
        self._operations = Operations(parts)
        self._open_control(parts, owned)
        prepare(settings)
        tls = ticket_keys.for_workers(settings)
        children.hooks.listening([sock for _, sock in addresses.sockets(listeners)])
        self._supervisor.reload(settings, listeners, self._roles.registered(), tls=tls)
        if self._origin.predecessor is not None:
            self._supervisor.inherit_workers(self._origin.predecessor.workers)

    def _make_announcer(self, owned: contextlib.ExitStack) -> None:
        notifier = Notifier(self._origin.service.notify_socket)
        owned.callback(notifier.close)
        self._announcer = Announcer(notifier.send, self._origin.service.watchdog_s)
        if self._upgrade.predecessor is None:
            self._announcer.begin(self._clock.monotonic())

    def _supervise(self, children: ChildProcesses, owned: contextlib.ExitStack) -> None:
        self._supervisor = Supervisor(children, self._logs, self._clock)
        self._supervisor.progress.on_started = self._tell_started
        owned.callback(self._supervisor.close)

    def _make_children(
        self, inbox: Inbox, shared_files: SharedFilesOwner, app_metrics: AppMetricsFolder, owned: contextlib.ExitStack
    ) -> ChildProcesses:
        children = ChildProcesses(self._board, inbox, self._roles, self._logs, self._addresses.sockets)
        owned.callback(children.close)
        children.use_hooks(self._settings)
        self._upgrade.before_exec = lambda: children.hooks.executing()
        children.shared_files, children.app_metrics = shared_files.files, app_metrics
        children.admin_sockets = self._admin.sockets
        return children

    def _listen(self, owned: contextlib.ExitStack) -> list[int]:
        """Open all addresses; the numbers of those that the first workers listen at."""
        is_shared = self._upgrade.is_shared
        self._addresses = addresses = Addresses(self._log, startup.first_number(os.getpid()), is_shared)
        self._shutdown = ListenerShutdown(addresses)
        self._metrics = ServerMetrics(self._logs.report, lambda: sum(each["queue"] for each in addresses.queues()))
        owned.callback(addresses.keep, ())
        listeners = startup.listen(self._settings, addresses, self._origin.passed, self._log)
        self._admin = startup.admin_addresses(is_shared, self._log)
        owned.callback(self._admin.close)
        self._admin.open(self._settings, self._origin.passed_admin)
        return listeners

    def _open_control(self, parts: Parts, owned: contextlib.ExitStack) -> None:
        """Open the control socket, where there can be one; closed last, when it is known how the server ended."""
        history = EventHistory()
        self._supervisor.events.observers.append(lambda event: history.add(event_as_json(event)))
        launch = Launch(self._origin.command, self._origin.directory, tuple(self._origin.environ))
        handlers = {
            **CommandHandlers(parts, self._operations, history).table(),
            **SettingHandlers(parts, self._operations).table(),
            **StackHandlers(parts).table(),
            **MemoryHandlers(parts).table(),
            **LaunchHandlers(parts, launch).table(),
        }
        self._control = open_control(self._settings, self._inbox, handlers, self._clock, self._log)
        owned.callback(self._control.close)
        parts.children.admit_control = self._control.admit

    def _keep_of_predecessor(self, mailboxes: MailboxRegistry) -> None:
        """In an upgrade: what the mailboxes of the server before this one have kept."""
        if self._origin.predecessor is None:
            return
        before = self._origin.predecessor.hand_off
        if before.retained >= 0:
            mailboxes.share_retained(before.retained)
        if before.turns >= 0:
            mailboxes.share_turns(before.turns)

    def _act(self, number: signal.Signals) -> None:
        """What a signal leads to: the operation that the table names."""
        getattr(self._operations, ARBITER_ACTIONS[number])(Requester(number.name))

    # The loop

    def _loop(self) -> None:
        faults = FaultBudget()
        while True:
            try:
                if self._turn():
                    return
            except Exception:
                # The boundary of this process. Better a supervisor with a fault than none, unless it keeps failing.
                too_many = faults.another(self._clock.monotonic())
                self._log.critical(
                    "internal error of the arbiter, number %d",
                    faults.count,
                    exc_info=True,
                )
                if too_many:
                    raise

    def _turn(self) -> bool:
        """Take in what came, decide, act; True when all is done."""
        supervisor = self._supervisor
        self._inbox.handle()
        self._operations.advance()
        supervisor.check()
        self._operations.advance_stop()
        supervisor.carry_out()
        # With a server after this one the service continues.
        status = supervisor.status(leaving=self._shutdown.is_leaving and self._upgrade.successor is None)
        if not status.stopping:
            self._close_addresses()
        serving = supervisor.serving
        if serving is not None and not status.on_trial:
            self._reload.revert_logs(serving)
        self._publish(status)
        if status.is_over:
            return True
        self._control.advance()
        due = min(
            supervisor.next_due(),
            self._announcer.next_due(),
            self._shutdown.next_due,
            self._control.next_due(),
            self._metrics.next_due(),
        )
        self._inbox.wait(None if due == math.inf else max(0.0, due - self._clock.monotonic()))
        return False

    def _close_addresses(self) -> None:
        """Close what no generation needs that serves, or is on trial; its workers have been notified by now."""
        closed = self._addresses.keep(self._supervisor.listeners)
        for address in closed:
            self._log.info("No longer listening at: %s", address)
        self._admin.keep(self._supervisor.admin_addresses)
        self._upgrade.still_keep(self._addresses.numbers() | self._admin.numbers())

    def _tell_started(self) -> None:
        """Tell the workers, which respond to probes, that the server serves."""
        if self._board.told() is ServerState.STARTING:
            self._board.tell(ServerState.SERVING)

    def _publish(self, status: ServiceStatus) -> None:
        """Tell the service manager and the server beside this one how the server is."""
        if self._background is not None and status.generation:
            self._background.succeeded()
            self._background = None
        now = self._clock.monotonic()
        self._announcer.update(status, now)
        self._metrics.update(status.ready, self._reload.settings.enable_backlog_metric, now)
        self._upgrade.tell_serving(status.started and status.serving)
