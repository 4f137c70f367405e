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
import tempfile
from collections.abc import Callable, Iterable, Sequence

from wsgicluster import __version__, process
from wsgicluster.arbiter.addresses import Addresses
from wsgicluster.arbiter.daemon import Background
from wsgicluster.arbiter.door import LOOK_S, Door
from wsgicluster.arbiter.family import Family
from wsgicluster.arbiter.faults import Faults
from wsgicluster.arbiter.inbox import Event, Inbox, Signalled
from wsgicluster.arbiter.listeners import Owner, Queue, backlog_limit, open_listeners
from wsgicluster.arbiter.pidfile import PidFile
from wsgicluster.arbiter.pool import Stopping
from wsgicluster.arbiter.roles import Roles
from wsgicluster.arbiter.supervisor import Supervisor
from wsgicluster.clock import Clock, SystemClock
from wsgicluster.errors import ForcedStop, ServerError
from wsgicluster.logs import LogOptions, Logs
from wsgicluster.scoreboard import Scoreboard, ServerState
from wsgicluster.settings import Settings
from wsgicluster.settings.declaration import Applies
from wsgicluster.settings.difference import changed
from wsgicluster.settings.fields import SETTINGS

__all__ = ["Arbiter", "Roles", "log_options"]

_CLOCK = SystemClock()
_SHARED_MEMORY = "/dev/shm"
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "shm"})


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
    """One server. ``reload_settings`` reads the settings anew and raises ServerError when they are wrong."""

    def __init__(
        self,
        settings: Settings,
        reload_settings: Callable[[], Settings],
        roles: Roles,
        logs: Logs,
        clock: Clock = _CLOCK,
    ) -> None:
        self._settings = settings
        self._reload_settings = reload_settings
        self._roles = roles
        self._logs = logs
        self._log = logs.error
        self._clock = clock
        self._log_options = log_options(settings)
        self._reload_wanted = False
        self._events: collections.deque[Event] = collections.deque()
        self._addresses = Addresses(self._log)
        self._leaves_at = math.inf
        self._door = Door(self._addresses)
        self._handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGCHLD: self._reap,
            signal.SIGHUP: self._want_reload,
            signal.SIGTERM: self._stop_gracefully,
            signal.SIGINT: self._stop_quickly,
            signal.SIGQUIT: self._stop_quickly,
            signal.SIGTTIN: self._one_more,
            signal.SIGTTOU: self._one_less,
            signal.SIGUSR1: self._reopen_logs,
            signal.SIGUSR2: self._ignore_upgrade,
            signal.SIGWINCH: self._retire_all,
        }

    def run(self) -> int:
        """Serve until the end; answers the exit code. Raises ServerError when the server cannot start."""
        background = Background.enter() if self._settings.daemon else None
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
        return self._exit_code()

    def _exit_code(self) -> int:
        supervisor = self._supervisor
        code = supervisor.exit_code
        if supervisor.forced:
            code = code or ForcedStop.exit_code
            self._log.warning("Stopped by force: %s; the exit code is %d", supervisor.forced, code)
        else:
            self._log.info("Stopped")
        return code

    def _start(self, owned: contextlib.ExitStack) -> None:
        settings = self._settings
        process.set_title("arbiter", settings.proc_name or settings.wsgi_app)
        os.umask(settings.umask)
        self._log.info("Starting wsgicluster %s", __version__)
        self._inbox = Inbox(self._handlers)
        owned.callback(self._inbox.close)
        if settings.pidfile:
            pidfile = PidFile(settings.pidfile)
            pidfile.create(os.getpid())
            owned.callback(self._remove, pidfile)
        numbers = self._listen()
        owned.callback(self._close_listeners)
        self._board = Scoreboard(self._heartbeat_folder())
        owned.callback(self._board.close)
        family = Family(self._board, self._inbox, self._roles, self._logs)
        owned.callback(family.close)
        self._supervisor = Supervisor(family, self._logs, self._clock)
        self._prepare(settings)
        self._supervisor.begin(settings, self._addresses.places(numbers))

    def _listen(self) -> list[int]:
        settings = self._settings
        numbers = self._open_addresses(settings)
        self._say_listening(numbers)
        limit = backlog_limit()
        if limit is not None and limit < settings.backlog:
            self._log.warning("backlog: the kernel grants %d, not %d; see net.core.somaxconn", limit, settings.backlog)
        return numbers

    def _open_addresses(self, settings: Settings) -> list[int]:
        """The numbers of the listeners that these settings ask for; new ones are opened. Raises AddressError."""
        owner = Owner(settings.user, settings.group) if os.geteuid() == 0 else Owner()
        queue = Queue(settings.backlog, settings.defer_accept)
        return self._addresses.open(settings.bind, lambda missing: open_listeners(missing, queue, owner))

    def _say_listening(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._log.info("Listening at: %s (%d)", self._addresses.shown(number), os.getpid())

    def _heartbeat_folder(self) -> str | None:
        folder = self._settings.worker_tmp_dir
        if folder is None and process.file_system(_SHARED_MEMORY) in _IN_MEMORY and os.access(_SHARED_MEMORY, os.W_OK):
            return _SHARED_MEMORY
        kind = process.file_system(folder or tempfile.gettempdir())
        if kind and kind not in _IN_MEMORY:
            self._log.warning(
                "worker_tmp_dir: %s is on a disk (%s), where a worker may be held up and look hung; name one in memory",
                folder or tempfile.gettempdir(),
                kind,
            )
        return folder

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
            else:
                supervisor.read(event.key)
        if self._reload_wanted or supervisor.source_changed:
            self._reload()
        supervisor.look()
        if self._clock.monotonic() >= self._leaves_at:
            self._shut_and_stop()
        if supervisor.pool.stopping:
            # Before the workers are told: they drain differently when nobody takes over.
            self._tell_stopping()
        supervisor.carry_out()
        self._let_go_of_addresses()
        self._take_back_logs()
        if supervisor.started and self._board.told() is ServerState.STARTING:
            self._board.tell(ServerState.SERVING)
        if supervisor.pool.stopping and not supervisor.pool.children:
            return True
        due = min(supervisor.next_due(), self._leaves_at, self._door.look_at)
        self._events += self._inbox.wait(None if due == math.inf else max(0.0, due - self._clock.monotonic()))
        return False

    def _tell_stopping(self) -> None:
        now = self._clock.monotonic()
        if self._board.told() is not ServerState.STOPPING:
            self._board.tell(ServerState.STOPPING)
            self._door.leave(now)
        self._door.look(now)

    def _close_listeners(self) -> None:
        self._addresses.keep(())

    def _let_go_of_addresses(self) -> None:
        """Close what no generation needs that serves, or is on trial; its workers have been told by now."""
        if not self._supervisor.pool.stopping:
            for address in self._addresses.keep(self._supervisor.listeners):
                self._log.info("No longer listening at: %s", address)

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
        if self._supervisor.pool.stopping or self._leaves_at < math.inf:
            self._log.info("The reload is left out: the server is about to stop")
            return
        present = self._supervisor.serving or self._settings
        before = self._addresses.numbers()
        try:
            wanted = self._reload_settings()
            fixed = self._fixed(wanted)
            settings = dataclasses.replace(wanted, **{name: getattr(self._settings, name) for name in fixed})
            self._prepare(settings)
            numbers = self._open_addresses(settings)
            self._apply_logs(settings)
        except ServerError as error:
            self._supervisor.refuse(str(error))
            self._log.error("The reload is called off, the present settings stay in force: %s", error)
            return
        except BaseException as error:  # noqa: BLE001
            # A configuration file is a program of somebody else's: whatever it raises, the server goes on.
            self._supervisor.refuse(repr(error))
            self._log.exception("The reload is called off, the present settings stay in force")
            return
        self._say_changes(changed(present, wanted), fixed)
        self._say_listening(number for number in numbers if number not in before)
        self._supervisor.begin(settings, self._addresses.places(numbers))

    def _say_changes(self, changes: dict[str, str], fixed: Sequence[str]) -> None:
        now = [f"{name}: {change}" for name, change in changes.items() if name not in fixed]
        if now:
            self._log.info("Changed settings: %s", "; ".join(now))
        for name in fixed:
            self._log.warning(
                "%s has changed, which needs a restart; the present value stays in force (%s)", name, changes[name]
            )

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
        if self._supervisor.pool.stopping:
            return
        serving = self._supervisor.serving
        delay_s = serving.drain_delay if serving is not None and self._leaves_at == math.inf else 0.0
        self._leaves_at = self._clock.monotonic() + delay_s
        self._board.tell(ServerState.LEAVING)
        if delay_s:
            self._log.info("SIGTERM: graceful stop in %g s (drain_delay); serving until then, but not ready", delay_s)
        else:
            self._log.info("SIGTERM: graceful stop")

    def _shut_and_stop(self) -> None:
        """Let no newcomer in, and stop as soon as all are in who were at the door: later they would meet a reset."""
        now = self._clock.monotonic()
        if not self._door.is_clear(self._supervisor.pids(), now):
            self._leaves_at = now + LOOK_S
            return
        self._leaves_at = math.inf
        self._supervisor.pool.stop(Stopping.GRACEFUL)

    def _stop_quickly(self) -> None:
        again = self._supervisor.pool.stopping is Stopping.QUICK
        self._log.info("Stop by force" if again else "SIGINT or SIGQUIT: quick stop")
        self._leaves_at = math.inf
        self._supervisor.pool.stop(Stopping.FORCED if again else Stopping.QUICK)

    def _one_more(self) -> None:
        self._log.info("SIGTTIN: %d workers", self._supervisor.pool.rollout.scale(+1))

    def _one_less(self) -> None:
        self._log.info("SIGTTOU: %d workers", self._supervisor.pool.rollout.scale(-1))

    def _retire_all(self) -> None:
        if not self._settings.daemon:
            self._log.info("SIGWINCH is ignored: this server is no daemon")
            return
        self._log.info("SIGWINCH: all workers retire until SIGHUP or SIGTTIN")
        self._supervisor.pool.rollout.retire_all()

    def _ignore_upgrade(self) -> None:
        self._log.warning("SIGUSR2 is ignored: this version cannot hand over to a new one")

    def _reopen_logs(self) -> None:
        self._log.info("SIGUSR1: logs are reopened")
        try:
            self._logs.reopen()
        except OSError as error:
            self._log.error("logs could not be reopened: %s", error.strerror)
        self._supervisor.tell_all(signal.SIGUSR1)
