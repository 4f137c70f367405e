"""The policy that adds and removes workers: single looks, whole minutes by a clock of the test, and steady load."""

import random
from collections.abc import Callable

import pytest

from wsgicluster.arbiter.plan.autoscaling import (
    LOOK_S,
    LOOKS,
    Autoscaling,
    Limits,
    Look,
    ScalingStep,
    WorkerSample,
    busy_share,
    room_for,
)

LIMITS = Limits(least=2, most=16, idle_s=60.0)


class Simulation:
    """A server whose load, in workers, is given; every step is carried out at once or after ``boot_s``."""

    def __init__(self, workers: int, limits: Limits = LIMITS, boot_s: float = 0.0) -> None:
        self.policy = Autoscaling()
        self.limits = limits
        self.now = 1000.0
        self.workers = workers
        self.steps: list[tuple[float, int, str]] = []
        self._boot_s = boot_s
        self._ready = [(0.0, workers)]

    def run(self, seconds: float, load: Callable[[], float]) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += LOOK_S
            wanted_load = load()
            if self._ready[-1][0] <= self.now:
                ready = self.workers
            else:
                ready = self._ready[-2][1]
            busy = min(float(ready), wanted_load)
            waiting = int(max(0.0, wanted_load - ready) * 10)
            look = Look(self.now, self.workers, min(ready, self.workers), busy, waiting)
            step = self.policy.decide(look, self.limits)
            if step is not None:
                self.policy.took(step)
                self.steps.append((self.now, step.workers, step.reason))
                boot_s = self._boot_s if step.workers > self.workers else 0.0
                self._ready.append((self.now + boot_s, step.workers))
                self.workers = step.workers

    @property
    def numbers(self) -> list[int]:
        return [workers for _, workers, _ in self.steps]


def test_a_step_of_load_is_followed_within_ten_seconds() -> None:
    world = Simulation(2)
    world.run(120, lambda: 0.2)
    assert world.steps == []
    world.run(10, lambda: 8.0)
    assert world.numbers == [4, 8, 16]
    world.run(600, lambda: 8.0)
    assert world.numbers == [4, 8, 16]


def test_workers_that_boot_for_long_are_waited_for() -> None:
    world = Simulation(2, boot_s=20.0)
    world.run(60, lambda: 5.0)
    times = [at - 1000.0 for at, _, _ in world.steps]
    assert world.numbers == [4, 8]
    assert times[1] - times[0] >= 20.0 + (LOOKS - 1) * LOOK_S


def test_all_but_the_least_leave_once_idle() -> None:
    world = Simulation(2)
    world.run(10, lambda: 8.0)
    high = world.workers
    world.run(LIMITS.idle_s - 1, lambda: 0.1)
    assert world.workers == high
    world.run(high + 1, lambda: 0.1)
    assert world.workers == LIMITS.least
    # One at a time.
    assert all(before - after == 1 for before, after in zip(world.numbers[2:], world.numbers[3:], strict=False))
    world.run(600, lambda: 0.1)
    assert world.workers == LIMITS.least


def test_a_moment_of_load_keeps_them() -> None:
    world = Simulation(8)
    for _ in range(10):
        world.run(59, lambda: 0.1)
        world.run(1, lambda: 4.0)
    assert world.steps == []


def test_a_short_burst_is_no_reason() -> None:
    world = Simulation(2)
    for _ in range(20):
        world.run(LOOKS - 1, lambda: 8.0)
        world.run(1, lambda: 0.2)
    assert world.steps == []


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2, 0.35])
@pytest.mark.parametrize("start", [2, 5, 9, 16])
def test_steady_load_leads_to_no_step_back_and_forth(start: int, noise: float) -> None:
    """Ten minutes at each of many levels."""
    for level in [each / 4 for each in range(61)]:
        chance = random.Random(f"{level} {start} {noise}")
        world = Simulation(start)
        world.run(600, lambda level=level, chance=chance: max(0.0, chance.gauss(level, level * noise)))  # type: ignore[misc]
        ups = [at for at, workers, reason in world.steps if reason != "idle"]
        downs = [at for at, workers, reason in world.steps if reason == "idle"]
        # Either way it goes in one direction.
        assert not (ups and downs), (level, world.steps)
        assert LIMITS.least <= world.workers <= LIMITS.most


