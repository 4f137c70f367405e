"""Reforks as the arbiter carries them out, with children that are records."""

import math
import pathlib
from collections.abc import Iterator

import pytest

from tests.arbiter.supervised import RecordedLink, Supervised, settings, supervised
from wsgicluster.arbiter.plan.child import Child, End, Role
from wsgicluster.arbiter.plan.orders import Stopping
from wsgicluster.arbiter.plan.refork import ANSWER_S, LOOK_S, MOST_ATTEMPTS
from wsgicluster.ipc.messages import Forked, Message, PromotionAnswered, PromotionWanted, Ready
from wsgicluster.ipc.scoreboard import Cell

TERM = 15


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[Supervised]:
    with supervised(tmp_path) as made:
        yield made


def serving(world: Supervised, workers: int = 2, **wanted: object) -> list[RecordedLink]:
    """Workers that are ready."""
    world.supervisor.reload(settings(workers=workers, preload_app=True, **{"refork_after": 100, **wanted}), ())
    world.turn()
    world.ready()
    world.ready()
    return [link for link in world.living if link.child.role is Role.WORKER]


def serves(link: RecordedLink, requests: int) -> None:
    link.page.cells[Cell.REQUESTS] = requests


def asked(link: RecordedLink) -> list[Message]:
    found = []
    while (message := link.theirs.receive()) is not None:
        found.append(message)
    return found


def last(world: Supervised, role: Role) -> RecordedLink:
    return [link for link in world.living if link.child.role is role][-1]


def promoted(world: Supervised, source: RecordedLink) -> RecordedLink:
    """The mold that this worker is ordered to fork, once it was asked, and its replacement is ready."""
    assert asked(source) == [PromotionWanted()]
    world.say(source, PromotionAnswered())
    world.turn()
    for _ in range(3):  # its replacement, and before that a mold where there is none
        world.ready()
    assert source.sent == [TERM]
    mold = last(world, Role.MOLD)
    assert (mold.child.mold, mold.child.promoted, mold.child.pid) == (source.child.key, True, 0)
    return mold


def test_a_whole_refork(world: Supervised) -> None:
    first, second = serving(world)
    old = last(world, Role.MOLD)
    serves(first, 99)
    serves(second, 250)
    world.turn(LOOK_S)
    assert asked(first) == []
    mold = promoted(world, second)
    assert second.child.recycle is End.PROMOTED
    world.say(mold, Forked(mold.child.key, 4711), Ready(0.01))
    world.exit(second)
    world.turn()
    world.hands.now += 1.0  # what is forked from now on is not of the mold before
    assert "2 was forked from a worker" not in world.lines[-1]
    assert old.child.asked, "it is of no use any more"
    world.exit(old)
    for _ in range(4):
        world.ready()
        for link in world.living:
            if link.child.asked:
                world.exit(link)
    workers = [link.child for link in world.living if link.child.role is Role.WORKER]
    assert sorted(child.slot for child in workers) == [1, 2]
    assert all(child.forked_at >= mold.child.ready_at for child in workers if mold.child.ready_at is not None)
    assert world.supervisor.next_due() > world.hands.now + LOOK_S, "it does not wake the arbiter any more"


@pytest.mark.parametrize(
    ("wanted", "requests", "busy"),
    [({}, 99, False), ({}, 100, True), ({"refork_after": 0}, 1000, False)],
    ids=["too few", "busy", "off"],
)
def test_no_worker_is_asked(world: Supervised, wanted: dict[str, object], requests: int, busy: bool) -> None:
    (worker,) = serving(world, 1, **wanted)
    serves(worker, requests)
    worker.page.floats[Cell.STARTED] = 1.0 if busy else 0.0
    for _ in range(3):
        world.turn(LOOK_S)
    assert asked(worker) == []


def test_none_is_asked_while_workers_are_missing_or_code_is_on_trial(world: Supervised) -> None:
    first, second = serving(world)
    serves(first, 100)
    world.exit(second)
    world.turn(LOOK_S)
    assert asked(first) == []
    world.ready()
    world.supervisor.reload(settings(workers=2, preload_app=True, refork_after=100), ())
    world.turn(LOOK_S)
    assert asked(first) == []


def test_a_refusal_holds_until_a_reload(world: Supervised) -> None:
    (worker,) = serving(world, 1)
    serves(worker, 100)
    world.turn(LOOK_S)
    assert asked(worker) == [PromotionWanted()]
    world.say(worker, PromotionAnswered("it has other threads (poller)"))
    world.say(worker, PromotionAnswered())
    world.turn(10 * LOOK_S)
    assert asked(worker) == []
    assert "it has other threads (poller); until a reload no worker is promoted" in world.lines[-1]
    assert worker.child.recycle is None


def test_one_that_does_not_answer(world: Supervised) -> None:
    (worker,) = serving(world, 1)
    serves(worker, 100)
    world.turn(LOOK_S)
    assert world.supervisor.next_due() <= world.hands.now + ANSWER_S
    world.turn(ANSWER_S + 1)
    assert "the worker that was asked has not answered" in world.lines[-1]
    world.say(worker, PromotionAnswered())
    assert worker.child.recycle is None, "too late"


@pytest.mark.parametrize("moment", ["before the mold", "the mold"])
def test_what_is_lost_is_tried_again_but_not_for_ever(world: Supervised, moment: str) -> None:
    serving(world, 1)
    for _ in range(MOST_ATTEMPTS):
        worker = next(link for link in world.living if link.child.role is Role.WORKER and link.child.ready)
        serves(worker, 100)
        world.turn(LOOK_S)
        mold = promoted(world, worker)
        if moment == "the mold":
            world.say(mold, Forked(mold.child.key, 4711), Ready(0.0))
            world.turn()
            world.exit(mold)
        else:
            mold.theirs.close()
            world.supervisor.messages.read(mold.child.key)
        world.exit(worker)
        world.turn()
        for _ in range(4):
            world.turn(31.0)
            world.ready()
            for link in world.living:
                if link.child.asked:
                    world.exit(link)
    assert sum("Refork abandoned" in line for line in world.lines) == MOST_ATTEMPTS
    assert any("until a reload no worker is promoted" in line for line in world.lines)
    worker = next(link for link in world.living if link.child.role is Role.WORKER and link.child.ready)
    serves(worker, 100)
    world.turn(LOOK_S)
    assert asked(worker) == []


def test_a_mold_cannot_be_ordered(world: Supervised) -> None:
    (worker,) = serving(world, 1)
    serves(worker, 100)
    world.turn(LOOK_S)
    world.say(worker, PromotionAnswered())
    world.turn()
    world.children.refusal = OSError(24, "Too many open files")
    world.ready()
    assert worker.sent == [TERM]
    assert "Refork abandoned: Too many open files; another worker will be asked" in world.lines[-1]


def test_the_server_stops_first(world: Supervised) -> None:
    (worker,) = serving(world, 1)
    serves(worker, 100)
    world.turn(LOOK_S)
    world.say(worker, PromotionAnswered())
    world.turn()
    world.supervisor.stop(Stopping.GRACEFUL)
    world.turn()
    assert not [link for link in world.living if link.child.promoted]
    assert world.supervisor.next_due() < math.inf


def test_which_children_are_promoted() -> None:
    assert Child(1, 0, 1, 0.0, Role.MOLD, mold=7).promoted
    assert not Child(1, 0, 1, 0.0, Role.MOLD).promoted
    assert not Child(1, 3, 1, 0.0, Role.WORKER, mold=7).promoted
