"""Supervision: what happens to children goes into the pool, the pool's orders come out and are carried out.

Everything that is said about children is said here, once. Knows no signal that the
arbiter itself gets and no listener.
"""

import math
import os
import signal
from collections.abc import Sequence

from wsgicluster import process
from wsgicluster.arbiter import report
from wsgicluster.arbiter.addresses import Places
from wsgicluster.arbiter.autopsy import Death, Exit, Hang
from wsgicluster.arbiter.backoff import Wait
from wsgicluster.arbiter.beats import Beats
from wsgicluster.arbiter.child import UNASKED, Ask, Child, End, Input, Role, State
from wsgicluster.arbiter.coroner import Coroner
from wsgicluster.arbiter.family import Family
from wsgicluster.arbiter.forced import Forced
from wsgicluster.arbiter.pool import DUMP_S, Pool, Spawn, Stop, Verdict
from wsgicluster.arbiter.rollout import Attempt, Generation, Result
from wsgicluster.clock import Clock
from wsgicluster.errors import BootError, ServerError
from wsgicluster.logs import Logs
from wsgicluster.messages import BootFailed, Broken, Forked, ListenersEnd, Ready, RecycleWanted
from wsgicluster.settings import Settings

_SIGNALS = {Ask.DRAIN: signal.SIGTERM, Ask.QUICK: signal.SIGQUIT, Ask.KILL: signal.SIGKILL}
_RECYCLES = {"memory": End.RECYCLED_MEMORY, "requests": End.RECYCLED_REQUESTS, "hang": End.RECYCLED_HANG}


