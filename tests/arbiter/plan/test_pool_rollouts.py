"""The pool's rules for rollouts with settings of their own: how many too many, how few, and the smoke test."""

import random

import pytest

from tests.arbiter.plan.generations import generation
from tests.arbiter.plan.test_pool import World, go_through_anything, ready_shape
from wsgicluster.arbiter.plan import strength
from wsgicluster.arbiter.plan.child import Ask, Child, End, State
from wsgicluster.arbiter.plan.orders import Spawn, Stop
from wsgicluster.arbiter.plan.pool import Verdict
from wsgicluster.arbiter.plan.rollout import PROBATION_S, Attempt, Result, Stage
from wsgicluster.settings.types.values import Portion


class Rollouts(World):
    """A world of generations with these settings; ``fewest`` and ``most`` how many served during a reload."""

    def __init__(self, workers: int, surge: int = 1, least: int = 0, *, smoke: bool = False, preload: bool = False):
        self.settings = {"surge": Portion(surge), "min_ready": least, "smoke": smoke}
        self.fewest = self.most = workers
        super().__init__(workers, preload)

    def reload(self, workers: int) -> None:
        number = next(self._numbers)
        self.pool.reload(generation(number, workers, preload=self.preload, **self.settings))  # type: ignore[arg-type]
        self.turn()

    def check_replaced_first(self, stop: Stop) -> None:
        if self.pool.rollout.batch:
            super().check_replaced_first(stop)

    def count(self) -> None:
        self.fewest = min(self.fewest, strength.ready_slots(self.pool))
        here = [child for child in self.pool.workers() if not child.asked and child.state is not State.KILLED]
        self.most = max(self.most, len(here))

    def replace_all(self) -> None:
        """A reload to its end, one event at a time."""
        self.fewest = self.most = self.pool.rollout.workers
        self.reload(self.pool.rollout.workers)
        for _ in range(300):
            self.count()
            leaving = [child for child in self.pool.workers() if child.asked]
            coming = [child for child in self.pool.children.values() if child.coming]
            if leaving:
                self.die(leaving[0], End.ASKED)
            elif coming:
                self.ready(coming[0])
            elif strength.whole(self.pool):
                return
            else:
                self.turn(PROBATION_S)
        raise AssertionError(f"never whole: {self.shape()}")

    def coming(self) -> list[Child]:
        return [child for child in self.pool.workers() if child.coming]


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize(("workers", "surge"), [(1, 1), (4, 1), (4, 3), (8, 7)])
def test_as_many_too_many_as_may_be(workers: int, surge: int, preload: bool) -> None:
    world = Rollouts(workers, surge, preload=preload)
    world.boot_all()
    world.replace_all()
    assert (world.fewest, world.most) == (workers, workers + surge)
    assert world.shape() == ready_shape(workers, 2)


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize(("workers", "least"), [(2, 1), (4, 3), (4, 1), (8, 5)])
def test_without_room_for_more_as_few_as_may_be(workers: int, least: int, preload: bool) -> None:
    world = Rollouts(workers, 0, least, preload=preload)
    world.boot_all()
    world.replace_all()
    assert (world.fewest, world.most) == (least, workers)
    assert world.shape() == ready_shape(workers, 2)


def test_without_room_a_successor_waits_until_the_old_worker_is_gone() -> None:
    world = Rollouts(3, 0, 2)
    world.boot_all()
    world.reload(3)
    assert world.shape() == [(1, 1, "draining"), (2, 1, "ready"), (3, 1, "ready")]
    assert world.turn(5.0) == []
    world.die(world.one(1, 1, State.DRAINING), End.ASKED)
    assert world.shape() == [(1, 2, "booting"), (2, 1, "ready"), (3, 1, "ready")]


def test_without_room_a_broken_generation_gives_its_place_back() -> None:
    world = Rollouts(3, 0, 2)
    world.boot_all()
    world.reload(3)
    world.die(world.one(1, 1, State.DRAINING), End.ASKED)
    assert world.die(world.one(1, 2, State.BOOTING)) is Verdict.ABORT
    assert world.shape() == [(1, 1, "booting"), (2, 1, "ready"), (3, 1, "ready")]
    world.boot_all()
    assert world.shape() == ready_shape(3, 1)


