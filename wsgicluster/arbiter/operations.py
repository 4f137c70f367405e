"""What is wanted of a server: a reload, a stop, more or fewer workers, an upgrade.

Each is a method, and so an action of the table of signals, and gets who has requested it, which it logs and events
name; what takes time is advanced by one step in each turn of the arbiter's loop. Knows no signal that the arbiter gets:
a control socket would call the same methods.
"""

import logging
import math
import os
import signal
from collections.abc import Callable, Mapping

from wsgicluster.arbiter import startup
from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.listeners.admin import AdminAddresses
from wsgicluster.arbiter.listeners.registry import Addresses
from wsgicluster.arbiter.listeners.shutdown import ListenerShutdown
from wsgicluster.arbiter.plan.orders import Stopping
from wsgicluster.arbiter.plan.requester import CHANGED_SOURCE, CONFIGURATION_FILE, ReloadRequest, Requester
from wsgicluster.arbiter.reload import Reload
from wsgicluster.arbiter.service.launch import HandOff
from wsgicluster.arbiter.service.pidfile import PidFile
from wsgicluster.arbiter.service.sd_notify import Announcer
from wsgicluster.arbiter.supervision.supervisor import Supervisor
from wsgicluster.arbiter.ticket_keys import TicketKeys
from wsgicluster.arbiter.upgrade.upgrade import Happened, Upgrade
from wsgicluster.clock import Clock
from wsgicluster.counting import count_of
from wsgicluster.dataclass import dataclass
from wsgicluster.errors import ServerError, UsageError
from wsgicluster.ipc.messages import OperationWanted
from wsgicluster.ipc.scoreboard import Scoreboard, ServerState
from wsgicluster.ipc.shared_files import SharedFilesOwner
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.settings.types.scheduling import WEIGHTS

SET_SCHEDULING = "cluster.set_scheduling"
"""Where values come from, in errors, that the steward has asked for."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What one server consists of; ``settings`` are those that it was started with."""

    settings: Settings
    logs: Logs
    clock: Clock
    upgrade: Upgrade
    addresses: Addresses
    admin: AdminAddresses
    shutdown: ListenerShutdown
    board: Scoreboard
    shared_files: SharedFilesOwner
    children: ChildProcesses
    announcer: Announcer
    supervisor: Supervisor
    reload: Reload
    ticket_keys: TicketKeys
    registered: Callable[[], object | None]
    pidfile: PidFile | None = None


