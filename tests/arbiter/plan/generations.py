"""Generations for tests of what decides about them."""

from wsgicluster.arbiter.plan.rollout import Generation
from wsgicluster.settings import Settings
from wsgicluster.settings.types.rollout import ALL_WORKERS, QUARTER
from wsgicluster.settings.types.values import Portion, WorkerRange


def generation(
    number: int,
    workers: int,
    *,
    preload: bool = False,
    surge: Portion = QUARTER,
    min_ready: int = ALL_WORKERS,
    smoke: bool = False,
    most: int = 0,
) -> Generation:
    """A generation of so many workers, or up to ``most``; with ``smoke`` its first one has something to try."""
    settings = Settings(
        workers=WorkerRange(workers, most) if most else workers,
        preload_app=preload,
        reload_surge=surge,
        min_ready=min_ready,
        smoke=("/",) if smoke else (),
    )
    return Generation(number, settings)
