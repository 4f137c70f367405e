"""Workers that follow their load, with workers that are records: a test sets what stands on their pages."""

import math
import pathlib
import signal
from collections.abc import Iterator

import pytest

from tests.arbiter.supervised import Supervised, settings, supervised
from wsgicluster.arbiter.plan.autoscaling import LOOK_S, LOOKS
from wsgicluster.arbiter.plan.rollout import PROBATION_S
from wsgicluster.arbiter.supervision.autoscaler import threads_of
from wsgicluster.ipc.events import Event, ScaleEvent
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.settings.types.values import WorkerRange


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[Supervised]:
    with supervised(tmp_path) as made:
        yield made


def started(world: Supervised, least: int = 2, most: int = 8, **wanted: object) -> list[Event]:
    """With the least number of workers ready; returns the events from then on."""
    found: list[Event] = []
    values: dict[str, object] = {"worker_idle_timeout": 10.0, "timeout": 0.0, **wanted}
    world.supervisor.reload(settings(workers=WorkerRange(least, most), **values), ())
    world.turn()
    world.ready()
    assert world.supervisor.status().ready == least
    world.supervisor.events.observers.append(found.append)
    return found


def live(world: Supervised, seconds: float, share: float) -> None:
    """Let each worker be busy for this share of its time; those that are started and stopped are so at once."""
    until = world.hands.now + seconds
    while world.hands.now < until:
        passed_s = min(LOOK_S, until - world.hands.now)
        for link in world.living:
            if link.child.ready:
                link.page.cells[Cell.RESPONSES + 2] += 10
                link.page.cells[Cell.DURATION_NS] += int(passed_s * share * 1e9)
        world.turn(passed_s)
        world.ready()
        for link in world.living:
            if signal.SIGTERM in link.sent:
                world.exit(link)
        world.turn()


def wanted(world: Supervised) -> int:
    return world.supervisor.status().wanted


def test_up_with_the_load_and_down_without(world: Supervised) -> None:
    events = started(world)
    live(world, 30.0, 0.5)
    assert wanted(world) == 2
    live(world, 10.0, 1.0)
    assert wanted(world) == 8
    assert world.supervisor.status().ready == 8
    live(world, 9.0, 0.05)
    assert wanted(world) == 8
    live(world, 10.0, 0.05)
    assert wanted(world) == 2
    steps = [each for each in events if isinstance(each, ScaleEvent)]
    assert [(each.before, each.workers) for each in steps] == [(2, 4), (4, 8), *((n, n - 1) for n in range(8, 2, -1))]
    assert {each.by for each in steps} == {"autoscaling"}
    assert [each.reason for each in steps[:2]] == ["busy: 100 % of 2 workers' time", "busy: 100 % of 4 workers' time"]
    assert "Autoscaling: 2 -> 4 workers, busy: 100 % of 2 workers' time" in world.lines
    assert "Autoscaling: 8 -> 7 workers, idle: at most 5 % of 8 workers' time in 10 s" in world.lines
    counted = world.supervisor.observation.events_counted()["scalings"]
    assert counted == {"up": {"busy": 2, "queue": 0, "wait": 0, "requested": 0}, "down": {"idle": 6, "requested": 0}}


def test_processor_time_counts_as_well(world: Supervised) -> None:
    """Of tiny requests most of the time is the server's own."""
    started(world)
    for _ in range(10):
        for link in world.living:
            link.taken_s += LOOK_S
        live(world, LOOK_S, 0.3)
    assert wanted(world) > 2


def test_without_a_range_the_arbiter_is_not_woken(world: Supervised) -> None:
    world.supervisor.reload(settings(workers=2, timeout=0.0), ())
    world.turn()
    world.ready()
    assert world.supervisor.next_due() == math.inf
    live(world, 20.0, 1.0)
    assert wanted(world) == 2
    assert world.supervisor.next_due() == math.inf


def test_with_one_it_is_once_a_second(world: Supervised) -> None:
    started(world)
    turns, until = 0, world.hands.now + 60.0
    while world.hands.now < until:
        world.hands.now = max(world.hands.now, world.supervisor.next_due())
        world.turn()
        turns += 1
    assert turns <= 61
    world.supervisor.reload(settings(workers=2, timeout=0.0), ())
    world.turn()
    world.ready()
    world.turn(PROBATION_S)
    live(world, 5.0, 0.0)
    assert world.supervisor.next_due() == math.inf


