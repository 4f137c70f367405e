"""Generations: which one is trusted when, and how many workers are wanted."""

import math

import pytest

from tests.arbiter.plan.generations import generation
from wsgicluster.arbiter.plan.rollout import PROBATION_S, STAGES, Rollout, Stage, Step
from wsgicluster.settings.types.general import MOST_WORKERS
from wsgicluster.settings.types.values import Portion


def started(workers: int = 4) -> Rollout:
    rollout = Rollout()
    rollout.begin(generation(1, workers))
    assert rollout.first_ready(10.0)
    return rollout


def test_first_generation_serves_with_its_first_worker() -> None:
    rollout = Rollout()
    assert rollout.workers == 0
    assert rollout.begin(generation(1, 3)) is None
    assert (rollout.base, rollout.on_trial, rollout.workers) == (generation(1, 3), None, 3)
    assert rollout.first_ready(10.0)
    assert (rollout.serving, rollout.trial) == (generation(1, 3), None)


def test_never_more_workers_than_there_may_be() -> None:
    rollout = started(MOST_WORKERS - 1)
    assert [rollout.scale(+1) for _ in range(3)] == [MOST_WORKERS] * 3
    assert rollout.scale(-1) == MOST_WORKERS - 1
    rollout = started(1)
    rollout.begin(generation(2, MOST_WORKERS))
    rollout.scale(+1)
    rollout.first_ready(20.0)
    rollout.settle(20.0 + PROBATION_S)
    assert rollout.workers == MOST_WORKERS
    assert rollout.scale(-1) == MOST_WORKERS - 1
    rollout.retire_all()
    assert rollout.workers == 0
    assert rollout.scale(+1) == 1


def test_first_generation_that_breaks_halts() -> None:
    rollout = Rollout()
    rollout.begin(generation(1, 3))
    rollout.abort()
    assert rollout.stage is Stage.HALTED
    assert rollout.workers == 0


def test_next_generation_has_to_prove_itself() -> None:
    rollout = started()
    rollout.begin(generation(2, 6))
    assert rollout.base == generation(1, 4)
    assert rollout.on_trial == generation(2, 6)
    assert rollout.workers == 4
    assert not rollout.first_ready(20.0)
    assert rollout.settles_at == 20.0 + PROBATION_S
    assert not rollout.settle(20.0 + PROBATION_S / 2)
    assert rollout.settle(20.0 + PROBATION_S)
    assert rollout.serving == generation(2, 6)
    assert rollout.workers == 6
    assert rollout.settles_at == math.inf


@pytest.mark.parametrize("ready", [False, True])
def test_broken_generation_changes_nothing(ready: bool) -> None:
    rollout = started()
    rollout.scale(+1)
    rollout.begin(generation(2, 6))
    if ready:
        rollout.first_ready(20.0)
    rollout.abort()
    assert (rollout.serving, rollout.on_trial, rollout.workers) == (generation(1, 4), None, 5)
    assert not rollout.wanted(2)
    rollout.begin(generation(3, 6))
    assert rollout.wanted(3)


def test_newer_generation_supersedes_the_one_on_trial() -> None:
    rollout = started()
    rollout.begin(generation(2, 4))
    assert rollout.begin(generation(3, 4)) == generation(2, 4)
    assert [rollout.wanted(number) for number in (1, 2, 3)] == [True, False, True]
    rollout.first_ready(20.0)
    assert rollout.begin(generation(4, 4)) == generation(3, 4)
    assert rollout.stage is Stage.TRIAL


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("step", Step)
def test_unlisted_pairs_raise(stage: Stage, step: Step) -> None:
    rollout = Rollout()
    rollout.stage = stage
    if (stage, step) not in STAGES:
        with pytest.raises(LookupError, match="impossible"):
            rollout._step(step)
    else:
        rollout._step(step)
        assert rollout.stage is STAGES[stage, step]


def test_scaling_stays_above_zero() -> None:
    rollout = started(2)
    assert [rollout.scale(by) for by in (+1, -1, -1, -1, -1, +1)] == [3, 2, 1, 1, 1, 2]


def test_retired_workers_come_back_one_by_one_or_with_a_reload() -> None:
    rollout = started(3)
    rollout.retire_all()
    assert rollout.workers == 0
    assert rollout.scale(-1) == 0
    assert rollout.scale(+1) == 1
    rollout.retire_all()
    rollout.begin(generation(2, 3))
    rollout.first_ready(20.0)
    rollout.settle(30.0)
    assert rollout.workers == 3


