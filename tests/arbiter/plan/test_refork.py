"""When the workers of a generation are forked anew: every pair of stage and step, and who is chosen."""

import pytest

from wsgicluster.arbiter.plan.refork import MOST_ATTEMPTS, STAGES, Refork, ReforkStage, ReforkStep, WorkerLoad, choose


@pytest.mark.parametrize("stage", ReforkStage)
@pytest.mark.parametrize("step", ReforkStep)
def test_every_pair_moves_or_raises(stage: ReforkStage, step: ReforkStep) -> None:
    refork = Refork(1)
    refork.stage = stage
    if (stage, step) in STAGES:
        refork.take(step)
        assert refork.stage is STAGES[stage, step]
    else:
        with pytest.raises(LookupError, match="impossible"):
            refork.take(step)
        assert refork.stage is stage


def test_what_is_lost_is_tried_again_but_not_for_ever() -> None:
    refork = Refork(1)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        refork.mold = 99
        refork.ask(attempt, 10.0)
        assert (refork.source, refork.mold, refork.asked_at) == (attempt, 0, 10.0)
        refork.take(ReforkStep.ACCEPT)
        assert refork.lose() is (attempt < MOST_ATTEMPTS)
    assert refork.stage is ReforkStage.ENDED


@pytest.mark.parametrize(
    ("workers", "chosen"),
    [
        ([], 0),
        ([WorkerLoad(1, 99, True), WorkerLoad(2, 98, True)], 0),
        ([WorkerLoad(1, 100, False), WorkerLoad(2, 99, True)], 0),
        ([WorkerLoad(1, 100, True), WorkerLoad(2, 300, True), WorkerLoad(3, 900, False)], 2),
    ],
)
def test_the_idle_worker_that_has_served_most(workers: list[WorkerLoad], chosen: int) -> None:
    assert choose(workers, 100) == chosen
