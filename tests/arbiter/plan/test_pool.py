"""The pool's rules, tried in a world without processes: orders are carried out on records, time is a number."""

import itertools
import random

import pytest

from tests.arbiter.plan.generations import generation
from wsgicluster.arbiter.plan import strength
from wsgicluster.arbiter.plan.backoff import ALONE_S, BUDGET, QUICK_DEATH_S
from wsgicluster.arbiter.plan.child import Ask, Child, End, Input, Role, State
from wsgicluster.arbiter.plan.orders import Order, Spawn, Stop, Stopping
from wsgicluster.arbiter.plan.planner import Planner
from wsgicluster.arbiter.plan.pool import DRAIN_MARGIN_S, HANG_S, QUICK_STOP_S, Pool, Verdict
from wsgicluster.arbiter.plan.rollout import PROBATION_S

GRACEFUL_S = 30.0


class World:
    """A pool whose orders are carried out at once, on records."""

    def __init__(self, workers: int = 4, preload: bool = False) -> None:
        self.pool = Pool()
        self.planner = Planner(self.pool)
        self.now = 100.0
        self.preload = preload
        self._keys = itertools.count(1)
        self._numbers = itertools.count(1)
        self.reload(workers)

    def reload(self, workers: int) -> None:
        self.pool.reload(generation(next(self._numbers), workers, preload=self.preload))
        self.turn()

    def turn(self, passed_s: float = 0.0) -> list[Order]:
        """Let time pass, then carry out what is ordered."""
        self.now += passed_s
        self.pool.rollout.settle(self.now)
        orders = self.planner.plan(self.now)
        for order in orders:
            if isinstance(order, Spawn):
                child = Child(next(self._keys), order.slot, order.generation, self.now, order.role, pid=1)
                child.take(Input.STARTED)
                self.pool.add(child)
            else:
                self.check_replaced_first(order)
                self.pool.asked(self.pool.children[order.key], order.ask, self.now, GRACEFUL_S)
        return orders

    def check_replaced_first(self, stop: Stop) -> None:
        child = self.pool.children[stop.key]
        wanted = not self.pool.stopping and child.slot in self.pool.rollout.slots
        if child.role is Role.WORKER and wanted and child.ready and child.generation <= self.serving:
            others = [c for c in self.pool.workers() if c.slot == child.slot and c is not child]
            assert any(c.ready and c.rank > child.rank and c.generation <= self.serving for c in others)

    @property
    def serving(self) -> int:
        return self.pool.rollout.serving.number if self.pool.rollout.serving else 0

    def ready(self, child: Child) -> None:
        self.pool.ready(child, self.now)
        self.turn()

    def die(self, child: Child, end: End = End.CRASHED, in_service: bool = False) -> Verdict:
        verdict, _ = self.pool.exited(child, end, self.now, in_service)
        self.turn()
        return verdict

    def leave(self) -> None:
        """All whose stop was requested have exited."""
        for child in list(self.pool.children.values()):
            if child.asked:
                self.die(child, End.ASKED)

    def boot_all(self) -> None:
        """Until nothing moves: what boots becomes ready, a child whose stop was requested exits."""
        for _ in range(1000):
            self.leave()
            coming = [c for c in self.pool.children.values() if c.coming]
            if not coming and strength.whole(self.pool):
                return
            for child in coming:
                if child.coming:  # a newer one may have been ready first
                    self.ready(child)
            self.turn(PROBATION_S)
        raise AssertionError(f"never whole: {self.shape()}")

    def shape(self) -> list[tuple[int, int, str]]:
        """Slot, generation and state of each worker."""
        return sorted((c.slot, c.generation, c.state.value) for c in self.pool.workers())

    def one(self, slot: int, generation: int, state: State) -> Child:
        (found,) = [
            c for c in self.pool.workers() if (c.slot, c.generation, c.state) == (slot, generation, state)
        ]  # fmt: skip
        return found


def whole(workers: int = 4, preload: bool = False) -> World:
    world = World(workers, preload)
    world.boot_all()
    return world


def ready_shape(workers: int, generation: int) -> list[tuple[int, int, str]]:
    return [(slot, generation, "ready") for slot in range(1, workers + 1)]


# Start