class Operations:
    """The operations of one server."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._log: logging.Logger = parts.logs.error
        self._supervisor = parts.supervisor
        self._shutdown = parts.shutdown
        self._upgrade = parts.upgrade
        self._reload_wanted: ReloadRequest | None = None
        self._smoke_wanted: tuple[str, ...] | None = None
        self._stop_begun = False
        self._retired_for_successor = False
        self._overlap: dict[Happened, Callable[[], None]] = {
            Happened.ALONE: self._become_only_server,
            Happened.MAIN: lambda: parts.announcer.begin(parts.clock.monotonic()),
            Happened.LEAVING: lambda: self._resume("the new server is about to stop"),
            Happened.LOST: lambda: self._resume("no other server is left"),
            Happened.REPLACED: lambda: self._shutdown.bring_forward(parts.clock.monotonic()),
        }

    @property
    def is_stopping(self) -> bool:
        """Does the server stop, or has a stop been requested?"""
        return bool(self._supervisor.stopping) or self._shutdown.is_leaving

    # Reload

    @property
    def reload_is_pending(self) -> bool:
        """Has a reload been requested that has not been begun?"""
        return self._reload_wanted is not None

    def reload(self, by: Requester, smoke: tuple[str, ...] | None = None, canary_s: float = 0.0) -> None:
        """Read settings and code again, and replace the workers; in the next step, once for all requests until then.

        ``smoke`` takes the place of the setting of that name until the next reload. With ``canary_s`` the first new
        worker is on probation for so long, else as ``reload_probation`` says.
        """
        if canary_s:
            self._log.info("%s: reload, with one worker for %g s first", by.title, canary_s)
        else:
            self._log.info("%s: reload", by.title)
        self._reload_wanted, self._smoke_wanted = ReloadRequest(by.by, canary_s), smoke

    def _carry_out_reload(self, wanted: ReloadRequest) -> None:
        smoke, self._smoke_wanted = self._smoke_wanted, None
        self._reload_wanted, self._supervisor.messages.source_changed = None, False
        if self.is_stopping:
            self._log.info("Reload ignored: the server is stopping")
            return
        parts = self._parts
        parts.announcer.reload_begins(parts.clock.monotonic())
        self._serve_again()
        failure = parts.reload.prepare(self._supervisor.serving or parts.settings, smoke)
        if failure:
            self._supervisor.refuse(failure, wanted.by)
        else:
            reload = parts.reload
            parts.children.use_hooks(reload.settings)
            parts.children.hooks.reloaded([sock for _, sock in parts.children.sockets(reload.listeners)])
            tls = parts.ticket_keys.for_workers(reload.settings)
            self._supervisor.reload(reload.settings, reload.listeners, parts.registered(), reload.changes, wanted, tls)

    def reopen_logs(self, by: Requester) -> None:
        """Open log files anew, under their names, in all processes."""
        self._log.info("%s: reopening the logs", by.title)
        try:
            self._parts.logs.reopen()
        except OSError as error:
            self._log.error("Logs could not be reopened: %s", error.strerror)
        self._supervisor.signal_all(signal.SIGUSR1)

    # Stop

    def stop_gracefully(self, by: Requester) -> None:
        """Finish requests, at the latest after ``graceful_timeout``; first serve on for ``drain_delay``."""
        if self._supervisor.stopping:
            return
        # A second one ends the delay; and clients need no other server when the next one has the same addresses.
        waits = not self._shutdown.is_leaving and not self._upgrade.takes_connections
        serving, now = self._supervisor.serving if waits else None, self._parts.clock.monotonic()
        if serving is not None and self._upgrade.call_back():
            self._shutdown.plan(now + serving.graceful_timeout)
            self._log.info("%s: graceful stop as soon as the old server serves again", by.title)
            return
        delay_s = serving.drain_delay if serving is not None else 0.0
        self._shutdown.plan(now + delay_s)
        if not self._upgrade.takes_connections:
            self._parts.board.tell(ServerState.LEAVING)
        if delay_s:
            text = "%s: graceful stop in %g s (drain_delay); serving until then, but not ready"
            self._log.info(text, by.title, delay_s)
        else:
            self._supervisor.prepare_stop()
            self._log.info("%s: graceful stop", by.title)

    def stop_quickly(self, by: Requester) -> None:
        """Cut requests off; asked for a second time, kill the workers."""
        again = self._supervisor.stopping is Stopping.QUICK
        self._log.info("%s: stop by force" if again else "%s: quick stop", by.title)
        self._shutdown.plan(math.inf)
        self._supervisor.stop(Stopping.FORCED if again else Stopping.QUICK)

    def _begin_stop(self, now: float) -> None:
        parts, self._stop_begun = self._parts, True
        if self._upgrade.successor is not None:
            parts.announcer.hand_over(self._upgrade.successor)
            self._upgrade.hand_over()
            if not self._upgrade.serves_elsewhere:
                self._log.warning("The new server does not serve yet; until it does, clients wait")
        if self._upgrade.takes_connections:
            # Its workers are siblings: what is idle here is handed to them, and nothing new is accepted.
            self._log.info("The %s server keeps serving", "new" if self._upgrade.successor else "old")
            parts.children.end_listeners(self._upgrade.shared)
            parts.children.mailboxes.hands_on = True
        else:
            parts.board.tell(ServerState.STOPPING)
        self._shutdown.begin(now)

    # Workers

    def reap(self, _by: Requester) -> None:
        """Take in which children have exited, of which the kernel has sent a signal."""
        self._supervisor.reap()

    def add_worker(self, by: Requester) -> None:
        """Want one worker more."""
        self._serve_again()
        self._log.info("%s: %s", by.title, count_of(self._supervisor.scale(+1, by.by), "worker"))

    def remove_worker(self, by: Requester) -> None:
        """Want one worker less, as a rule the oldest."""
        self._log.info("%s: %s", by.title, count_of(self._supervisor.remove_oldest(by.by), "worker"))

    def scale_to(self, workers: int, by: Requester) -> int:
        """Want so many workers, at most as many as there may be; returns how many are wanted then."""
        self._serve_again()
        found = self._supervisor.scale_to(workers, by.by)
        self._log.info("%s: scale to %s", by.title, count_of(found, "worker"))
        return found

    def replace(self, slot: int, by: Requester, why: str = "restart") -> bool:
        """Replace the worker of a slot, once another one is ready; False where there is none to replace."""
        found = self._supervisor.replace(slot, by.by)
        self._log.info("%s: slot %d: %s", by.title, slot, why if found else f"{why} ignored, as no worker serves there")
        return found

    def retire_all(self, by: Requester) -> None:
        """Want no worker, in a daemon or while the server after this one serves."""
        successor = self._upgrade.successor
        if successor is None and not self._parts.settings.daemon:
            self._log.info("%s ignored: this server is not a daemon, and no upgrade is under way", by.title)
            return
        if successor is not None and not self._upgrade.serves_elsewhere:
            self._log.warning("%s ignored: the new server (pid %d) does not serve yet", by.title, successor)
            return
        self._log.info("%s: all workers retire until SIGHUP or SIGTTIN", by.title)
        if not self._supervisor.status().retired:
            self._retired_for_successor = successor is not None
        if successor is not None:
            if self._upgrade.takes_connections:
                self._parts.children.end_listeners(self._upgrade.shared)
            else:
                # No process would read what they hand over.
                self._parts.board.tell(ServerState.STOPPING)
        self._supervisor.retire()

    def _carry_out_wanted(self, wanted: OperationWanted, by: Requester) -> None:
        """What the steward has asked for; its outcome is an event."""
        if self.is_stopping:
            self._log.info("%s: %s ignored, as the server is stopping", by.title, wanted.operation)
            return
        match wanted.operation:
            case "scale":
                self.scale_to(wanted.number, by)
            case "reload":
                self.reload(by)
            case "restart" | "drain":
                self.replace(wanted.number, by, wanted.operation)
            case "set_scheduling":
                try:
                    self.set_scheduling(wanted.settings, by, SET_SCHEDULING)
                except UsageError as error:
                    # They have been checked by the steward, but there may be more or fewer workers by now.
                    self._log.warning("Scheduling stays as it is: %s", error)
            case _:
                self._log.warning("%s: unknown operation %r", by.title, wanted.operation)

    def set_scheduling(self, given: Mapping[str, str], by: Requester, where: str) -> None:
        """Have all workers follow another scheduling policy; ``where`` is the source for errors. Raises UsageError."""
        settings = self._supervisor.scheduling.set(given, where)
        shown = {"weighted": WEIGHTS.show(settings.weights), "sticky": f"by {settings.sticky}"}
        words = filter(None, (settings.scheduling, shown.get(settings.scheduling)))
        self._log.info("%s: scheduling is %s", by.title, " ".join(words))

    def _serve_again(self) -> None:
        """Workers that have retired for an upgrade are wanted again."""
        board = self._parts.board
        if board.told() is ServerState.STOPPING:
            serves = ServerState.SERVING if self._supervisor.status().started else ServerState.STARTING
            board.tell(ServerState.LEAVING if self._shutdown.is_leaving else serves)

    def _resume(self, reason: str) -> None:
        """Workers that have retired for the server after this one are wanted again."""
        status = self._supervisor.status()
        if self._retired_for_successor and status.retired and not status.stopping:
            self._log.warning("Resuming %s: %s", count_of(self._supervisor.resume(), "retired worker"), reason)
            self._serve_again()

    # The server beside this one

    def start_successor(self, by: Requester) -> None:
        """Start a new server beside this one, on its listeners."""
        if self.is_stopping:
            self._log.warning("%s ignored: this server is stopping", by.title)
            return
        parts = self._parts
        receive, send = (end.fileno() for end in parts.children.mailboxes.hand_off)
        kind = startup.hand_off_kind(parts.settings)
        mailboxes = parts.children.mailboxes.registry
        hand_off = HandOff(receive, send, kind, mailboxes.retained_fd, mailboxes.turns_fd)
        passed, passed_admin, workers = parts.addresses.passed(), parts.admin.passed(), self._supervisor.workers_beside
        with parts.shared_files.passed() as shared_files:
            pid = self._upgrade.start(passed, hand_off, shared_files, by.title, passed_admin, workers)
        if pid is not None:
            parts.children.on_exit(pid, self._upgrade.ended)

    @property
    def _admin_elsewhere(self) -> bool:
        """Has the other server the admin worker at the address of both? It is the new one once that serves."""
        upgrade = self._upgrade
        if upgrade.predecessor is not None:
            elsewhere = not self._supervisor.status().started
        else:
            elsewhere = upgrade.serves_elsewhere
        return elsewhere and bool(upgrade.shared & self._parts.admin.numbers())

    def _become_only_server(self) -> None:
        """The server before this one has exited."""
        parts = self._parts
        parts.announcer.begin(parts.clock.monotonic(), main_pid=os.getpid())
        if parts.pidfile is None or not parts.settings.pidfile:
            return
        try:
            parts.pidfile.rename(parts.settings.pidfile, self._upgrade.former)
        except ServerError as error:
            self._log.error("%s", error)

    # One turn

    def advance(self) -> None:
        """Carry out what has been asked for since the last turn, but for a stop."""
        self._supervisor.admin_elsewhere(self._admin_elsewhere)
        while self._upgrade.happened:
            self._overlap[self._upgrade.happened.popleft()]()
        while self._supervisor.messages.wanted:
            self._carry_out_wanted(self._supervisor.messages.wanted.popleft(), CONFIGURATION_FILE)
        if self._reload_wanted is not None:
            self._carry_out_reload(self._reload_wanted)
        elif self._supervisor.messages.source_changed:
            self._carry_out_reload(ReloadRequest(CHANGED_SOURCE.by))

    def advance_stop(self) -> None:
        """Begin a stop that is due, before workers get signals: they drain differently when no server takes over."""
        now = self._parts.clock.monotonic()
        if self._shutdown.is_due(self._supervisor.pids, now):
            self._supervisor.stop(Stopping.GRACEFUL)
        if self._supervisor.stopping:
            if not self._stop_begun:
                self._begin_stop(now)
            self._shutdown.poll(now)
