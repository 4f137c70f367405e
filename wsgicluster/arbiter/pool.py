"""The pool: what workers there should be, and the orders that lead there.

Pure: events and times in, orders out. Its rules hold whatever the reason of a change:
a worker leaves only after its replacement is ready, one generation is always whole,
a generation that does not work changes nothing, and crashes back off.
"""

import dataclasses
import enum
import math
from typing import TypeAlias

from wsgicluster.arbiter.backoff import QUICK_DEATH_S, Backoff, Wait
from wsgicluster.arbiter.child import Ask, Child, End, Input, Role, State
from wsgicluster.arbiter.rollout import Generation, Rollout, Stage

DUMP_S = 0.15
"""How long a child that hangs has to write down its stacks."""

QUICK_STOP_S = 2.0
"""A child that was told to go at once is killed after this."""

DRAIN_MARGIN_S = 0.3
"""Workers end their drain by themselves at ``graceful_timeout``; they get this long to do so."""

HANG_S = DUMP_S + 1.0
"""A child that hangs is killed after this: it has shown its stacks, and had a second to obey ``ABRT``."""

KILL_REPEAT_S = 5.0
"""A kill is repeated, should a process in the kernel's hands not have ended."""

MOLD_SLOT = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Spawn:
    """Make a child; one that rehearses tries its application before it serves."""

    slot: int
    generation: int
    role: Role = Role.WORKER
    rehearse: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """Ask a child to go, or end it; ``cut`` says that it has had its time."""

    key: int
    ask: Ask
    cut: bool = False


Order: TypeAlias = Spawn | Stop


class Stopping(enum.IntEnum):
    """Whether the whole server is to end, and how fast."""

    NO = 0
    GRACEFUL = 1
    QUICK = 2
    FORCED = 3


class Verdict(enum.Enum):
    """What the loss of a child means."""

    NOTHING = "nothing"
    REPLACE = "replace"
    WAIT = "wait"
    """Replace it, but not at once: see the wait."""
    CALL_OFF = "call off"
    """The generation on trial does not work."""
    HALT = "halt"
    """No generation has ever worked."""