def test_what_an_operator_asks_for_holds_until_the_next_decision(world: Supervised) -> None:
    events = started(world)
    live(world, 8.0, 0.1)
    assert world.supervisor.scale_to(6) == 6
    live(world, 9.0, 0.1)
    assert wanted(world) == 6
    live(world, 8.0, 0.1)
    assert wanted(world) < 6
    assert world.supervisor.scale(+9) == 8, "not beyond the range"
    assert next(each.by for each in events if isinstance(each, ScaleEvent)) == "operator"
    assert world.supervisor.observation.events_counted()["scalings"]["up"]["requested"] == 2


def test_no_worker_is_added_that_memory_has_no_room_for(world: Supervised) -> None:
    started(world)
    for link in world.living:
        link.page.cells[Cell.RESIDENT] = 1 << 60
    live(world, 10.0, 1.0)
    assert wanted(world) == 2
    (line,) = [line for line in world.lines if "no worker is added" in line]
    assert line.startswith("Autoscaling: no worker is added (busy: 100 % of 2 workers' time): ")
    assert line.endswith(" MiB of memory are available, the largest worker has 1099511627776 MiB")
    for link in world.living:
        link.page.cells[Cell.RESIDENT] = 1
    live(world, 1.0, 1.0)
    assert wanted(world) == 4


def test_a_server_that_takes_over_starts_with_as_many_as_memory_has_room_for(world: Supervised) -> None:
    started(world)
    world.supervisor.inherit_workers(7)
    assert (wanted(world), world.supervisor.workers_beside) == (7, 7)
    world.supervisor.retire()
    assert world.supervisor.workers_beside == 7, "those that have retired are still needed there"
    world.living[0].page.cells[Cell.RESIDENT] = 1 << 60
    assert world.supervisor.workers_beside == 0, "it starts with the lower bound, and follows the load"


def test_no_worker_is_added_while_other_code_is_tried(world: Supervised) -> None:
    started(world, reload_probation=30.0)
    world.supervisor.reload(settings(workers=WorkerRange(2, 8), timeout=0.0, reload_probation=30.0), ())
    world.turn()
    live(world, 20.0, 1.0)
    assert world.supervisor.status().on_trial
    assert wanted(world) == 2
    live(world, 30.0, 1.0)
    assert not world.supervisor.status().on_trial
    assert wanted(world) == 8


def test_retired_workers_stay_so(world: Supervised) -> None:
    started(world)
    world.supervisor.retire()
    live(world, 30.0, 1.0)
    assert wanted(world) == 0
    world.supervisor.resume()
    live(world, LOOKS * LOOK_S + 2, 1.0)
    assert wanted(world) == 4


def test_what_stands_on_a_page_may_be_anything(world: Supervised) -> None:
    started(world)
    for link in world.living:
        for cell in (Cell.DURATION_NS, Cell.QUEUE_NS, Cell.RESPONSES, Cell.RUNNING, Cell.RESIDENT):
            link.page.cells[cell] = (1 << 64) - 1
        link.page.floats[Cell.STARTED] = math.nan
    live(world, 5.0, 0.0)
    for link in world.living:
        for cell in (Cell.DURATION_NS, Cell.QUEUE_NS, Cell.RESPONSES, Cell.RUNNING, Cell.RESIDENT):
            link.page.cells[cell] = 0
        link.page.floats[Cell.STARTED] = math.inf
    live(world, 5.0, 0.0)
    assert 2 <= wanted(world) <= 8


@pytest.mark.parametrize(
    ("worker_class", "threads", "at_a_time"), [("sync", 1, 1), ("gthread", 4, 4), ("gevent", 1, 0), (dict, 3, 3)]
)
def test_how_many_requests_a_worker_runs_at_a_time(worker_class: object, threads: int, at_a_time: int) -> None:
    assert threads_of(settings(worker_class=worker_class, threads=threads)) == at_a_time
