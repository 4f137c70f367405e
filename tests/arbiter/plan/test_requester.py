"""Who is named for the stop of a worker."""

import dataclasses

from tests.arbiter.plan.generations import generation
from tests.arbiter.plan.test_pool import World
from wsgicluster.arbiter.plan.child import Child, End
from wsgicluster.arbiter.plan.orders import Stopping
from wsgicluster.arbiter.plan.pool import Verdict
from wsgicluster.arbiter.plan.requester import APPLICATION, ARBITER, OPERATOR, STEWARD
from wsgicluster.arbiter.plan.rollout import PROBATION_S


def by_of(world: World, slot: int, generation: int = 1, recycle: End | None = None) -> str:
    """Who is named for the stop of such a worker."""
    return world.pool.stop_requested_by(Child(99, slot, generation, world.now, recycle=recycle))


def test_a_worker_of_an_old_generation_stops_for_who_has_requested_the_new_one() -> None:
    world = World(2)
    for child in world.pool.workers():
        world.ready(child)
    for by in (STEWARD, OPERATOR):
        number = world.serving + 1
        world.pool.reload(dataclasses.replace(generation(number, 2), by=by))
        assert by_of(world, 1, number - 1) == by, "it makes room for the generation on trial"
        assert by_of(world, 3, number - 1) == OPERATOR, "the number of workers has not changed for that"
        world.turn()
        world.ready(world.pool.workers()[-1])
        world.turn(PROBATION_S)
        assert (world.serving, by_of(world, 1, number - 1), by_of(world, 3, number - 1)) == (number, by, by)


def test_a_worker_of_an_aborted_generation_stops_for_the_arbiter() -> None:
    world = World(1)
    world.ready(world.pool.workers()[0])
    world.pool.reload(dataclasses.replace(generation(2, 1), by=STEWARD))
    world.turn()
    assert world.die(world.pool.workers()[-1]) is Verdict.ABORT
    assert by_of(world, 1, 2) == ARBITER
    assert world.pool.rollout.aborted is not None
    assert world.pool.rollout.aborted.by == STEWARD


def test_a_worker_too_many_stops_for_who_has_scaled() -> None:
    world = World(2)
    for child in world.pool.workers():
        world.ready(child)
    assert by_of(world, 3) == OPERATOR
    world.pool.rollout.scale(-1, STEWARD)
    assert by_of(world, 2) == STEWARD
    world.pool.rollout.retire_all()
    assert by_of(world, 2) == OPERATOR


def test_a_recycled_worker_stops_for_the_application_or_the_arbiter() -> None:
    world = World(1)
    assert by_of(world, 1, recycle=End.RECYCLED_APPLICATION) == APPLICATION
    assert by_of(world, 1, recycle=End.RECYCLED_MEMORY) == ARBITER
    world.pool.stop(Stopping.GRACEFUL)
    assert by_of(world, 1, recycle=End.RECYCLED_CHANNEL) == ARBITER, "as its reason says"


def test_all_stop_for_who_has_stopped_the_server_first_so_fast() -> None:
    world = World(1)
    world.pool.stop(Stopping.QUICK, ARBITER)
    world.pool.stop(Stopping.GRACEFUL)
    assert by_of(world, 1) == ARBITER
    world.pool.stop(Stopping.FORCED)
    assert by_of(world, 1) == OPERATOR
