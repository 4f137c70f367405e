"""The arbiter: one process, one loop, one inbox.

Joins listeners, pid file, scoreboard and supervision, and answers the operator's
signals. It runs no application code, reads no request and starts no thread.
"""

import collections
import contextlib
import gc
import math
import os
import signal
from collections.abc import Callable

from wsgicluster import __version__, process
from wsgicluster.arbiter import start
from wsgicluster.arbiter.addresses import Addresses
from wsgicluster.arbiter.daemon import Background
from wsgicluster.arbiter.door import Door
from wsgicluster.arbiter.family import Family
from wsgicluster.arbiter.faults import Faults
from wsgicluster.arbiter.heartbeat import open_scoreboard
from wsgicluster.arbiter.inbox import Event, Inbox, Signalled
from wsgicluster.arbiter.logbook import Logbook
from wsgicluster.arbiter.notify import Announcer, Notifier, standing
from wsgicluster.arbiter.origin import HandOff, Origin
from wsgicluster.arbiter.pidfile import PidFile
from wsgicluster.arbiter.pool import Stopping
from wsgicluster.arbiter.rereading import permitted, say_changes
from wsgicluster.arbiter.roles import Roles
from wsgicluster.arbiter.supervisor import Supervisor
from wsgicluster.arbiter.upgrade import BOND_KEY, Happened, Upgrade
from wsgicluster.clock import Clock, SystemClock
from wsgicluster.errors import ForcedStop, ServerError
from wsgicluster.logs import Logs
from wsgicluster.scoreboard import ServerState
from wsgicluster.settings import Settings

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
        self._logbook = Logbook(logs, settings)
        self._reload_wanted = False
        self._events: collections.deque[Event] = collections.deque()
        self._pidfile: PidFile | None = None
        self._stop_told = False
        self._retired_for_successor = False
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
            Happened.LEAVING: lambda: self._bring_back("the new server is about to stop"),
            Happened.LOST: lambda: self._bring_back("nobody else serves"),
            Happened.RELIEVED: lambda: self._door.hasten(self._clock.monotonic()),
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
        return self._exit_code()

    def _exit_code(self) -> int:
        code, forced = self._supervisor.exit_code, self._supervisor.forced
        if forced:
            code = code or ForcedStop.exit_code
            self._log.warning("Stopped by force: %s; the exit code is %d", forced, code)
        else:
            self._log.info("Stopped")
        return code

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
            owned.callback(self._pidfile.discard, self._log)
        self._addresses = Addresses(self._log, start.first_number(os.getpid()), self._upgrade.is_shared)
        self._door = Door(self._addresses)
        owned.callback(self._addresses.keep, ())
        numbers = start.listen(settings, self._addresses, self._origin.passed, self._log)
        shared = self._upgrade.keep(self._addresses.passed(), start.hand_off_kind(settings))
        self._board = open_scoreboard(settings.worker_tmp_dir, self._log, start.most_children(settings))
        owned.callback(self._board.close)
        self._family = family = Family(self._board, self._inbox, self._roles, self._logs)
        owned.callback(family.close)
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
        self._supervisor.begin(settings, self._addresses.places(numbers))

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
        now = self._clock.monotonic()
        if self._door.may_leave(supervisor.pids, now):
            supervisor.pool.stop(Stopping.GRACEFUL)
        if supervisor.pool.stopping:
            # Before the workers are told: they drain differently when nobody takes over.
            self._tell_stopping(now)
            self._door.look(now)
        supervisor.carry_out()
        self._let_go_of_addresses()
        self._take_back_logs()
        self._tell_others()
        if supervisor.pool.stopping and not supervisor.pool.children:
            return True
        due = min(supervisor.next_due(), self._announcer.next_due(), self._door.next_due)
        self._events += self._inbox.wait(None if due == math.inf else max(0.0, due - self._clock.monotonic()))
        return False

    def _tell_stopping(self, now: float) -> None:
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
            self._family.end_listeners(self._upgrade.shared)
        else:
            self._board.tell(ServerState.STOPPING)
        self._door.leave(now)

    def _let_go_of_addresses(self) -> None:
        """Close what no generation needs that serves, or is on trial; its workers have been told by now."""
        if self._supervisor.pool.stopping:
            return
        closed = self._addresses.keep(self._supervisor.listeners)
        for address in closed:
            self._log.info("No longer listening at: %s", address)
        if closed:
            self._upgrade.still_keep(self._addresses.numbers())

    def _tell_others(self) -> None:
        """Tell workers, the service manager and the server beside this one how things stand."""
        supervisor, now = self._supervisor, self._clock.monotonic()
        if supervisor.started and self._board.told() is ServerState.STARTING:
            self._board.tell(ServerState.SERVING)
        # With a server after this one the service goes on.
        leaving = self._door.is_leaving and self._upgrade.successor is None
        stands = standing(supervisor.pool, supervisor.pool.rollout.least_ready, now, leaving)
        self._announcer.update(stands, now)
        self._upgrade.tell_serving(supervisor.started and stands.serving)

    # What the operator wants

    def _reap(self) -> None:
        self._supervisor.reap()

    def _want_reload(self) -> None:
        self._log.info("SIGHUP: reload")
        self._reload_wanted = True

    def _reload(self) -> None:
        self._reload_wanted = self._supervisor.source_changed = False
        if self._is_ending:
            self._log.info("The reload is left out: the server is about to stop")
            return
        self._announcer.reload_begins(self._clock.monotonic())
        self._serve_again()
        present, before = self._supervisor.serving or self._settings, self._addresses.numbers()
        try:
            wanted = self._reload_settings()
            settings = permitted(self._settings, wanted)
            self._prepare(settings)
            numbers = start.open_addresses(settings, self._addresses)
            self._logbook.apply(settings)
        except ServerError as error:
            self._supervisor.refuse(str(error))
            self._log.error("The reload is called off, the present settings stay in force: %s", error)
            return
        except BaseException as error:  # noqa: BLE001
            # A configuration file is a program of somebody else's: whatever it raises, the server goes on.
            self._supervisor.refuse(repr(error))
            self._log.exception("The reload is called off, the present settings stay in force")
            return
        finally:
            # Reading settings leaves cycles behind, so few that the collector would let them pile up for months.
            gc.collect()
        say_changes(self._log, present, wanted)
        self._addresses.say_listening((number for number in numbers if number not in before), settings.scheme)
        self._supervisor.begin(settings, self._addresses.places(numbers))

    def _take_back_logs(self) -> None:
        """Log as the generation that serves does, once one that was tried has been called off."""
        rollout, serving = self._supervisor.pool.rollout, self._supervisor.serving
        if rollout.trial is None and serving is not None:
            self._logbook.take_back(serving)

    @property
    def _is_ending(self) -> bool:
        """Does it stop, or has it been told to?"""
        return bool(self._supervisor.pool.stopping) or self._door.is_leaving

    def _stop_gracefully(self) -> None:
        if self._supervisor.pool.stopping:
            return
        # A second one ends the delay; and clients need no other server when the next one has the same addresses.
        waits = not self._door.is_leaving and not self._upgrade.takes_connections
        serving, now = self._supervisor.serving if waits else None, self._clock.monotonic()
        if serving is not None and self._upgrade.call_back():
            self._door.plan(now + serving.graceful_timeout)
            self._log.info("SIGTERM: graceful stop as soon as the old server serves again")
            return
        delay_s = serving.drain_delay if serving is not None else 0.0
        self._door.plan(now + delay_s)
        if not self._upgrade.takes_connections:
            self._board.tell(ServerState.LEAVING)
        if delay_s:
            self._log.info("SIGTERM: graceful stop in %g s (drain_delay); serving until then, but not ready", delay_s)
        else:
            self._log.info("SIGTERM: graceful stop")

    def _stop_quickly(self) -> None:
        again = self._supervisor.pool.stopping is Stopping.QUICK
        self._log.info("Stop by force" if again else "SIGINT or SIGQUIT: quick stop")
        self._door.plan(math.inf)
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
        if not rollout.retired:
            self._retired_for_successor = successor is not None
        if successor is not None:
            if self._upgrade.takes_connections:
                self._family.end_listeners(self._upgrade.shared)
            else:
                # Nobody would read what they hand over.
                self._board.tell(ServerState.STOPPING)
        rollout.retire_all()

    def _serve_again(self) -> None:
        """Workers that have retired for an upgrade are wanted again."""
        if self._board.told() is ServerState.STOPPING:
            serves = ServerState.SERVING if self._supervisor.started else ServerState.STARTING
            self._board.tell(ServerState.LEAVING if self._door.is_leaving else serves)

    # The server beside this one

    def _start_successor(self) -> None:
        if self._is_ending:
            self._log.warning("SIGUSR2 is ignored: this server is about to end")
            return
        receive, send = (end.fileno() for end in self._family.hand_off)
        hand_off = HandOff(receive, send, start.hand_off_kind(self._settings))
        pid = self._upgrade.start(self._addresses.passed(), hand_off)
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

    def _bring_back(self, reason: str) -> None:
        """Workers that have retired for the server after this one are wanted again."""
        rollout = self._supervisor.pool.rollout
        if self._retired_for_successor and rollout.retired and not self._supervisor.pool.stopping:
            self._log.warning("%d workers are brought back, because %s", rollout.bring_back(), reason)
            self._serve_again()

    def _reopen_logs(self) -> None:
        self._log.info("SIGUSR1: logs are reopened")
        self._logbook.reopen()
        self._supervisor.tell_all(signal.SIGUSR1)
