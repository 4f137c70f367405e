"""The arbiter: one process, one loop, one inbox.

Joins listeners, pid file, scoreboard and supervision, and answers the operator's
signals. It runs no application code, reads no request and starts no thread.
"""

import collections
import contextlib
import dataclasses
import gc
import math
import os
import signal
from collections.abc import Callable

from wsgicluster import __version__, process
from wsgicluster.arbiter import start
from wsgicluster.arbiter.daemon import Background
from wsgicluster.arbiter.family import Family
from wsgicluster.arbiter.faults import Faults
from wsgicluster.arbiter.heartbeat import open_scoreboard
from wsgicluster.arbiter.inbox import Event, Inbox, Signalled
from wsgicluster.arbiter.listeners import Listener
from wsgicluster.arbiter.notify import Announcer, Notifier, standing
from wsgicluster.arbiter.origin import HandOff, Origin
from wsgicluster.arbiter.pidfile import PidFile
from wsgicluster.arbiter.pool import Stopping
from wsgicluster.arbiter.roles import Roles
from wsgicluster.arbiter.supervisor import Supervisor
from wsgicluster.arbiter.upgrade import BOND_KEY, Happened, Upgrade
from wsgicluster.clock import Clock, SystemClock
from wsgicluster.errors import ServerError
from wsgicluster.logs import LogOptions, Logs
from wsgicluster.scoreboard import ServerState
from wsgicluster.settings import Settings
from wsgicluster.settings.declaration import Applies
from wsgicluster.settings.fields import SETTINGS

__all__ = ["Arbiter", "Roles", "log_options"]

_CLOCK = SystemClock()
_ORIGIN = Origin()