@pytest.mark.parametrize("when", ["before the reload", "while it is under way"])
def test_retired_workers_are_brought_back_all_at_once(when: str) -> None:
    rollout = started(3)
    rollout.scale(+1)
    rollout.retire_all()
    if when == "while it is under way":
        rollout.begin(generation(2, 3))
    assert rollout.resume() == rollout.workers == 4
    if when == "before the reload":
        rollout.begin(generation(2, 3))
    rollout.first_ready(20.0)
    rollout.settle(30.0)
    assert rollout.workers == 3


def test_workers_that_retire_during_a_reload_stay_retired() -> None:
    rollout = started(3)
    rollout.begin(generation(2, 5))
    rollout.retire_all()
    rollout.first_ready(20.0)
    rollout.settle(30.0)
    assert rollout.workers == 0
    assert rollout.resume() == 5


def test_a_reload_resets_what_was_scaled_before_and_keeps_what_was_scaled_since() -> None:
    rollout = started(4)
    rollout.scale(+1)
    rollout.scale(+1)
    rollout.begin(generation(2, 4))
    rollout.scale(-1)
    assert rollout.workers == 5
    rollout.first_ready(20.0)
    rollout.settle(30.0)
    assert rollout.workers == 3


@pytest.mark.parametrize(
    ("surge", "least", "batch"),
    [(Portion(3), 0, 3), (Portion(0), 3, 0), (Portion(50, percent=True), 2, 2), (Portion(0), 0, 1)],
)
def test_batch_is_what_the_settings_say(surge: Portion, least: int, batch: int) -> None:
    rollout = Rollout()
    rollout.begin(generation(1, 4, surge=surge, min_ready=least))
    assert rollout.batch == batch
    assert rollout.least_ready == (least or 4)


def test_scaling_down_leaves_a_way_to_replace_the_last_workers() -> None:
    rollout = Rollout()
    rollout.begin(generation(1, 4, surge=Portion(0), min_ready=3))
    rollout.first_ready(10.0)
    assert (rollout.least_ready, rollout.batch) == (3, 0)
    rollout.scale(-1)
    assert (rollout.least_ready, rollout.batch) == (3, 1)
    rollout.scale(-1)
    assert (rollout.least_ready, rollout.batch) == (2, 1)


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3), (64, 16)])
def test_batch_is_a_quarter(workers: int, batch: int) -> None:
    assert started(workers).batch == batch


@pytest.mark.parametrize(
    ("before", "new", "wanted"),
    [
        (7, (2, 16), 7),
        (7, (2, 4), 4),
        # A range that begins higher; a server that was scaled below its range; one that says nothing.
        (7, (9, 16), 9),
        (1, (2, 16), 2),
        (0, (2, 16), 2),
        # The settings have one number, which is what counts.
        (7, (2, 0), 2),
    ],
)
def test_the_first_generation_after_another_server(before: int, new: tuple[int, int], wanted: int) -> None:
    rollout = Rollout()
    rollout.begin(generation(1, new[0], most=new[1]))
    rollout.inherit(before)
    assert rollout.workers == wanted
    rollout.first_ready(10.0)
    assert rollout.workers == wanted
    rollout.retire_all()
    assert (rollout.workers, rollout.workers_unless_retired) == (0, wanted)


def test_a_range_bounds_what_may_be_wanted() -> None:
    rollout = Rollout()
    rollout.begin(generation(1, 2, most=4))
    rollout.first_ready(10.0)
    assert (rollout.workers, rollout.most) == (2, 4)
    assert [rollout.scale(+1) for _ in range(3)] == [3, 4, 4]
    assert rollout.scale(-9) == 1


@pytest.mark.parametrize(
    ("old", "present", "new", "wanted"),
    [
        # The load is as before the reload, and so is the number.
        ((2, 16), 8, (2, 16), 8),
        ((2, 16), 8, (2, 4), 4),
        ((2, 16), 3, (6, 16), 6),
        ((4, 0), 8, (2, 16), 8),
        # A number alone is what is wanted.
        ((2, 16), 8, (3, 0), 3),
        ((4, 0), 8, (3, 0), 3),
    ],
)
def test_how_many_a_reload_leaves(old: tuple[int, int], present: int, new: tuple[int, int], wanted: int) -> None:
    rollout = Rollout()
    rollout.begin(generation(1, old[0], most=old[1]))
    rollout.first_ready(10.0)
    rollout.scale(present - rollout.workers)
    rollout.begin(generation(2, new[0], most=new[1]))
    rollout.first_ready(20.0)
    assert rollout.workers == present
    rollout.settle(20.0 + PROBATION_S)
    assert rollout.workers == wanted