def test_first_generation_boots_all_at_once() -> None:
    world = World(3)
    assert world.shape() == [(slot, 1, "booting") for slot in (1, 2, 3)]
    assert world.turn() == []
    world.boot_all()
    assert world.shape() == ready_shape(3, 1)


@pytest.mark.parametrize("end", [End.CRASHED, End.OUT_OF_MEMORY, End.LEFT])
def test_nothing_has_ever_worked(end: End) -> None:
    world = World(3)
    assert world.die(world.one(2, 1, State.BOOTING), end) is Verdict.HALT
    assert {c.asked for c in world.pool.workers()} == {Ask.QUICK}


def test_first_boot_failure_halts_and_later_ones_are_no_news() -> None:
    world = World(3)
    first, second = world.one(1, 1, State.BOOTING), world.one(2, 1, State.BOOTING)
    assert world.pool.cannot_boot(first, world.now)[0] is Verdict.HALT
    assert world.pool.cannot_boot(second, world.now)[0] is Verdict.NOTHING
    world.turn()
    assert world.die(first, End.BOOT_FAILED) is Verdict.NOTHING
    world.leave()
    assert world.pool.children == {}


def test_a_first_worker_killed_from_outside_is_made_anew() -> None:
    world = World(2)
    assert world.die(world.one(1, 1, State.BOOTING), End.KILLED_FROM_OUTSIDE) is Verdict.WAIT
    assert world.shape() == [(1, 1, "booting"), (2, 1, "booting")]


def test_a_first_worker_that_hangs_while_booting_halts() -> None:
    world = World(1)
    assert world.pool.hung(world.one(1, 1, State.BOOTING), world.now)[0] is Verdict.HALT


def test_a_failure_to_boot_backs_off_once_something_has_worked() -> None:
    world = World(2)
    world.ready(world.one(1, 1, State.BOOTING))
    failing = world.one(2, 1, State.BOOTING)
    assert world.pool.cannot_boot(failing, world.now)[0] is Verdict.WAIT
    world.turn()
    assert world.shape() == [(1, 1, "ready"), (2, 1, "booting"), (2, 1, "booting")]
    world.die(failing, End.BOOT_FAILED)
    assert world.shape() == [(1, 1, "ready"), (2, 1, "booting")]


# Crashes


def test_a_crash_is_replaced_at_once() -> None:
    world = whole(2)
    world.turn(60.0)
    assert world.die(world.one(1, 1, State.READY)) is Verdict.REPLACE
    assert world.shape() == [(1, 1, "booting"), (2, 1, "ready")]


def test_one_that_leaves_by_itself_is_replaced_at_once_and_without_a_wait() -> None:
    world = whole(2)
    world.turn(QUICK_DEATH_S)
    assert world.die(world.one(1, 1, State.READY), End.LEFT) is Verdict.REPLACE
    assert world.shape() == [(1, 1, "booting"), (2, 1, "ready")]