def test_without_room_and_with_one_missing_already_nobody_has_to_go() -> None:
    world = Rollouts(3, 0, 2)
    world.boot_all()
    world.die(world.one(2, 1, State.READY))
    world.reload(3)
    assert world.shape() == [(1, 1, "ready"), (2, 1, "booting"), (3, 1, "ready")]
    world.ready(world.one(2, 1, State.BOOTING))
    assert world.one(1, 1, State.DRAINING).asked is Ask.DRAIN


def test_enough_is_what_the_settings_say() -> None:
    world = Rollouts(4, 1, 2)
    assert not strength.enough(world.pool)
    world.ready(world.one(1, 1, State.BOOTING))
    assert not strength.enough(world.pool)
    world.ready(world.one(2, 1, State.BOOTING))
    assert strength.enough(world.pool)
    assert not strength.whole(world.pool)


@pytest.mark.parametrize("preload", [False, True])
def test_the_first_worker_rehearses_alone_and_the_others_do_not_repeat_it(preload: bool) -> None:
    world = Rollouts(3, smoke=True, preload=preload)
    if preload:
        (mold,) = world.pool.children.values()
        world.pool.ready(mold, world.now)
        assert world.planner.plan(world.now) == [Spawn(1, 1, smoke_test=True)]
        world.turn()
    (first,) = world.coming()
    assert (first.slot, world.pool.rollout.stage) == (1, Stage.FIRST)
    world.pool.ready(first, world.now)
    assert world.planner.plan(world.now) == [Spawn(2, 1), Spawn(3, 1)]
    world.turn()
    world.boot_all()
    world.die(world.one(2, 1, State.READY))
    world.turn(60.0)
    assert world.shape() == [(1, 1, "ready"), (2, 1, "booting"), (3, 1, "ready")]


def test_so_does_the_first_of_each_later_generation() -> None:
    world = Rollouts(2, smoke=True)
    world.boot_all()
    world.pool.reload(generation(2, 2, smoke=True))
    assert world.planner.plan(world.now) == [Spawn(1, 2, smoke_test=True)]
    world.turn()
    world.pool.ready(world.one(1, 2, State.BOOTING), world.now)
    assert world.turn(PROBATION_S)[-1] == Spawn(2, 2)


@pytest.mark.parametrize("result", [Result.UNDER_WAY, Result.ABORTED, Result.SUPERSEDED, Result.REFUSED])
def test_while_new_code_may_be_broken_those_who_replace_old_workers_rehearse(result: Result) -> None:
    world = Rollouts(2, smoke=True)
    world.boot_all()
    rollout = world.pool.rollout
    rollout.last = Attempt(2, result, at=1.0)
    world.one(1, 1, State.READY).recycle = End.RECYCLED_REQUESTS
    assert world.planner.plan(world.now) == [Spawn(1, 1, smoke_test=True)]
    rollout.last = Attempt(3, Result.TOOK_OVER, at=2.0)
    assert world.planner.plan(world.now) == [Spawn(1, 1)]


def test_a_rehearsal_that_was_killed_from_outside_is_held_again() -> None:
    world = Rollouts(2, smoke=True)
    assert world.die(world.one(1, 1, State.BOOTING), End.KILLED_FROM_OUTSIDE) is Verdict.WAIT
    assert [(child.slot, child.generation) for child in world.coming()] == [(1, 1)]


def test_a_rehearsal_that_fails_at_the_start_ends_the_server() -> None:
    world = Rollouts(2, smoke=True)
    assert world.pool.cannot_boot(world.one(1, 1, State.BOOTING), world.now)[0] is Verdict.HALT


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_the_pool_comes_back(seed: int) -> None:
    rng = random.Random(seed)
    surge, least = rng.choice([(0, 1), (0, 2), (1, 1), (3, 0)])
    go_through_anything(Rollouts(rng.randint(2, 6), surge, least, smoke=seed % 2 == 0, preload=seed % 3 == 0), rng)