def look(load: float, *, wanted: int = 4, ready: int | None = None, waiting: int = 0, wait_s: float = 0.0) -> Look:
    return Look(0.0, wanted, wanted if ready is None else ready, load, waiting, wait_s)


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (look(3.1), None),
        (look(3.2), ScalingStep(6, "busy", "80 % of 4 workers' time")),
        (look(3.7), ScalingStep(7, "busy", "92 % of 4 workers' time")),
        (look(3.8), ScalingStep(8, "busy", "95 % of 4 workers' time")),
        (look(4.0, waiting=9), ScalingStep(8, "busy", "100 % of 4 workers' time, 9 connections waiting")),
        (look(1.0, wanted=1, waiting=1), ScalingStep(2, "busy", "100 % of 1 worker's time, 1 connection waiting")),
        (look(15.9, wanted=15), ScalingStep(16, "busy", "106 % of 15 workers' time")),
        (look(16.0, wanted=16), None),
        # Those that wait count only where workers have something to do.
        (look(2.0, waiting=4), ScalingStep(5, "queue", "50 % of 4 workers' time, 4 connections waiting")),
        (look(2.0, waiting=3), None),
        (look(1.9, waiting=400), None),
        (look(2.8, wait_s=0.1), ScalingStep(5, "wait", "70 % of 4 workers' time, requests waited 100 ms")),
        (look(2.8, wait_s=0.09), None),
        (look(1.9, wait_s=9.0), None),
        # Some of them boot.
        (look(3.0, ready=3), None),
    ],
)
def test_overload(seen: Look, step: ScalingStep | None) -> None:
    policy = Autoscaling()
    assert [policy.decide(seen, LIMITS) for _ in range(LOOKS)] == [None] * (LOOKS - 1) + [step]


def test_a_number_that_was_asked_for_holds_until_the_next_decision() -> None:
    world = Simulation(4)
    world.run(LIMITS.idle_s - 2, lambda: 0.1)
    world.workers = 6
    world._ready.append((0.0, 6))
    world.run(LIMITS.idle_s, lambda: 0.1)
    assert world.steps == []
    world.run(2, lambda: 0.1)
    assert world.numbers[0] == 5
    # The same for overload.
    world.run(LOOKS - 1, lambda: 8.0)
    world.workers = 3
    world._ready.append((0.0, 3))
    before = len(world.steps)
    world.run(LOOKS - 1, lambda: 8.0)
    assert len(world.steps) == before
    world.run(1, lambda: 8.0)
    assert world.workers == 6


def test_fewer_than_the_range_stay_until_there_is_load() -> None:
    world = Simulation(1, Limits(3, 8, 5.0))
    world.run(60, lambda: 0.1)
    assert world.steps == []
    world.run(LOOKS, lambda: 1.0)
    assert world.numbers == [2]
    world.run(LOOKS, lambda: 2.0)
    assert world.numbers == [2, 4]


def test_a_pause_begins_anew() -> None:
    policy = Autoscaling()
    seen = look(4.0)
    for _ in range(3):
        assert [policy.decide(seen, LIMITS) for _ in range(LOOKS - 1)] == [None] * (LOOKS - 1)
        policy.pause()


def test_a_step_that_was_not_made_is_due_again() -> None:
    policy = Autoscaling()
    seen = look(4.0)
    found = [policy.decide(seen, LIMITS) for _ in range(LOOKS + 2)]
    assert found[LOOKS - 1 :] == [ScalingStep(8, "busy", "100 % of 4 workers' time")] * 3


NOTHING = WorkerSample(100.0)


@pytest.mark.parametrize(
    ("before", "now", "threads", "share"),
    [
        # One at a time: what is over, and the part of the present one.
        (NOTHING, WorkerSample(101.0, 10, 0.5), 1, 0.5),
        (NOTHING, WorkerSample(101.0, 0, 0.0, oldest_at=100.4), 1, 0.6),
        (WorkerSample(101.0, oldest_at=100.4), WorkerSample(102.0, oldest_at=100.4), 1, 1.0),
        (WorkerSample(101.0, oldest_at=100.4), WorkerSample(102.0, 1, 1.1), 1, 0.5),
        (NOTHING, WorkerSample(101.0), 1, 0.0),
        # Several at a time.
        (NOTHING, WorkerSample(101.0, 20, 2.0), 4, 0.5),
        (NOTHING, WorkerSample(101.0, 20, 1.0, oldest_at=99.0, running=1), 4, 0.5),
        (NOTHING, WorkerSample(101.0, running=3, oldest_at=100.5), 4, 0.75),
        (NOTHING, WorkerSample(101.0, 1, 10.0, running=2), 4, 0.5),
        (NOTHING, WorkerSample(101.0, 20, 9.0), 4, 1.0),
        # Processor time, where that is more, or all that is known.
        (NOTHING, WorkerSample(101.0, 1000, 0.3, processor_s=0.97), 1, 0.97),
        (NOTHING, WorkerSample(101.0, 20, 1.0, processor_s=0.9), 4, 0.9),
        (NOTHING, WorkerSample(101.0, 20, 80.0, processor_s=0.2, running=90), 0, 0.2),
        # Clocks and pages that make no sense.
        (NOTHING, NOTHING, 1, 0.0),
        (WorkerSample(101.0, 10, 5.0), WorkerSample(102.0), 1, 0.0),
        (NOTHING, WorkerSample(101.0, processor_s=7.0), 1, 1.0),
    ],
)
def test_how_busy_a_worker_is(before: WorkerSample, now: WorkerSample, threads: int, share: float) -> None:
    assert busy_share(before, now, threads) == pytest.approx(share)


def test_room_in_memory() -> None:
    assert room_for(1000, 300) == 3
    assert room_for(299, 300) == 0
    assert room_for(1000, 0) == 1000, "where it is not known how large workers are"
