"""How a server is doing, read from its pool."""

import pytest

from tests.arbiter.plan.generations import generation
from wsgicluster.arbiter.plan.child import Child, End, Input
from wsgicluster.arbiter.plan.orders import Stopping
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.arbiter.plan.status import ServiceStatus, status_of

READY = ServiceStatus(ready=2, wanted=2, generation=1, enough=True)


def booting(pool: Pool, key: int, slot: int, number: int) -> Child:
    """A worker that has been forked."""
    child = Child(key, slot, number, forked_at=0.0, pid=100 + key)
    child.take(Input.STARTED)
    pool.add(child)
    return child


def test_how_a_pool_stands() -> None:
    pool = Pool()
    pool.reload(generation(1, 2))
    first, second = booting(pool, 1, 1, 1), booting(pool, 2, 2, 1)
    assert status_of(pool, 0.0) == ServiceStatus(ready=0, wanted=2, generation=0, enough=False, on_trial=True)
    pool.ready(first, 1.0)
    assert status_of(pool, 1.0) == ServiceStatus(ready=1, wanted=2, generation=1, enough=False)
    pool.ready(second, 1.0)
    assert status_of(pool, 1.0) == READY


@pytest.mark.parametrize(("min_ready", "enough_at"), [(1, 1), (2, 2), (5, 2)])
def test_how_many_are_enough(min_ready: int, enough_at: int) -> None:
    """More than there will ever be are not waited for."""
    pool = Pool()
    pool.reload(generation(1, 2, min_ready=min_ready))
    children = [booting(pool, 1, 1, 1), booting(pool, 2, 2, 1)]
    enough = []
    for child in children:
        pool.ready(child, 1.0)
        enough.append(status_of(pool, 1.0).enough)
    assert enough.index(True) + 1 == enough_at


def test_how_a_pool_stands_during_a_reload() -> None:
    pool = Pool()
    pool.reload(generation(1, 1))
    old = booting(pool, 1, 1, 1)
    pool.ready(old, 1.0)
    pool.reload(generation(2, 1))
    new = booting(pool, 2, 1, 2)
    assert status_of(pool, 2.0).rolling
    pool.ready(new, 2.0)
    pool.rollout.settle(3.0)
    assert status_of(pool, 3.0).rolling  # the old one is still there
    old.take(Input.STOP_WANTED)
    assert status_of(pool, 3.0) == ServiceStatus(ready=1, wanted=1, generation=2, enough=True)
    pool.stop(Stopping.GRACEFUL)
    assert status_of(pool, 3.0).stopping
    assert not status_of(pool, 3.0).serving
    assert not status_of(pool, 3.0).is_over
    for child in list(pool.children.values()):
        pool.exited(child, End.ASKED, 3.0)
    assert status_of(pool, 3.0).is_over


def test_a_reload_that_is_aborted_is_over() -> None:
    pool = Pool()
    pool.reload(generation(1, 1))
    pool.ready(booting(pool, 1, 1, 1), 1.0)
    pool.reload(generation(2, 1))
    pool.cannot_boot(booting(pool, 2, 1, 2), 2.0)
    assert status_of(pool, 2.0) == ServiceStatus(ready=1, wanted=1, generation=1, enough=True)