def log_options(settings: Settings) -> LogOptions:
    """What the settings say about logs; new files belong to whom workers run as."""
    changes_user = (settings.user, settings.group) != (os.geteuid(), os.getegid())
    return LogOptions(
        errorlog=settings.errorlog,
        loglevel=settings.loglevel,
        accesslog=settings.accesslog,
        access_log_format=settings.access_log_format,
        logconfig_dict=settings.logconfig_dict,
        capture_output=settings.capture_output,
        owner=(settings.user, settings.group) if changes_user else None,
    )


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
        self._log_options = log_options(settings)
        self._reload_wanted = False
        self._events: collections.deque[Event] = collections.deque()
        self._listeners: list[Listener] = []
        self._pidfile: PidFile | None = None
        self._stop_told = False
        self._has_started = False
        self._retired = 0
        self._handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGCHLD: self._reap,
            signal.SIGHUP: self._want_reload,
            signal.SIGTERM: self._stop_gracefully,
            signal.SIGINT: self._stop_quickly,
            signal.SIGQUIT: self._stop_quickly,
            signal.SIGTTIN: self._one_more,
            signal.SIGTTOU: self._one_less,
            signal.SIGUSR1: self._reopen_logs,
            signal.SIGUSR2: self._start_successor,
            signal.SIGWINCH: self._retire_all,
        }
        self._overlap: dict[Happened, Callable[[], None]] = {
            Happened.ALONE: self._promoted,
            Happened.MAIN: lambda: self._announcer.begin(self._clock.monotonic()),
            Happened.LOST: self._bring_back,
        }

    def run(self) -> int:
        """Serve until the end; answers the exit code. Raises ServerError when the server cannot start."""
        # A new server beside an old daemon is in the background already.
        enters = self._settings.daemon and self._origin.predecessor is None
        background = Background.enter() if enters else None
        try:
            return self._run(background)
        except ServerError as error:
            if background is not None:
                background.failed(error)
            raise

    def _run(self, background: Background | None) -> int:
        with contextlib.ExitStack() as owned:
            try:
                self._start(owned)
            except OSError as error:
                # Whatever the system refuses by now, most likely descriptors or memory.
                raise ServerError(f"cannot start: {error.strerror or error}") from error
            if background is not None:
                background.succeeded(keep_output=self._settings.capture_output)
            # Workers share these objects' memory as long as no collection touches it.
            gc.collect()
            gc.freeze()
            self._loop()
        self._log.info("Stopped")
        return self._supervisor.exit_code

    def _start(self, owned: contextlib.ExitStack) -> None:
        settings = self._settings
        process.set_title("arbiter", settings.proc_name or settings.wsgi_app)
        os.umask(settings.umask)
        self._log.info("Starting wsgicluster %s", __version__)
        start.look_around(self._log)
        self._inbox = Inbox(self._handlers)
        owned.callback(self._inbox.close)
        self._upgrade = Upgrade(self._origin, self._inbox, self._log)
        if settings.pidfile:
            self._pidfile = PidFile(self._upgrade.pidfile(settings.pidfile))
            self._pidfile.create(os.getpid())
            owned.callback(self._remove, self._pidfile)
        self._listeners = start.listen(settings, self._origin.passed, self._log)
        shared = self._upgrade.keep(
            [listener.passed for listener in self._listeners], start.hand_off_kind(self._settings)
        )
        owned.callback(self._close_listeners)
        self._board = open_scoreboard(settings.worker_tmp_dir, self._log)
        owned.callback(self._board.close)
        self._family = family = Family(self._board, self._inbox, self._roles, self._logs)
        owned.callback(family.close)
        family.listeners = [listener.sock for listener in self._listeners]
        if shared is not None:
            family.share_hand_off(shared)
        notifier = Notifier(self._origin.service.notify_socket)
        owned.callback(notifier.close)
        self._announcer = Announcer(notifier.send, self._origin.service.watchdog_s)
        if self._upgrade.predecessor is None:
            self._announcer.begin(self._clock.monotonic())
        self._supervisor = Supervisor(family, self._logs, self._clock)
        owned.callback(self._supervisor.close)
        self._prepare(settings)
        self._supervisor.begin(settings)

    def _prepare(self, settings: Settings) -> None:
        if not settings.preload_app:
            return
        try:
            process.set_child_subreaper()
        except OSError as error:
            raise ServerError(f"preload_app: {error.strerror or error}") from error

    # The loop

    def _loop(self) -> None:
        faults = Faults()
        while True:
            try:
                if self._turn():
                    return
            except Exception:
                # The boundary of this process. Better a supervisor with a fault than none, unless it keeps failing.
                too_many = faults.another(self._clock.monotonic())
                self._log.critical("internal error of the arbiter, number %d", faults.count, exc_info=True)
                if too_many:
                    raise

    def _turn(self) -> bool:
        """Take in what came, decide, act; True when all is done."""
        supervisor = self._supervisor
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Signalled):
                self._handlers[event.number]()
            elif event.key == BOND_KEY:
                self._upgrade.read()
            else:
                supervisor.read(event.key)
        while self._upgrade.happened:
            self._overlap[self._upgrade.happened.popleft()]()
        if self._reload_wanted or supervisor.source_changed:
            self._reload()
        supervisor.look()
        if supervisor.pool.stopping:
            # Before the workers are told: they drain differently when nobody takes over.
            self._tell_stopping()
        supervisor.carry_out()
        self._take_back_logs()
        self._tell_others()
        if supervisor.pool.stopping and not supervisor.pool.children:
            return True
        due = min(supervisor.next_due(), self._announcer.next_due())
        self._events += self._inbox.wait(None if due == math.inf else max(0.0, due - self._clock.monotonic()))
        return False

    def _tell_stopping(self) -> None:
        if self._stop_told:
            return
        self._stop_told = True
        if self._upgrade.successor is not None:
            self._announcer.hand_over(self._upgrade.successor)
            self._upgrade.hand_over()
            if not self._upgrade.serves_elsewhere:
                self._log.warning("The new server does not serve yet; until it does, clients wait")
        if self._upgrade.takes_connections:
            # Its workers are siblings: what is idle here is handed to them, and nothing new is taken.
            self._log.info("The %s server goes on", "new" if self._upgrade.successor else "old")
        else:
            self._board.tell(ServerState.STOPPING)
        self._close_listeners()

    def _tell_others(self) -> None:
        """Tell the service manager and the server beside this one how things stand."""
        now = self._clock.monotonic()
        stands = standing(self._supervisor.pool, self._enough_workers(), now)
        self._announcer.update(stands, now)
        self._has_started = self._has_started or stands.enough
        self._upgrade.tell_serving(self._has_started and stands.serving)

    def _enough_workers(self) -> int:
        """How many workers have to be ready before this server counts as started."""
        return self._supervisor.pool.rollout.workers

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            try:
                listener.close(remove_file=not self._upgrade.is_shared(listener.passed))
            except OSError as error:
                self._log.warning("cannot remove the socket file of %s: %s", listener.address, error.strerror)
        self._listeners = []

    def _remove(self, pidfile: PidFile) -> None:
        try:
            pidfile.remove()
        except OSError as error:
            self._log.warning("pidfile: cannot be removed: %s", error.strerror)

    # What the operator wants

    def _reap(self) -> None:
        self._supervisor.reap()

    def _want_reload(self) -> None:
        self._log.info("SIGHUP: reload")
        self._reload_wanted = True

    def _reload(self) -> None:
        self._reload_wanted = self._supervisor.source_changed = False
        if self._supervisor.pool.stopping:
            return
        self._announcer.reload_begins(self._clock.monotonic())
        self._serve_again()
        try:
            wanted = self._reload_settings()
            fixed = self._fixed(wanted)
            settings = dataclasses.replace(wanted, **{name: getattr(self._settings, name) for name in fixed})
            self._prepare(settings)
            self._apply_logs(settings)
        except ServerError as error:
            self._log.error("The reload is called off, the present settings stay in force: %s", error)
            return
        except BaseException:  # noqa: BLE001
            # A configuration file is a program of somebody else's: whatever it raises, the server goes on.
            self._log.exception("The reload is called off, the present settings stay in force")
            return
        for name in fixed:
            self._log.warning("%s has changed, which needs a restart; the present value stays in force", name)
        self._supervisor.begin(settings)

    def _fixed(self, wanted: Settings) -> list[str]:
        """The settings that have changed and cannot while the server runs."""
        names = [name for name, setting in SETTINGS.items() if setting.about.applies is Applies.RESTART]
        if self._settings.capture_output:
            # Standard output and error lead to its file, and to nowhere else any more.
            names.append("errorlog")
        return [name for name in names if getattr(wanted, name) != getattr(self._settings, name)]

    def _apply_logs(self, settings: Settings) -> None:
        options = log_options(settings)
        if options != self._log_options:
            self._logs.apply(options)
            self._log_options = options

    def _take_back_logs(self) -> None:
        """Log as the generation that serves does, once one that was tried has been called off."""
        rollout, serving = self._supervisor.pool.rollout, self._supervisor.serving
        if rollout.trial is not None or serving is None:
            return
        try:
            self._apply_logs(serving)
        except ServerError as error:
            self._log_options = log_options(serving)
            self._log.error("%s", error)

    def _stop_gracefully(self) -> None:
        if not self._supervisor.pool.stopping:
            self._log.info("SIGTERM: graceful stop")
        self._supervisor.pool.stop(Stopping.GRACEFUL)

    def _stop_quickly(self) -> None:
        again = self._supervisor.pool.stopping is Stopping.QUICK
        self._log.info("Stop by force" if again else "SIGINT or SIGQUIT: quick stop")
        self._supervisor.pool.stop(Stopping.FORCED if again else Stopping.QUICK)

    def _one_more(self) -> None:
        self._serve_again()
        self._log.info("SIGTTIN: %d workers", self._supervisor.pool.rollout.scale(+1))

    def _one_less(self) -> None:
        self._log.info("SIGTTOU: %d workers", self._supervisor.pool.rollout.scale(-1))

    def _retire_all(self) -> None:
        successor, rollout = self._upgrade.successor, self._supervisor.pool.rollout
        if successor is None and not self._settings.daemon:
            self._log.info("SIGWINCH is ignored: this server is no daemon, and no upgrade is under way")
            return
        if successor is not None and not self._upgrade.serves_elsewhere:
            self._log.warning("SIGWINCH is ignored: the new server (pid %d) does not serve yet", successor)
            return
        self._log.info("SIGWINCH: all workers retire until SIGHUP or SIGTTIN")
        if successor is not None:
            self._retired = rollout.workers or self._retired
            if not self._upgrade.takes_connections:
                # Nobody would read what they hand over.
                self._board.tell(ServerState.STOPPING)
        rollout.retire_all()

    def _serve_again(self) -> None:
        """Workers that have retired for an upgrade are wanted again."""
        self._retired = 0
        self._board.tell(ServerState.SERVING)

    # The server beside this one

    def _start_successor(self) -> None:
        if self._supervisor.pool.stopping:
            self._log.warning("SIGUSR2 is ignored: this server is about to end")
            return
        receive, send = (end.fileno() for end in self._family.hand_off)
        hand_off = HandOff(receive, send, start.hand_off_kind(self._settings))
        pid = self._upgrade.start([listener.passed for listener in self._listeners], hand_off)
        if pid is not None:
            self._family.tell_end(pid, self._upgrade.ended)

    def _promoted(self) -> None:
        """The server before this one is gone."""
        self._announcer.begin(self._clock.monotonic(), main_pid=os.getpid())
        if self._pidfile is None or not self._settings.pidfile:
            return
        try:
            self._pidfile.rename(self._settings.pidfile, self._upgrade.former)
        except ServerError as error:
            self._log.error("%s", error)

    def _bring_back(self) -> None:
        """The server after this one has ended; workers that have retired for it are wanted again."""
        if self._retired and not self._supervisor.pool.stopping:
            count = self._supervisor.pool.rollout.scale(self._retired)
            self._log.warning("%d workers are brought back, because nobody else serves", count)
            self._serve_again()

    def _reopen_logs(self) -> None:
        self._log.info("SIGUSR1: logs are reopened")
        try:
            self._logs.reopen()
        except OSError as error:
            self._log.error("logs could not be reopened: %s", error.strerror)
        self._supervisor.tell_all(signal.SIGUSR1)