class Supervisor:
    """All children of one server; ``exit_code`` is what the server ends with."""

    def __init__(self, family: Family, logs: Logs, clock: Clock) -> None:
        self.pool = Pool()
        self.exit_code = 0
        self.forced = Forced()
        self.started = False
        """As many workers as ``min_ready`` asks for have been ready at the same time."""
        self.source_changed = False
        """A worker says that source files have changed since this was last set to False."""
        self._family = family
        self._log = logs.error
        self._clock = clock
        self._beats = Beats()
        self._settings: dict[int, Settings] = {}
        self._numbers = 0
        self._hung: dict[int, float] = {}
        self._immortal: set[int] = set()
        self._coroner = Coroner(clock)
        self._degraded = False
        self._whole_said = 0

    def close(self) -> None:
        """Give back what only supervision needs."""
        self._coroner.close()

    # What is wanted

    def begin(self, settings: Settings, places: Places) -> None:
        """Try new settings and code, and listen at these places; the present ones serve until the new ones work."""
        self._forget_generations()
        self._numbers += 1
        generation = Generation(
            self._numbers,
            settings.workers,
            settings.preload_app,
            settings.reload_surge,
            settings.min_ready,
            rehearses=bool(settings.smoke),
        )
        self._settings[generation.number] = settings
        self._family.listeners[generation.number] = places
        superseded = self.pool.reload(generation)
        self._coroner.failures.forget()
        self.pool.rollout.last = Attempt(generation.number, Result.UNDER_WAY, self._clock.time())
        if superseded is not None:
            self._log.info("Generation %d is given up for a newer one", superseded.number)

    def _forget_generations(self) -> None:
        """Drop what generations have needed that are gone: else each reload would leave something behind."""
        rollout = self.pool.rollout
        needed = {child.generation for child in self.pool.children.values()}
        needed |= {known.number for known in (rollout.serving, rollout.trial) if known is not None}
        for number in self._settings.keys() - needed:
            del self._settings[number], self._family.listeners[number]

    def refuse(self, reason: str) -> None:
        """There are no new settings to try, for this reason."""
        self.pool.rollout.last = Attempt(0, Result.REFUSED, self._clock.time(), reason)

    @property
    def deaths(self) -> Sequence[Death]:
        """The last ends that nobody asked for, oldest first."""
        return self._coroner.deaths

    @property
    def serving(self) -> Settings | None:
        """The settings of the generation that serves."""
        generation = self.pool.rollout.serving
        return self._settings[generation.number] if generation else None

    @property
    def listeners(self) -> set[int]:
        """The numbers of the listeners that the present generation, and the one on trial, need."""
        places = self._family.listeners
        return {number for k in places if self.pool.rollout.wanted(k) for number, _ in places[k]}

    def pids(self) -> set[int]:
        """All processes of this server, as far as they are known."""
        return {os.getpid(), *(child.pid for child in self.pool.children.values())}

    def tell_all(self, number: signal.Signals) -> None:
        """Send a signal to every child."""
        for child in self.pool.children.values():
            self._family.signal(child, number)

    # What happens

    def read(self, key: int) -> None:
        """Take in what a child has said."""
        for message in self._family.messages(key):
            child = self.pool.children.get(key)
            if isinstance(message, ValueError):
                self._log.warning("%s sent nonsense: %s", child, report.shown(str(message)))
            elif isinstance(message, Forked):
                self._claim(message)
            elif child is not None and not isinstance(message, ListenersEnd):
                self._heard(child, message)
        stillborn = self._family.never_born(key)
        if stillborn is not None:
            self._not_made(stillborn)

    def _heard(self, child: Child, message: Ready | BootFailed | Broken | RecycleWanted) -> None:
        now = self._clock.monotonic()
        if isinstance(message, Ready):
            if child.ready_at is None:
                self._ready(child, message.boot_s, now)
        elif isinstance(message, BootFailed):
            self._cannot_boot(child, message, now)
        elif isinstance(message, Broken):
            self._coroner.said(child, message.summary, message.trace)
        elif message.reason == "source":
            self._log.info("%s: source files have changed: %s", child, report.shown(message.detail))
            self.source_changed = True
        elif message.reason in _RECYCLES:
            child.recycle = _RECYCLES[message.reason]
            self._log.info("%s will be replaced: %s", child, report.shown(message.detail))
        else:
            self._log.warning("%s wants to be replaced for an unknown reason: %s", child, report.shown(message.reason))

    def _ready(self, child: Child, boot_s: float, now: float) -> None:
        serves = self.pool.ready(child, now)
        if child.ready:
            self._log.info("%s is ready after %s", child, report.duration(boot_s))
        if serves:
            self._promoted()

    def _promoted(self) -> None:
        serving = self.pool.rollout.serving
        if serving is not None:
            self.pool.rollout.last = Attempt(serving.number, Result.TOOK_OVER, self._clock.time())
        if serving is not None and serving.number > 1:
            self._log.info("Generation %d works and takes over", serving.number)
        self._settings = {k: v for k, v in self._settings.items() if self._is_in_use(k)}
        self._family.listeners = {k: v for k, v in self._family.listeners.items() if self._is_in_use(k)}

    def _is_in_use(self, number: int) -> bool:
        alive = any(child.generation == number for child in self.pool.children.values())
        return alive or self.pool.rollout.wanted(number)

    def _claim(self, message: Forked) -> None:
        child = self.pool.children.get(message.ticket)
        if child is None or child.pid:
            return
        if message.pid == 0:
            self._not_made(child)
            return
        ended = self._family.claim(child, message.pid)
        if ended is not None:
            # What it has said since stands behind these words in the channel.
            self.read(child.key)
            self._ended(child, ended)
        elif child.asked:
            # It was told to go before anybody knew whom to tell, and may have become ready meanwhile.
            child.takes_requests = self._family.takes_requests(child)
            if self.pool.may_finish(child):
                graceful_s = self._settings[child.generation].graceful_timeout
                self.pool.asked(child, Ask.DRAIN, self._clock.monotonic(), graceful_s)
            self._family.signal(child, _SIGNALS[child.asked])

    def _not_made(self, child: Child) -> None:
        """A child's process will never be known; if there is one, it ends when it finds its channel closed."""
        if child.state is State.FORKED:
            self._say_not_made(child.slot, "its mold could not fork it", self._clock.monotonic())
        child.take(Input.EXITED)
        del self.pool.children[child.key]
        self._release(child)

    def _cannot_boot(self, child: Child, message: BootFailed, now: float) -> None:
        verdict, wait = self.pool.cannot_boot(child, now)
        if verdict is Verdict.NOTHING:
            return
        self._coroner.said(child, message.summary, message.trace)
        before = self._coroner.failures.another(message.summary, message.trace)
        self._log.error("%s", report.cannot_boot(child, message.summary, message.trace, before))
        if verdict in (Verdict.CALL_OFF, Verdict.HALT):
            self._called_off(child, message.summary, message.trace)
        self._judged(verdict, wait, message.exit_code)

    def _called_off(self, child: Child, reason: str, trace: str = "") -> None:
        at = self._clock.time()
        self.pool.rollout.last = Attempt(child.generation, Result.CALLED_OFF, at, reason, trace)

    def _judged(self, verdict: Verdict, wait: Wait | None, exit_code: int) -> None:
        if verdict is Verdict.CALL_OFF:
            self._log.error("The reload is called off: the new generation does not work, the old one goes on")
        elif verdict is Verdict.HALT:
            self.exit_code = exit_code
            self._log.error("No worker has ever booted: the server ends with exit code %d", exit_code)
        elif verdict is Verdict.WAIT and wait is not None:
            self._say_wait(wait)

    def _say_wait(self, wait: Wait) -> None:
        self._degraded = True
        text = report.waiting(wait, self.pool.ready_slots(), self.pool.rollout.workers)
        self._log.warning("%s", text)

    def _say_not_made(self, slot: int, reason: str, now: float) -> None:
        self._degraded = True
        wait = self.pool.not_made(slot, now)
        text = report.not_made(wait, reason, self.pool.ready_slots(), self.pool.rollout.workers)
        self._log.error("%s", text)

    def reap(self) -> None:
        """Bury the children that have ended."""
        for child, ended in self._family.reap():
            # Its last words may still lie in the channel.
            self.read(child.key)
            self._ended(child, ended)
        while self._family.paused:
            child, stopped = self._family.paused.pop(0)
            self._log.warning("%s", report.paused(child, stopped))
            self._family.nudge()

    def _ended(self, child: Child, ended: Exit) -> None:
        now = self._clock.monotonic()
        self._hung.pop(child.key, None)
        end = self._coroner.why(child, ended, now)
        facts = self._family.facts(child)
        asked = child.asked
        if self.pool.stopping:
            self.forced.note(child, end, facts)
        verdict, wait = self.pool.gone(child, end, now)
        if end in UNASKED or end in (End.TIMED_OUT, End.BOOT_FAILED):
            self._family.nudge()
            death = self._coroner.examine(child, ended, facts, self._family.stacks(child))
            if end is not End.BOOT_FAILED:  # it has said so itself
                self._log.error("%s", report.death(death))
        elif end is not End.CUT and asked:
            served = f", {facts.requests} requests served" if facts is not None and child.role is Role.WORKER else ""
            self._log.info("%s is gone: %s%s", child, end.value, served)
        if verdict in (Verdict.CALL_OFF, Verdict.HALT):
            self._called_off(child, f"{child}: {end.value}, {ended}")
        self._judged(verdict, wait, BootError.exit_code)
        self._release(child)

    def _release(self, child: Child) -> None:
        self._immortal.discard(child.key)
        self._coroner.forget(child)
        self._family.release(child)

    # What is due

    def look(self) -> None:
        """Find children past their beat deadline, and go on with the end of those found before."""
        now = self._clock.monotonic()
        self._coroner.glance(now)
        for key, due in list(self._hung.items()):
            if now >= due:
                self._end_hung(self.pool.children[key])
        watched = [c for c in self.pool.children.values() if c.unborn or c.state is not State.KILLED]
        deadlines = {child.key: self._family.deadline(child) for child in watched}
        for key in self._beats.missed(deadlines, self._shortest_timeout(), now):
            child = self.pool.children[key]
            if not child.unborn:
                self._condemn(child, now)
            elif child.mold not in self.pool.children:
                self._not_made(child)
            elif self.pool.children[child.mold].ready:
                self._condemn(self.pool.children[child.mold], now)

    def _condemn(self, child: Child, now: float) -> None:
        timeout_s = self._settings[child.generation].timeout
        letter = process.state_letter(child.pid)
        self._coroner.hangs(child, Hang(timeout_s, self._family.facts(child), now, letter))
        self._family.signal(child, process.DUMP_SIGNAL)
        self._hung[child.key] = now + DUMP_S
        verdict, wait = self.pool.hung(child, now)
        if verdict in (Verdict.CALL_OFF, Verdict.HALT):
            self._called_off(child, f"{child}: not ready within timeout")
        self._judged(verdict, wait, BootError.exit_code)

    def _end_hung(self, child: Child) -> None:
        del self._hung[child.key]
        self._family.signal(child, signal.SIGABRT)

    def _shortest_timeout(self) -> float:
        in_use = {child.generation for child in self.pool.children.values()}
        return min((self._settings[n].timeout for n in in_use if self._settings[n].timeout > 0), default=0.0)

    def next_due(self) -> float:
        """When something is due that no event will announce; infinite if never."""
        recovered_at = self.pool.proven_at() if self._degraded and self.pool.whole() else math.inf
        return min([self.pool.next_due(), self._beats.next_look, recovered_at, *self._hung.values()])

    def carry_out(self) -> None:
        """Bring what is closer to what is wanted, and say when it is reached."""
        now = self._clock.monotonic()
        if self.pool.rollout.settle(now):
            self._promoted()
        for child in self.pool.workers():
            if child.ready_at is None:
                child.takes_requests = self._family.takes_requests(child)
        if not self.pool.stopping:
            self._family.end_listeners(self.listeners)
        for order in self.pool.plan(now):
            if isinstance(order, Spawn):
                self._spawn(order, now)
            else:
                self._stop(order, now)
        if not self.pool.stopping and self.pool.enough():
            self._say_started()
        if not self.pool.stopping and self.pool.whole():
            self._say_whole(now)

    def _spawn(self, order: Spawn, now: float) -> None:
        try:
            child = self._family.spawn(order, self._settings[order.generation], now)
        except (OSError, ServerError, MemoryError) as error:
            # No process, descriptor or memory to be had now; the others go on, and it may pass.
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            reason = reason or "out of memory"
            self._say_not_made(order.slot, reason, now)
            return
        self.pool.add(child)
        timeout_s = self._settings[order.generation].timeout
        if timeout_s > 0:
            self._beats.expect(now + timeout_s)
        self._log.debug("%s is made", child)

    def _stop(self, order: Stop, now: float) -> None:
        child = self.pool.children[order.key]
        settings = self._settings[child.generation]
        if child.unborn and child.state is State.KILLED and child.mold not in self.pool.children:
            self._not_made(child)
            return
        if order.cut and child.end is None and child.state is State.DRAINING:
            if child.asked is Ask.DRAIN:
                facts = self._family.facts(child)
                self._log.warning("%s", report.cut(child, facts, now, settings.graceful_timeout))
            else:
                self._log.warning("%s did not obey SIGQUIT and is killed", child)
            child.end = End.CUT
        if order.ask is Ask.KILL and child.asked is Ask.KILL and child.pid and child.key not in self._immortal:
            self._immortal.add(child.key)
            self._log.error("%s", report.immortal(child))
        self.pool.asked(child, order.ask, now, settings.graceful_timeout)
        self._family.signal(child, _SIGNALS[order.ask])

    def _say_started(self) -> None:
        if not self.started and not self.pool.whole():
            wanted = self.pool.rollout.workers
            self._log.info("Started: %d of %d workers serve, the others boot", self.pool.ready_slots(), wanted)
        self.started = True

    def _say_whole(self, now: float) -> None:
        rollout = self.pool.rollout
        if rollout.serving is not None and rollout.serving.number > self._whole_said:
            self._whole_said = rollout.serving.number
            what = "Reload complete" if rollout.serving.number > 1 else "Started"
            self._log.info("%s: %d workers serve", what, rollout.workers)
        elif self._degraded and now >= self.pool.proven_at():
            # Workers that die quickly are ready in between; that is no recovery.
            self._log.info("All %d workers serve again", rollout.workers)
            self._degraded = False
