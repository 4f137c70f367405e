"""The planner: compares what children there are with what is wanted, and orders the difference.

Pure: it reads the pool and changes nothing. Its rules hold whatever the reason of a change: a worker stops only after
its replacement is ready, one generation is always whole, and a generation on trial gets one worker.
"""

import math
from collections.abc import Sequence

from wsgicluster.arbiter.plan.child import Ask, Child, Role, State
from wsgicluster.arbiter.plan.orders import MOLD_SLOT, Order, Spawn, Stop, Stopping
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.arbiter.plan.rollout import Stage
from wsgicluster.arbiter.plan.support import SUPPORT_ROLES

_LAST_TO_STOP = frozenset({Role.ADMIN, Role.STEWARD})


class Planner:
    """Orders for one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._rollout = pool.rollout
        self._planned_at = -math.inf

    def plan(self, now: float) -> list[Order]:
        """The orders that lead from what is to what is wanted; to be carried out before asking again."""
        self._planned_at = now
        orders: list[Order] = [Stop(child.key, Ask.KILL, cut=True) for child in self._overdue(now)]
        overdue = {order.key for order in orders if isinstance(order, Stop)}
        if self._pool.stopping:
            return orders + [stop for stop in self._stop_all(now) if stop.key not in overdue]
        if self._pool.stop_is_near:
            return orders
        stops = self._superfluous(now)
        stops += self._make_room({stop.key for stop in stops})
        leaving = {stop.key for stop in stops}
        orders += stops
        staying = [child for child in self._pool.workers() if child.key not in leaving]
        booting = sum(child.coming for child in staying if self._is_base(child))
        alone = self._pool.is_unserved()
        for slot in self._slots_to_fill():
            if self._is_kept_free(slot, leaving) or not self._pool.backoff.due(slot, now, alone):
                continue
            spawn = self._fill(slot, [child for child in staying if child.slot == slot], booting, now)
            if spawn:
                orders += self._via_mold(spawn, orders, now)
                booting += 1
                alone = False
        return orders + self._try(orders, now) + self._plan_support(now)

    def _plan_support(self, now: float) -> list[Order]:
        """The orders for the roles beside the workers; during the first boot they come with the workers."""
        base, present = self._rollout.base, self._pool.children.values()
        orders: list[Order] = [Stop(child.key, Ask.DRAIN) for child in self._pool.support.superfluous(base, present)]
        if base is not None:
            orders += [Spawn(0, base.number, role) for role in self._pool.support.missing(base, present, now)]
        return orders

    def next_due(self) -> float:
        """When `plan` has to be asked again, whatever happens until then; infinite if never, past if at once."""
        dues = [self._rollout.settles_at]
        dues += [child.deadline for child in self._pool.children.values() if child.deadline is not None]
        dues += [child.recycle_at for child in self._pool.children.values() if child.recycle_at > self._planned_at]
        # Seen from when the last plan was made: carrying it out takes time, and a wait may have ended meanwhile.
        wait = self._pool.backoff.next_due(self._planned_at, self._pool.is_unserved())
        if self._pool.stopping:
            return min(dues)
        dues.append(self._pool.support.next_due(self._planned_at))
        return min(dues) if wait is None else min(wait, *dues)

    def _overdue(self, now: float) -> list[Child]:
        return [child for child in self._pool.children.values() if child.deadline is not None and now >= child.deadline]

    def _stop_all(self, now: float) -> list[Stop]:
        stops = []
        for child in self._pool.children.values():
            ask = self._last_ask(child, now)
            # One that hung is being ended already, and still has to write where it hangs.
            if ask > child.asked and (child.state is not State.KILLED or self._pool.stopping is Stopping.FORCED):
                stops.append(Stop(child.key, ask))
        return stops

    def _last_ask(self, child: Child, now: float) -> Ask:
        if self._pool.stopping is Stopping.FORCED:
            return Ask.KILL
        if child.role is Role.MOLD:
            # It may have child processes of the application to end.
            return Ask.NOTHING if self._is_forking(child, now) else Ask.QUICK
        if child.role is Role.STEWARD and len(self._pool.children) > 1:
            return Ask.NOTHING  # it is the last one, so that it gets the events of all others
        if child.role is Role.ADMIN and any(each.role not in _LAST_TO_STOP for each in self._pool.children.values()):
            return Ask.NOTHING  # who looks meanwhile is to see that the server stops, and what it waits for
        graceful = self._pool.stopping is Stopping.GRACEFUL
        if child.role in SUPPORT_ROLES:
            # Its handlers may finish, and the last events be delivered.
            return Ask.DRAIN if graceful and child.ready_at is not None else max(child.asked, Ask.QUICK)
        # Nothing is lost with one that has never been ready, so it need not finish anything.
        return Ask.DRAIN if graceful and child.may_hold_requests else Ask.QUICK

    def _is_forking(self, mold: Child, now: float) -> bool:
        """Does the arbiter wait for a pid from this mold? It must report that before it exits."""
        unborn = [c for c in self._pool.workers() if c.unborn and c.mold == mold.key and c.state is not State.KILLED]
        return mold.ready and any(child.deadline is None or now < child.deadline for child in unborn)

    def _is_base(self, child: Child) -> bool:
        return self._rollout.base is not None and child.generation == self._rollout.base.number

    def _is_tried(self, child: Child) -> bool:
        return self._rollout.on_trial is not None and child.generation == self._rollout.on_trial.number

    def _superfluous(self, now: float) -> list[Stop]:
        """Stops for children that are not needed any more."""
        best: dict[int, Child] = {}
        for child in self._pool.workers():
            if self._serves(child):
                best[child.slot] = max(best.get(child.slot, child), child, key=lambda c: c.rank)
        stops, slots = [], self._rollout.slots
        for child in self._pool.children.values():
            wanted = self._rollout.wanted(child.generation)
            if child.asked or child.state is State.KILLED or self._is_tried(child) or child.role in SUPPORT_ROLES:
                continue
            if child.role is Role.MOLD:
                if (not wanted or self._is_superseded(child)) and not self._is_forking(child, now):
                    stops.append(Stop(child.key, Ask.QUICK))
            elif not child.ready:
                if not wanted or child.slot not in slots:
                    stops.append(Stop(child.key, Ask.DRAIN if child.may_hold_requests else Ask.QUICK))
            elif child.slot not in slots or best.get(child.slot) is not child:
                stops.append(Stop(child.key, Ask.DRAIN))
        return stops

    def _is_superseded(self, mold: Child) -> bool:
        """Is there a newer mold of the same generation, forked from a worker?"""
        return any(
            child.role is Role.MOLD and child.ready and child.generation == mold.generation and child.key > mold.key
            for child in self._pool.children.values()
        )

    def _make_room(self, leaving: set[int]) -> list[Stop]:
        """Where no worker may be too many: stops for old ones, as many as may be missing until others have booted."""
        rollout = self._rollout
        if rollout.batch:
            return []
        slots = rollout.slots
        ready = [c for c in self._pool.workers() if c.ready and c.slot in slots and c.key not in leaving]
        manned = {child.slot for child in ready}
        may_go = len(manned) - rollout.least_ready
        newest = rollout.serving
        if rollout.on_trial is not None:
            newest = rollout.on_trial
            tries = any(self._is_tried(child) for child in self._pool.workers())
            may_go = 0 if tries or len(manned) < rollout.workers else min(1, may_go)
        old = [child for child in ready if newest is not None and child.generation < newest.number]
        return [Stop(child.key, Ask.DRAIN) for child in sorted(old, key=lambda c: c.slot)[: max(0, may_go)]]

    def _slots_to_fill(self) -> Sequence[int]:
        base = self._rollout.base
        alone = base is not None and base.has_smoke_test and self._rollout.stage is Stage.FIRST
        return self._rollout.slots[:1] if alone else self._rollout.slots

    def _is_kept_free(self, slot: int, leaving: set[int]) -> bool:
        """Where no worker may be too many: is the slot another one's, who has not left yet or is only to come?"""
        if self._rollout.batch:
            return False
        here = [child for child in self._pool.workers() if child.slot == slot]
        on_trial = self._rollout.on_trial is not None and slot == self._trial_slot()
        return on_trial or any(child.asked or child.key in leaving for child in here)

    def _serves(self, child: Child) -> bool:
        """Is it ready, and of a generation that serves or has served? Others have been tried and aborted."""
        serving = self._rollout.serving
        return child.ready and serving is not None and child.generation <= serving.number

    def _fill(self, slot: int, here: list[Child], booting: int, now: float) -> Spawn | None:
        """The spawn that a slot needs, if it may have it now."""
        base = self._rollout.base
        if base is None or any(child.coming and self._is_base(child) for child in here):
            return None
        spawn = Spawn(slot, base.number, smoke_test=base.has_smoke_test and self._rollout.in_doubt)
        ready = [child for child in here if self._serves(child)]
        if not ready:
            return spawn
        best = max(ready, key=lambda child: child.rank)
        if self._rollout.trial is None and best.generation < base.number:
            return spawn if booting < self._rollout.batch else None
        if best.recycle and now >= best.recycle_at and not any(child.coming for child in here):
            return spawn if booting < max(2, self._rollout.batch) else None
        return None

    def _trial_slot(self) -> int:
        """Where the first worker of a generation on trial is, or will be: best where no worker serves."""
        tried = [child for child in self._pool.workers() if self._is_tried(child) and child.state is not State.KILLED]
        if tried:
            return tried[0].slot
        manned = {child.slot for child in self._pool.workers() if child.ready}
        slots = self._rollout.slots or (1,)
        return next((slot for slot in slots if slot not in manned), slots[0])

    def _try(self, orders: list[Order], now: float) -> list[Order]:
        """The spawn of the first worker of a generation on trial, if there is none yet."""
        trial = self._rollout.on_trial
        if trial is None or self._rollout.stage is not Stage.TRIAL:
            return []
        if any(self._is_tried(child) and child.state is not State.KILLED for child in self._pool.workers()):
            return []
        slot = self._trial_slot()
        taken = not self._rollout.batch and any(
            child.slot == slot and (child.asked or child.state is not State.KILLED) for child in self._pool.workers()
        )
        if taken or not self._pool.backoff.due(slot, now, self._pool.is_unserved()):
            return []
        spawn = Spawn(slot, trial.number, smoke_test=trial.has_smoke_test, is_judged=trial.bounds is not None)
        return self._via_mold(spawn, orders, now)

    def _via_mold(self, spawn: Spawn, orders: list[Order], now: float) -> list[Order]:
        """The spawn itself, or what has to come before it where the application is preloaded."""
        if not self._pool.generations[spawn.generation].settings.preload_app:
            return [spawn]
        molds = [
            child
            for child in self._pool.children.values()
            if child.role is Role.MOLD
            and child.generation == spawn.generation
            # One that is to be forked from a worker comes once that has drained: too late to wait for.
            and ((child.coming and not child.promoted) or child.ready)
        ]
        if any(mold.ready for mold in molds):
            return [spawn]
        first = Spawn(MOLD_SLOT, spawn.generation, Role.MOLD)
        if molds or first in orders or not self._pool.backoff.due(MOLD_SLOT, now, self._pool.is_unserved()):
            return []
        return [first]