class Pool:
    """All children, the generations, and what is wanted of them."""

    def __init__(self) -> None:
        self.rollout = Rollout()
        self.backoff = Backoff()
        self.children: dict[int, Child] = {}
        self.stopping = Stopping.NO
        self._planned_at = -math.inf

    # What happens

    def add(self, child: Child) -> None:
        """A child has been made, as ordered."""
        self.children[child.key] = child

    def reload(self, generation: Generation) -> Generation | None:
        """Try new settings and code; answers the generation that this supersedes, if any."""
        self.backoff.forget()
        return self.rollout.begin(generation)

    def stop(self, how: Stopping) -> None:
        """End the server; never slower than asked before."""
        self.stopping = max(self.stopping, how)

    def ready(self, child: Child, now: float) -> bool:
        """A child is ready; True when its generation has thereby become the one that serves."""
        child.take(Input.READY)
        if not child.ready:
            return False
        child.ready_at = now
        trial = self.rollout.trial
        first = trial is not None and trial.number == child.generation and child.role is Role.WORKER
        if first and self.rollout.stage in (Stage.FIRST, Stage.TRIAL):
            return self.rollout.first_ready(now)
        return False

    def hung(self, child: Child, now: float) -> tuple[Verdict, Wait | None]:
        """A child is past its beat deadline; it is replaced before it is gone."""
        state = child.state
        child.take(Input.BEAT_MISSED)
        child.end = End.TIMED_OUT
        child.deadline = now + HANG_S
        if state is State.DRAINING:
            return Verdict.NOTHING, None
        return self._judge(child, state, now)

    def cannot_boot(self, child: Child, now: float) -> tuple[Verdict, Wait | None]:
        """A child says that it cannot boot."""
        if child.state is not State.BOOTING:
            return Verdict.NOTHING, None
        child.boot_failed = True
        child.end = End.BOOT_FAILED
        return self._judge(child, State.BOOTING, now)

    def gone(self, child: Child, end: End, now: float) -> tuple[Verdict, Wait | None]:
        """A child's process has ended."""
        state, judged = child.state, child.boot_failed or child.end is End.TIMED_OUT
        child.take(Input.EXITED)
        child.end = end
        del self.children[child.key]
        if judged or state in (State.DRAINING, State.KILLED):
            return Verdict.NOTHING, None
        return self._judge(child, state, now)

    def not_made(self, slot: int, now: float) -> Wait:
        """An order to make a child could not be carried out."""
        return self.backoff.refused(slot, now)

    def _judge(self, child: Child, state: State, now: float) -> tuple[Verdict, Wait | None]:
        """What the loss of a child means that was in ``state``, unasked."""
        if self.stopping:
            return Verdict.NOTHING, None
        trial = self.rollout.trial
        on_trial = trial is not None and trial.number == child.generation
        if not on_trial and not (self.rollout.serving and self.rollout.serving.number == child.generation):
            if state is not State.READY:
                return Verdict.NOTHING, None  # of a generation that was given up
        # One that leaves by itself before it was ready will do so again.
        left = child.end is End.LEFT and state is State.READY
        outside = left or child.end is End.KILLED_FROM_OUTSIDE
        if on_trial and self.rollout.serving is not None:
            self.rollout.call_off()
            return Verdict.CALL_OFF, None
        if on_trial and not outside:
            self.rollout.call_off()
            self.stop(Stopping.QUICK)
            return Verdict.HALT, None
        ready_s = 0.0 if child.ready_at is None else now - child.ready_at
        wait = self.backoff.died(child.slot, ready_s, now)
        return (Verdict.WAIT if wait.deaths else Verdict.REPLACE), wait

    # What to do about it

    def plan(self, now: float) -> list[Order]:
        """The orders that lead from what is to what is wanted; to be carried out before asking again."""
        self._planned_at = now
        orders: list[Order] = [Stop(child.key, Ask.KILL, cut=True) for child in self._overdue(now)]
        overdue = {order.key for order in orders if isinstance(order, Stop)}
        if self.stopping:
            return orders + [stop for stop in self._stop_all(now) if stop.key not in overdue]
        stops = self._superfluous(now)
        stops += self._make_room({stop.key for stop in stops})
        leaving = {stop.key for stop in stops}
        orders += stops
        staying = [child for child in self.workers() if child.key not in leaving]
        booting = sum(child.coming for child in staying if self._is_base(child))
        for slot in self._slots_to_fill():
            here = [child for child in staying if child.slot == slot]
            spawn = None if self._is_kept_free(slot, leaving) else self._fill(slot, here, booting, now)
            if spawn:
                orders += self._via_mold(spawn, orders, now)
                booting += 1
        return orders + self._try(orders, now)

    def next_due(self) -> float:
        """When `plan` has to be asked again, whatever happens until then; infinite if never, past if at once."""
        dues = [self.rollout.settles_at]
        dues += [child.deadline for child in self.children.values() if child.deadline is not None]
        # Seen from when the last plan was made: carrying it out takes time, and a wait may have ended meanwhile.
        wait = self.backoff.next_due(self._planned_at)
        return min(dues) if wait is None or self.stopping else min(wait, *dues)

    def workers(self) -> list[Child]:
        """All children that are workers, in the order of their birth."""
        return [child for child in self.children.values() if child.role is Role.WORKER]

    def ready_slots(self) -> int:
        """How many of the wanted slots have a worker that serves."""
        return len({c.slot for c in self.workers() if c.ready and c.slot <= self.rollout.workers})

    def enough(self) -> bool:
        """Do as many workers serve as are needed to call that a server?"""
        return self.rollout.serving is not None and self.ready_slots() >= self.rollout.least_ready

    def whole(self) -> bool:
        """Is every wanted worker there, and of the generation that serves?"""
        serving = self.rollout.serving
        if serving is None or self.rollout.trial is not None:
            return False
        current = {c.slot for c in self.workers() if c.ready and c.generation == serving.number}
        return set(range(1, self.rollout.workers + 1)) <= current

    def proven_at(self) -> float:
        """When the youngest worker that serves has lived long enough not to die quickly any more.

        Infinite while one serves on that is to be replaced: its successors may be those that die.
        """
        ready = [child for child in self.workers() if child.ready]
        if any(child.recycle for child in ready):
            return math.inf
        return max((child.ready_at or 0.0 for child in ready), default=0.0) + QUICK_DEATH_S

    def _overdue(self, now: float) -> list[Child]:
        return [child for child in self.children.values() if child.deadline is not None and now >= child.deadline]

    def _stop_all(self, now: float) -> list[Stop]:
        stops = []
        for child in self.children.values():
            ask = self._last_ask(child, now)
            # One that hung is being ended already, and still has to say where it is stuck.
            if ask > child.asked and (child.state is not State.KILLED or self.stopping is Stopping.FORCED):
                stops.append(Stop(child.key, ask))
        return stops

    def _last_ask(self, child: Child, now: float) -> Ask:
        if self.stopping is Stopping.FORCED:
            return Ask.KILL
        if child.role is Role.MOLD:
            return Ask.NOTHING if self._is_forking(child, now) else Ask.KILL
        # Nothing is lost with one that has never been ready, so it need not finish anything.
        graceful = self.stopping is Stopping.GRACEFUL and child.may_hold_requests
        return Ask.DRAIN if graceful else Ask.QUICK

    def _is_forking(self, mold: Child, now: float) -> bool:
        """Does the arbiter wait for a pid from this mold? It must not end before it has told, if it does so in time."""
        unborn = [c for c in self.workers() if c.unborn and c.mold == mold.key and c.state is not State.KILLED]
        return mold.ready and any(child.deadline is None or now < child.deadline for child in unborn)

    def _is_base(self, child: Child) -> bool:
        return self.rollout.base is not None and child.generation == self.rollout.base.number

    def _is_tried(self, child: Child) -> bool:
        return self.rollout.on_trial is not None and child.generation == self.rollout.on_trial.number

    def _superfluous(self, now: float) -> list[Stop]:
        """Stops for children that nobody needs any more."""
        best: dict[int, Child] = {}
        for child in self.workers():
            if self._serves(child):
                best[child.slot] = max(best.get(child.slot, child), child, key=lambda c: c.rank)
        stops = []
        for child in self.children.values():
            wanted = self.rollout.wanted(child.generation)
            if child.asked or child.state is State.KILLED or self._is_tried(child):
                continue
            if child.role is Role.MOLD:
                if not wanted and not self._is_forking(child, now):
                    stops.append(Stop(child.key, Ask.KILL))
            elif not child.ready:
                if not wanted or child.slot > self.rollout.workers:
                    stops.append(Stop(child.key, Ask.DRAIN if child.may_hold_requests else Ask.QUICK))
            elif child.slot > self.rollout.workers or best.get(child.slot) is not child:
                stops.append(Stop(child.key, Ask.DRAIN))
        return stops

    def _make_room(self, leaving: set[int]) -> list[Stop]:
        """Where no worker may be too many: stops for old ones, as many as may be missing until others have booted."""
        rollout = self.rollout
        if rollout.batch:
            return []
        ready = [c for c in self.workers() if c.ready and c.slot <= rollout.workers and c.key not in leaving]
        manned = {child.slot for child in ready}
        may_go = len(manned) - rollout.least_ready
        newest = rollout.serving
        if rollout.on_trial is not None:
            newest = rollout.on_trial
            tries = any(self._is_tried(child) for child in self.workers())
            may_go = 0 if tries or len(manned) < rollout.workers else min(1, may_go)
        old = [child for child in ready if newest is not None and child.generation < newest.number]
        return [Stop(child.key, Ask.DRAIN) for child in sorted(old, key=lambda c: c.slot)[: max(0, may_go)]]

    def _slots_to_fill(self) -> range:
        base = self.rollout.base
        alone = base is not None and base.rehearses and self.rollout.stage is Stage.FIRST
        return range(1, 2 if alone else self.rollout.workers + 1)

    def _is_kept_free(self, slot: int, leaving: set[int]) -> bool:
        """Where no worker may be too many: is the slot another one's, who has not left yet or is only to come?"""
        if self.rollout.batch:
            return False
        here = [child for child in self.workers() if child.slot == slot]
        on_trial = self.rollout.on_trial is not None and slot == self._trial_slot()
        return on_trial or any(child.asked or child.key in leaving for child in here)

    def _serves(self, child: Child) -> bool:
        """Is it ready, and of a generation that serves or has served? Others have been tried and given up."""
        serving = self.rollout.serving
        return child.ready and serving is not None and child.generation <= serving.number

    def _fill(self, slot: int, here: list[Child], booting: int, now: float) -> Spawn | None:
        """The spawn that a slot needs, if it may have it now."""
        base = self.rollout.base
        if base is None or not self.backoff.due(slot, now):
            return None
        if any(child.coming and self._is_base(child) for child in here):
            return None
        spawn = Spawn(slot, base.number, rehearse=base.rehearses and self.rollout.in_doubt)
        ready = [child for child in here if self._serves(child)]
        if not ready:
            return spawn
        best = max(ready, key=lambda child: child.rank)
        if self.rollout.trial is None and best.generation < base.number:
            return spawn if booting < self.rollout.batch else None
        if best.recycle and not any(child.coming for child in here):
            return spawn if booting < max(2, self.rollout.batch) else None
        return None

    def _trial_slot(self) -> int:
        """Where the first worker of a generation on trial is, or will be: best where nobody serves."""
        tried = [child for child in self.workers() if self._is_tried(child) and child.state is not State.KILLED]
        if tried:
            return tried[0].slot
        manned = {child.slot for child in self.workers() if child.ready}
        slots = range(1, max(1, self.rollout.workers) + 1)
        return next((slot for slot in slots if slot not in manned), 1)

    def _try(self, orders: list[Order], now: float) -> list[Order]:
        """The spawn of the first worker of a generation on trial, if there is none yet."""
        trial = self.rollout.on_trial
        if trial is None or self.rollout.stage is not Stage.TRIAL:
            return []
        if any(self._is_tried(child) and child.state is not State.KILLED for child in self.workers()):
            return []
        slot = self._trial_slot()
        taken = not self.rollout.batch and any(
            child.slot == slot and (child.asked or child.state is not State.KILLED) for child in self.workers()
        )
        if taken or not self.backoff.due(slot, now):
            return []
        return self._via_mold(Spawn(slot, trial.number, rehearse=trial.rehearses), orders, now)

    def _via_mold(self, spawn: Spawn, orders: list[Order], now: float) -> list[Order]:
        """The spawn itself, or what has to come before it where the application is preloaded."""
        known = (self.rollout.serving, self.rollout.trial)
        if not any(g and g.number == spawn.generation and g.preload for g in known):
            return [spawn]
        molds = [
            child
            for child in self.children.values()
            if child.role is Role.MOLD and child.generation == spawn.generation and (child.coming or child.ready)
        ]
        if any(mold.ready for mold in molds):
            return [spawn]
        first = Spawn(MOLD_SLOT, spawn.generation, Role.MOLD)
        return [] if molds or first in orders or not self.backoff.due(MOLD_SLOT, now) else [first]

    # What was done

    def asked(self, child: Child, ask: Ask, now: float, graceful_s: float) -> None:
        """An order to stop has been carried out: the child has been told, or will be as soon as its pid is known."""
        if ask is Ask.KILL:
            if child.state is not State.DRAINING:
                child.take(Input.STOP_WANTED)
            child.take(Input.DEADLINE_PASSED)
            child.deadline = now + KILL_REPEAT_S
        else:
            child.take(Input.STOP_WANTED)
            child.deadline = now + (QUICK_STOP_S if ask is Ask.QUICK else graceful_s + DRAIN_MARGIN_S)
        child.asked = ask

    def may_finish(self, child: Child) -> bool:
        """Was it asked to go at once before it was known that it takes requests, although there is time for them?"""
        return child.asked is Ask.QUICK and child.may_hold_requests and self.stopping < Stopping.QUICK
