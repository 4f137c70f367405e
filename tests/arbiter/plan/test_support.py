"""When the steward and the jobs worker are started and stopped, by plain values."""

import dataclasses

from wsgicluster.arbiter.plan.child import Ask, Child, End, Input, Role
from wsgicluster.arbiter.plan.orders import Spawn, Stop, Stopping
from wsgicluster.arbiter.plan.planner import Planner
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.arbiter.plan.rollout import Generation
from wsgicluster.arbiter.plan.support import SupportPlan, wants
from wsgicluster.settings import Settings, TcpAddress

BARE = Settings(wsgi_app="app", workers=1)
BOTH = Generation(1, dataclasses.replace(BARE, jobs_worker=True), (), object())


def child(role: Role, key: int = 1, generation: int = 1, *, ready: bool = True) -> Child:
    made = Child(key, 0, generation, 0.0, role)
    made.take(Input.STARTED)
    made.pid = 100 + key
    if ready:
        made.take(Input.READY)
        made.ready_at = 0.0
    return made


def test_they_exist_only_where_they_are_used() -> None:
    def wanted(**changes: object) -> list[bool]:
        settings = dataclasses.replace(BARE, **changes)  # type: ignore[arg-type]
        return [wants(Generation(1, settings), role) for role in (Role.STEWARD, Role.JOBS)]

    assert wanted() == [False, False]
    assert wanted(jobs_worker=True) == [False, True]
    assert wanted(event_webhook="http://h/") == [True, False]
    assert wanted(event_exec="true") == [True, False]
    assert SupportPlan().missing(Generation(1, BARE), [], 0.0) == []
    assert SupportPlan().missing(None, [], 0.0) == []


def test_each_once_and_the_next_one_after_the_last_has_exited() -> None:
    plan = SupportPlan()
    assert plan.missing(BOTH, [], 0.0) == [Role.JOBS, Role.STEWARD]
    old = [child(Role.JOBS), child(Role.STEWARD, 2)]
    newer = dataclasses.replace(BOTH, number=2)
    assert plan.superfluous(BOTH, old) == []
    assert plan.superfluous(newer, old) == old
    assert plan.missing(newer, old, 0.0) == []
    old[0].recycle = End.RECYCLED_MEMORY
    assert plan.superfluous(BOTH, old) == [old[0]]


def test_one_that_crashes_at_once_backs_off() -> None:
    plan = SupportPlan()
    broken = child(Role.STEWARD, ready=False)
    waits = [plan.ended(broken, 10.0).wait_s for _ in range(4)]
    assert waits == [0.0, 0.5, 1.0, 2.0]
    assert plan.missing(BOTH, [], 11.0) == [Role.JOBS]
    assert plan.next_due(11.0) == 12.0
    assert plan.missing(BOTH, [], 12.0) == [Role.JOBS, Role.STEWARD]


def test_the_steward_is_the_last_to_stop() -> None:
    pool = Pool()
    planner = Planner(pool)
    pool.reload(BOTH)
    worker, jobs, steward = child(Role.WORKER), child(Role.JOBS, 2), child(Role.STEWARD, 3)
    worker.slot = 1
    for each in (worker, jobs, steward):
        pool.add(each)
    pool.stop(Stopping.GRACEFUL)
    stops = [order for order in planner.plan(1.0) if isinstance(order, Stop)]
    assert [(order.key, order.ask) for order in stops] == [(1, Ask.DRAIN), (2, Ask.DRAIN)]
    for each in (worker, jobs):
        pool.asked(each, Ask.DRAIN, 1.0, 30.0)
    assert not planner.plan(1.1), "they have time to finish, however often the arbiter looks"
    for each in (worker, jobs):
        pool.remove(each)
    assert [order.key for order in planner.plan(1.0) if isinstance(order, Stop)] == [3]


def test_the_admin_worker_stops_when_only_the_steward_is_left() -> None:
    pool = Pool()
    planner = Planner(pool)
    pool.reload(dataclasses.replace(BOTH, settings=dataclasses.replace(BARE, admin=TcpAddress("127.0.0.1", 1))))
    worker, admin, steward = child(Role.WORKER), child(Role.ADMIN, 2), child(Role.STEWARD, 3)
    worker.slot = 1
    for each in (worker, admin, steward):
        pool.add(each)
    pool.stop(Stopping.GRACEFUL)
    assert [order.key for order in planner.plan(1.0) if isinstance(order, Stop)] == [1]
    pool.remove(worker)
    assert [order.key for order in planner.plan(1.0) if isinstance(order, Stop)] == [2]
    pool.remove(admin)
    assert [order.key for order in planner.plan(1.0) if isinstance(order, Stop)] == [3]


def test_of_two_servers_at_one_address_one_has_an_admin_worker() -> None:
    plan = SupportPlan()
    generation = Generation(1, dataclasses.replace(BARE, admin=TcpAddress("127.0.0.1", 1)))
    assert plan.missing(generation, [], 0.0) == [Role.ADMIN]
    present = [child(Role.ADMIN)]
    assert plan.superfluous(generation, present) == []
    plan.admin_elsewhere = True
    assert plan.missing(generation, [], 0.0) == []
    assert plan.superfluous(generation, present) == present


def test_their_end_aborts_no_generation() -> None:
    pool = Pool()
    planner = Planner(pool)
    pool.reload(BOTH)
    steward = child(Role.STEWARD, ready=False)
    pool.add(steward)
    pool.exited(steward, End.CRASHED, 1.0)
    assert not pool.stopping
    assert [order for order in planner.plan(2.0) if isinstance(order, Spawn) and order.role is Role.STEWARD]
