"""How many of the workers that are wanted serve, and for how long they have. Pure questions about a pool."""

import math

from wsgicluster.arbiter.plan.backoff import QUICK_DEATH_S
from wsgicluster.arbiter.plan.child import Child
from wsgicluster.arbiter.plan.pool import Pool


def ready_slots(pool: Pool) -> int:
    """How many of the wanted slots have a worker that serves."""
    slots = pool.rollout.slots
    return len({c.slot for c in pool.workers() if c.ready and c.slot in slots})


def oldest(pool: Pool) -> Child | None:
    """Of the workers that serve in wanted slots, the one that was started first; None where there is none."""
    slots = pool.rollout.slots
    serving = [c for c in pool.workers() if c.ready and not c.asked and c.slot in slots]
    return min(serving, key=lambda child: (child.forked_at, child.key), default=None)


def enough(pool: Pool) -> bool:
    """Do as many workers serve as are needed to call that a server?"""
    return pool.rollout.serving is not None and ready_slots(pool) >= pool.rollout.least_ready


def whole(pool: Pool) -> bool:
    """Is every wanted worker there, and of the generation that serves?"""
    serving = pool.rollout.serving
    if serving is None or pool.rollout.trial is not None:
        return False
    current = {c.slot for c in pool.workers() if c.ready and c.generation == serving.number}
    return current.issuperset(pool.rollout.slots)


def proven_at(pool: Pool) -> float:
    """When the youngest worker that serves has lived long enough not to die quickly any more.

    Infinite while one serves on that is to be replaced: its successors may be those that die.
    """
    ready = [child for child in pool.workers() if child.ready]
    if any(child.recycle for child in ready):
        return math.inf
    return max((child.ready_at or 0.0 for child in ready), default=0.0) + QUICK_DEATH_S