def test_quick_deaths_back_off_and_the_other_slots_do_not_care() -> None:
    world = whole(2)
    times = []
    for _ in range(6):
        times.append(world.now)
        world.die(world.one(1, 1, State.READY))
        assert (2, 1, "ready") in world.shape()
        due = world.planner.next_due()
        if due < float("inf"):
            world.turn(due - world.now)
        world.ready(world.one(1, 1, State.BOOTING))
    assert [round(b - a, 3) for a, b in itertools.pairwise(times)] == [0.0, 0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("end", [End.CRASHED, End.OUT_OF_MEMORY, End.KILLED_FROM_OUTSIDE, End.LEFT])
def test_workers_that_die_in_requests_are_replaced_at_once(end: End, preload: bool) -> None:
    """Four a second, for two workers: the service is never without one for longer than a boot takes."""
    world = whole(2, preload)
    for turn in range(40):
        world.turn(0.25)
        victim = world.one(1 + turn % 2, 1, State.READY)
        assert world.die(victim, end, in_service=True) is Verdict.REPLACE
        world.ready(world.one(victim.slot, 1, State.BOOTING))


def test_workers_that_hang_in_requests_are_replaced_at_once() -> None:
    world = whole(2)
    for _ in range(5):
        world.turn(0.5)
        hung = world.one(1, 1, State.READY)
        assert world.pool.hung(hung, world.now, in_service=True)[0] is Verdict.REPLACE
        world.turn()
        world.die(hung, End.TIMED_OUT)
        world.ready(world.one(1, 1, State.BOOTING))


def test_a_flood_of_deaths_in_requests_meets_the_budget() -> None:
    """However fast workers die, no more than the budget are made in a second, and with none left the next is near."""
    world = whole(2)
    made, began = [], world.now
    ends = began + 5.0
    while world.now < ends:
        for child in world.pool.workers():
            if child.ready:
                world.die(child, in_service=True)
        for child in world.pool.workers():
            if child.coming:
                made.append(world.now)
                world.ready(child)
        world.turn(0.01)
    assert sum(each < began + 1.0 for each in made) <= 2 * BUDGET
    assert sum(each >= began + 1.0 for each in made) <= 5 * BUDGET
    assert max(after - before for before, after in itertools.pairwise(made)) <= ALONE_S + 0.02


def test_the_last_worker_takes_the_wait_from_the_others() -> None:
    world = whole(2)
    for _ in range(2 * BUDGET):
        world.pool.backoff.died(1, 0.0, world.now, in_service=True)
    world.die(world.one(1, 1, State.READY), in_service=True)
    assert world.planner.next_due() > world.now + ALONE_S
    world.turn(0.5)
    assert world.shape() == [(2, 1, "ready")]
    world.pool.exited(world.one(2, 1, State.READY), End.CRASHED, world.now, in_service=True)
    (first,) = world.turn()
    assert isinstance(first, Spawn)
    assert first.slot == 1


def test_boots_that_fail_wait_also_when_there_is_no_worker() -> None:
    world = whole(1)
    world.turn(60.0)
    world.die(world.one(1, 1, State.READY), in_service=True)
    waits = []
    for _ in range(4):
        # Whatever its page says: it may have been in a smoke test.
        world.die(world.one(1, 1, State.BOOTING), in_service=True)
        waits.append(max(0.0, round(world.planner.next_due() - world.now, 3)) if not world.shape() else 0.0)
        world.turn(waits[-1])
    assert waits == [0.0, 0.5, 1.0, 2.0]


def test_a_recovery_is_one_that_lasts() -> None:
    world = whole(2)
    assert strength.proven_at(world.pool) == world.now - PROBATION_S + QUICK_DEATH_S
    world.turn(60.0)
    world.die(world.one(1, 1, State.READY))
    world.ready(world.one(1, 1, State.BOOTING))
    assert strength.proven_at(world.pool) == world.now + QUICK_DEATH_S


def test_no_recovery_while_a_worker_serves_on_because_its_successors_cannot_boot() -> None:
    world = whole(2)
    old = world.one(1, 1, State.READY)
    old.recycle = End.RECYCLED_REQUESTS
    world.turn()
    world.pool.cannot_boot(world.one(1, 1, State.BOOTING), world.now)
    assert strength.whole(world.pool)
    assert strength.proven_at(world.pool) == float("inf")
    old.recycle = None
    assert strength.proven_at(world.pool) < float("inf")


def test_a_worker_that_is_not_to_be_replaced_yet_serves_until_then() -> None:
    world = whole(2)
    large = world.one(1, 1, State.READY)
    large.recycle, large.recycle_at = End.RECYCLED_MEMORY, world.now + 1.0
    assert world.turn() == []
    assert world.planner.next_due() == large.recycle_at
    assert world.turn(1.0) == [Spawn(1, 1)]


def test_no_room_for_a_process_backs_off() -> None:
    world = whole(1)
    assert [world.pool.backoff.refused(1, world.now).wait_s for _ in range(3)] == [0.5, 1.0, 2.0]


# Reload


def test_one_new_worker_is_tried_first() -> None:
    world = whole(4)
    world.reload(4)
    assert world.shape() == [(1, 1, "ready"), (1, 2, "booting"), *ready_shape(4, 1)[1:]]
    world.ready(world.one(1, 2, State.BOOTING))
    assert world.shape() == [(1, 1, "ready"), (1, 2, "ready"), *ready_shape(4, 1)[1:]]
    world.turn(PROBATION_S)
    assert world.shape() == [
        (1, 1, "draining"), (1, 2, "ready"), (2, 1, "ready"), (2, 2, "booting"), (3, 1, "ready"), (4, 1, "ready"),
    ]  # fmt: skip


def test_then_a_quarter_at_a_time() -> None:
    world = whole(8)
    world.reload(8)
    most = 0
    for _ in range(100):
        coming = [c for c in world.pool.workers() if c.coming]
        most = max(most, len(coming))
        if not coming and strength.whole(world.pool):
            break
        for child in coming:
            world.ready(child)
        world.turn(PROBATION_S)
    assert most == 2
    world.leave()
    assert world.shape() == ready_shape(8, 2)


@pytest.mark.parametrize("end", [End.CRASHED, End.KILLED_FROM_OUTSIDE])
def test_a_broken_generation_changes_nothing(end: End) -> None:
    world = whole(3)
    world.reload(5)
    assert world.die(world.one(1, 2, State.BOOTING), end) is Verdict.ABORT
    world.turn(100.0)
    assert world.shape() == ready_shape(3, 1)


def test_a_generation_that_dies_on_probation_changes_nothing() -> None:
    world = whole(3)
    world.reload(3)
    world.ready(world.one(1, 2, State.BOOTING))
    world.turn(PROBATION_S / 2)
    assert world.die(world.one(1, 2, State.READY)) is Verdict.ABORT
    world.turn(100.0)
    assert world.shape() == ready_shape(3, 1)


def test_a_generation_that_hangs_while_booting_changes_nothing() -> None:
    world = whole(2)
    world.reload(2)
    hung = world.one(1, 2, State.BOOTING)
    assert world.pool.hung(hung, world.now)[0] is Verdict.ABORT
    world.turn()
    assert world.die(hung, End.TIMED_OUT) is Verdict.NOTHING
    assert world.shape() == ready_shape(2, 1)


def test_a_reload_during_a_trial_supersedes_it() -> None:
    world = whole(2)
    world.reload(2)
    world.reload(2)
    assert world.one(1, 2, State.DRAINING).asked is Ask.QUICK
    assert world.one(1, 3, State.BOOTING).generation == 3
    world.boot_all()
    assert world.shape() == ready_shape(2, 3)


def test_a_reload_during_probation_supersedes_it() -> None:
    world = whole(2)
    world.reload(2)
    world.ready(world.one(1, 2, State.BOOTING))
    world.reload(2)
    assert world.shape() == [(1, 1, "ready"), (1, 2, "draining"), (1, 3, "booting"), (2, 1, "ready")]
    world.die(world.one(1, 3, State.BOOTING))
    world.leave()
    assert world.shape() == ready_shape(2, 1)


def test_a_broken_reload_during_a_rollout_lets_the_rollout_go_on() -> None:
    world = whole(4)
    world.reload(4)
    world.ready(world.one(1, 2, State.BOOTING))
    world.turn(PROBATION_S)
    world.reload(4)
    world.ready(world.one(2, 2, State.BOOTING))  # what boots already is finished, nothing new is begun
    assert not [c for c in world.pool.workers() if c.coming and c.generation == 2]
    world.die(next(c for c in world.pool.workers() if c.generation == 3))
    world.boot_all()
    assert world.shape() == ready_shape(4, 2)


def test_an_old_worker_that_dies_during_a_trial_is_replaced_by_its_like() -> None:
    world = whole(2)
    world.turn(60.0)
    world.reload(2)
    world.die(world.one(2, 1, State.READY))
    assert world.one(2, 1, State.BOOTING).slot == 2
    world.boot_all()
    assert world.shape() == ready_shape(2, 2)


def test_an_empty_slot_is_where_a_new_generation_is_tried() -> None:
    world = whole(3)
    world.die(world.one(3, 1, State.READY))
    world.ready(world.one(3, 1, State.BOOTING))
    world.die(world.one(3, 1, State.READY))
    assert len(world.shape()) == 2
    world.reload(3)
    assert world.one(3, 2, State.BOOTING).generation == 2
    world.boot_all()
    assert world.shape() == ready_shape(3, 2)


def test_crashes_during_a_rollout_do_not_stop_it() -> None:
    world = whole(4)
    world.reload(4)
    world.ready(world.one(1, 2, State.BOOTING))
    world.turn(PROBATION_S)
    assert world.die(world.one(2, 2, State.BOOTING)) is Verdict.WAIT
    world.die(world.one(4, 1, State.READY))
    world.boot_all()
    assert world.shape() == ready_shape(4, 2)


def test_a_reload_changes_the_number_of_workers() -> None:
    world = whole(2)
    world.reload(4)
    world.boot_all()
    assert world.shape() == ready_shape(4, 2)
    world.reload(1)
    world.boot_all()
    assert world.shape() == ready_shape(1, 3)


# Recycling


def test_a_worker_is_recycled_after_its_replacement_is_ready() -> None:
    world = whole(2)
    old = world.one(1, 1, State.READY)
    old.recycle = End.RECYCLED_MEMORY
    world.turn()
    assert world.shape() == [(1, 1, "booting"), (1, 1, "ready"), (2, 1, "ready")]
    world.ready(world.one(1, 1, State.BOOTING))
    assert old.asked is Ask.DRAIN
    world.leave()
    assert world.shape() == ready_shape(2, 1)


def test_a_replacement_that_cannot_boot_leaves_the_old_worker_in_place() -> None:
    world = whole(1)
    old = world.one(1, 1, State.READY)
    old.recycle = End.RECYCLED_REQUESTS
    world.turn()
    for _ in range(4):
        for child in [c for c in world.pool.workers() if c.coming]:
            world.die(child)
        world.turn(1.0)
    assert old.state is State.READY
    assert not old.asked


def test_workers_that_want_to_be_recycled_together_are_not() -> None:
    world = whole(8)
    for child in world.pool.workers():
        child.recycle = End.RECYCLED_REQUESTS
    world.turn()
    assert sum(c.coming for c in world.pool.workers()) == 2
    world.boot_all()
    assert not [c for c in world.pool.workers() if c.recycle and c.ready]


# Scaling


def test_more_and_fewer_workers() -> None:
    world = whole(2)
    world.pool.rollout.scale(+1)
    world.turn()
    assert world.one(3, 1, State.BOOTING).slot == 3
    world.boot_all()
    world.pool.rollout.scale(-1)
    world.turn()
    assert world.one(3, 1, State.DRAINING).asked is Ask.DRAIN
    world.leave()
    assert world.shape() == ready_shape(2, 1)


def slots_of(world: World) -> list[int]:
    return sorted(child.slot for child in world.pool.workers() if child.ready)


def test_the_oldest_worker_goes_and_its_slot_is_the_first_to_be_filled_again() -> None:
    world = whole(2)
    rollout = world.pool.rollout
    for leaves, slots in ((1, [2, 3]), (2, [1, 3]), (3, [1, 2]), (1, [2, 3])):
        world.turn(1.0)
        rollout.scale(+1)
        world.turn()
        world.boot_all()
        assert slots_of(world) == [1, 2, 3]
        found = strength.oldest(world.pool)
        assert found is not None
        assert found.slot == leaves
        assert rollout.vacate(found.slot) == 2
        world.turn()
        assert found.asked is Ask.DRAIN
        assert strength.whole(world.pool)
        world.leave()
        assert slots_of(world) == slots
        assert list(rollout.slots) == slots


def test_vacated_slots_stay_free_over_a_reload_and_a_death() -> None:
    world = whole(3)
    assert world.pool.rollout.vacate(1) == 2
    world.turn()
    world.leave()
    world.die(world.one(3, 1, State.READY), End.CRASHED)
    world.turn(1.0)
    world.boot_all()
    assert slots_of(world) == [2, 3]
    world.reload(2)
    for _ in range(20):
        world.boot_all()
        world.turn(PROBATION_S)
        world.leave()
    assert slots_of(world) == [2, 3]
    assert {child.generation for child in world.pool.workers()} == {2}
    world.pool.rollout.use_first_slots()
    world.turn()
    world.boot_all()
    world.leave()
    assert slots_of(world) == [1, 2]


def test_no_slot_is_vacated_by_the_last_worker() -> None:
    world = whole(1)
    assert world.pool.rollout.vacate(1) == 1
    assert list(world.pool.rollout.slots) == [1]


def test_a_booting_worker_too_many_goes_quickly() -> None:
    world = whole(1)
    world.pool.rollout.scale(+1)
    world.turn()
    world.pool.rollout.scale(-1)
    world.turn()
    assert world.one(2, 1, State.DRAINING).asked is Ask.QUICK


def test_all_retire_and_come_back_with_a_reload() -> None:
    world = whole(3)
    world.pool.rollout.retire_all()
    world.turn()
    world.leave()
    assert world.shape() == []
    world.reload(3)
    world.boot_all()
    assert world.shape() == ready_shape(3, 2)


# Hangs


def test_a_worker_that_hangs_is_replaced_before_it_is_gone() -> None:
    world = whole(2)
    world.turn(60.0)
    hung = world.one(1, 1, State.READY)
    assert world.pool.hung(hung, world.now) == (Verdict.REPLACE, world.pool.backoff.died(1, 60.0, world.now))
    world.turn()
    assert world.shape() == [(1, 1, "booting"), (1, 1, "killed"), (2, 1, "ready")]
    assert world.turn(HANG_S) == [Stop(hung.key, Ask.KILL, cut=True)]
    assert world.die(hung, End.TIMED_OUT) is Verdict.NOTHING
    world.boot_all()
    assert world.shape() == ready_shape(2, 1)


def test_a_draining_worker_may_hang_too() -> None:
    world = whole(1)
    world.reload(1)
    world.ready(world.one(1, 2, State.BOOTING))
    world.turn(PROBATION_S)
    hung = world.one(1, 1, State.DRAINING)
    assert world.pool.hung(hung, world.now) == (Verdict.NOTHING, None)
    assert world.turn(HANG_S) == [Stop(hung.key, Ask.KILL, cut=True)]


def test_a_wait_that_ends_while_a_plan_is_carried_out_is_not_forgotten() -> None:
    world = whole(2)
    for _ in range(2):
        for slot in (1, 2):
            (child,) = [child for child in world.pool.workers() if child.slot == slot]
            world.die(child)
            world.now += 0.001
    world.turn(world.planner.next_due() - world.now)
    assert world.shape() == [(1, 1, "booting")]
    # Making this process took until the wait of the other slot was over, too.
    world.now += 0.005
    assert world.planner.next_due() < world.now
    world.turn()
    assert world.shape() == [(1, 1, "booting"), (2, 1, "booting")]
    assert world.planner.next_due() == float("inf")


# The end


def test_a_graceful_stop_ends_those_that_take_too_long() -> None:
    world = whole(2)
    world.pool.rollout.scale(+1)
    world.turn()
    world.pool.stop(Stopping.GRACEFUL)
    asked = {order.key: order.ask for order in world.turn() if isinstance(order, Stop)}
    assert asked == {1: Ask.DRAIN, 2: Ask.DRAIN, 3: Ask.QUICK}
    assert world.turn(1.0) == []
    assert world.planner.next_due() == world.now - 1.0 + QUICK_STOP_S
    assert world.turn(QUICK_STOP_S - 1.0) == [Stop(3, Ask.KILL, cut=True)]
    world.die(world.pool.children[3], End.CUT)
    world.die(world.pool.children[1], End.ASKED)
    assert world.turn(GRACEFUL_S + DRAIN_MARGIN_S) == [Stop(2, Ask.KILL, cut=True)]
    world.die(world.pool.children[2], End.CUT)
    assert world.pool.children == {}
    assert world.turn(100.0) == []


def test_a_quick_stop_hurries_a_graceful_one_and_force_ends_both() -> None:
    world = whole(2)
    world.pool.stop(Stopping.GRACEFUL)
    world.turn()
    world.pool.stop(Stopping.QUICK)
    assert world.turn() == [Stop(1, Ask.QUICK), Stop(2, Ask.QUICK)]
    world.pool.stop(Stopping.GRACEFUL)
    assert world.turn() == []
    world.pool.stop(Stopping.FORCED)
    assert world.turn() == [Stop(1, Ask.KILL), Stop(2, Ask.KILL)]


def test_nobody_is_replaced_during_a_stop() -> None:
    world = whole(2)
    world.pool.stop(Stopping.GRACEFUL)
    assert world.die(world.one(1, 1, State.READY)) is Verdict.NOTHING
    assert world.shape() == [(2, 1, "draining")]


def test_a_kill_is_repeated() -> None:
    world = whole(1)
    world.pool.stop(Stopping.FORCED)
    world.turn()
    assert world.turn(5.0) == [Stop(1, Ask.KILL, cut=True)]


# Molds


def test_with_a_mold_workers_wait_for_it() -> None:
    world = World(2, preload=True)
    (mold,) = world.pool.children.values()
    assert (mold.role, mold.slot) == (Role.MOLD, 0)
    assert world.turn() == []
    world.ready(mold)
    assert world.shape() == [(1, 1, "booting"), (2, 1, "booting")]
    world.boot_all()
    assert world.shape() == ready_shape(2, 1)


def test_a_mold_that_cannot_load_fails_its_generation() -> None:
    world = World(2, preload=True)
    (mold,) = world.pool.children.values()
    assert world.pool.cannot_boot(mold, world.now)[0] is Verdict.HALT
    world = whole(2, preload=True)
    world.reload(2)
    (mold,) = [c for c in world.pool.children.values() if c.role is Role.MOLD and c.coming]
    assert world.pool.cannot_boot(mold, world.now)[0] is Verdict.ABORT
    world.turn()
    world.leave()
    assert world.shape() == ready_shape(2, 1)
    assert sum(c.role is Role.MOLD for c in world.pool.children.values()) == 1


def test_a_new_generation_has_a_mold_of_its_own() -> None:
    world = whole(2, preload=True)
    world.reload(2)
    world.boot_all()
    assert world.shape() == ready_shape(2, 2)
    assert [c.generation for c in world.pool.children.values() if c.role is Role.MOLD] == [2]


def test_a_mold_that_dies_is_made_anew_when_it_is_needed() -> None:
    world = whole(2, preload=True)
    world.turn(60.0)
    (mold,) = [c for c in world.pool.children.values() if c.role is Role.MOLD]
    assert world.die(mold) is Verdict.REPLACE
    assert world.shape() == ready_shape(2, 1)
    world.die(world.one(1, 1, State.READY))
    world.boot_all()
    assert world.shape() == ready_shape(2, 1)


def test_a_mold_does_not_end_while_a_pid_is_awaited_from_it() -> None:
    world = whole(1, preload=True)
    (mold,) = [c for c in world.pool.children.values() if c.role is Role.MOLD]
    ordered = Child(99, 2, 1, world.now, mold=mold.key)
    world.pool.rollout.scale(+1)
    world.pool.add(ordered)
    world.pool.stop(Stopping.QUICK)
    assert mold.key not in {order.key for order in world.turn() if isinstance(order, Stop)}
    ordered.pid = 5
    ordered.take(Input.STARTED)
    assert mold.key in {order.key for order in world.turn() if isinstance(order, Stop)}


def unborn_of(world: World) -> tuple[Child, Child]:
    """A mold, and a worker that was ordered from it of which it has told nothing yet."""
    (mold,) = [c for c in world.pool.children.values() if c.role is Role.MOLD]
    ordered = Child(99, 2, 1, world.now, mold=mold.key)
    world.pool.rollout.scale(+1)
    world.pool.add(ordered)
    return mold, ordered


@pytest.mark.parametrize("how", [Stopping.GRACEFUL, Stopping.QUICK])
def test_a_stop_does_not_wait_for_ever_for_a_pid(how: Stopping) -> None:
    world = whole(1, preload=True)
    mold, ordered = unborn_of(world)
    world.pool.stop(how)
    assert Stop(ordered.key, Ask.QUICK) in world.turn()
    assert not mold.asked
    orders = world.turn(QUICK_STOP_S)
    assert Stop(ordered.key, Ask.KILL, cut=True) in orders
    assert Stop(mold.key, Ask.QUICK) in orders


def test_a_stop_by_force_waits_for_no_pid() -> None:
    world = whole(1, preload=True)
    mold, _ = unborn_of(world)
    world.pool.stop(Stopping.FORCED)
    assert Stop(mold.key, Ask.KILL) in world.turn()


def test_a_mold_that_hangs_while_it_serves_is_made_anew() -> None:
    world = whole(1, preload=True)
    mold, ordered = unborn_of(world)
    world.turn(60.0)
    assert world.pool.hung(mold, world.now)[0] is Verdict.REPLACE
    assert world.turn(HANG_S) == [Stop(mold.key, Ask.KILL, cut=True)]
    world.die(mold, End.TIMED_OUT)
    world.die(ordered, End.ASKED)
    world.boot_all()
    assert world.shape() == ready_shape(2, 1)


def test_a_pid_is_awaited_from_the_mold_that_was_ordered_and_from_no_other() -> None:
    world = whole(1, preload=True)
    mold, ordered = unborn_of(world)
    ordered.mold = mold.key + 1000
    world.pool.stop(Stopping.GRACEFUL)
    assert Stop(mold.key, Ask.QUICK) in world.turn()


# One that takes requests before its word is read


def test_a_worker_given_up_may_finish_its_requests() -> None:
    world = whole(2)
    world.reload(2)
    tried = world.one(1, 2, State.BOOTING)
    tried.takes_requests = True
    world.reload(2)
    assert tried.asked is Ask.DRAIN


def test_a_worker_too_many_may_finish_its_requests() -> None:
    world = whole(1)
    world.pool.rollout.scale(+1)
    world.turn()
    world.one(2, 1, State.BOOTING).takes_requests = True
    world.pool.rollout.scale(-1)
    assert world.turn() == [Stop(2, Ask.DRAIN)]


def test_a_graceful_stop_lets_it_finish_and_a_quick_one_does_not() -> None:
    world = World(1)
    child = world.one(1, 1, State.BOOTING)
    child.takes_requests = True
    world.pool.stop(Stopping.GRACEFUL)
    assert world.turn() == [Stop(1, Ask.DRAIN)]
    assert world.turn() == []
    world.pool.stop(Stopping.QUICK)
    assert world.turn() == [Stop(1, Ask.QUICK)]
    assert not world.pool.may_finish(child)


def test_one_that_was_told_to_go_at_once_may_finish_after_all() -> None:
    world = whole(1)
    world.pool.rollout.scale(+1)
    world.turn()
    world.pool.rollout.scale(-1)
    world.turn()
    child = world.one(2, 1, State.DRAINING)
    assert not world.pool.may_finish(child)
    child.takes_requests = True
    assert world.pool.may_finish(child)
    world.pool.asked(child, Ask.DRAIN, world.now, GRACEFUL_S)
    assert not world.pool.may_finish(child)
    assert world.turn(QUICK_STOP_S) == []


# Anything at all


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_the_pool_comes_back(seed: int) -> None:
    rng = random.Random(seed)
    go_through_anything(World(rng.randint(1, 6), preload=seed % 3 == 0), rng)


def go_through_anything(world: World, rng: random.Random) -> None:
    """Random events; `World` checks that no worker stops before its replacement is ready."""
    world.boot_all()
    for _ in range(150):
        children = list(world.pool.children.values())
        child = rng.choice(children) if children else None
        what = rng.randrange(9)
        if what == 0:
            world.reload(rng.randint(1, 6))
        elif what == 1:
            more, found = rng.choice((-1, 1)), strength.oldest(world.pool)
            if more < 0 and found is not None and rng.random() < 0.5:
                world.pool.rollout.vacate(found.slot)
            else:
                world.pool.rollout.scale(more)
        elif what == 2 and child:
            world.die(child, rng.choice((End.CRASHED, End.LEFT, End.KILLED_FROM_OUTSIDE)))
        elif what == 3 and child and child.state is State.BOOTING and not child.boot_failed:
            world.pool.cannot_boot(child, world.now)
        elif what == 4 and child and child.state in (State.BOOTING, State.READY, State.DRAINING):
            world.pool.hung(child, world.now)
        elif what == 5 and child and child.ready and child.role is Role.WORKER:
            child.recycle = End.RECYCLED_MEMORY
        elif child and child.coming:
            world.ready(child)
        elif child and (child.asked or child.state is State.KILLED or child.boot_failed):
            world.die(child, End.ASKED)
        before = world.turn(rng.choice((0.0, 0.1, 0.3, 3.0)))
        assert not any(isinstance(order, Spawn) for order in world.turn()), before
        assert not world.pool.stopping
    for child in list(world.pool.children.values()):
        if child.boot_failed or child.state is State.KILLED:
            world.die(child, End.ASKED)
    world.turn(60.0)
    world.boot_all()
    assert world.shape() == [(slot, world.serving, "ready") for slot in world.pool.rollout.slots]
    assert len(world.shape()) == world.pool.rollout.workers
