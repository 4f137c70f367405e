"""A new generation on probation, with workers that are records: a test sets what stands on their pages."""

import pathlib
import signal
from collections.abc import Iterator

import pytest

from tests.arbiter.supervised import RecordedLink, Supervised, settings, supervised
from wsgicluster.arbiter.plan.orders import Stopping
from wsgicluster.arbiter.plan.requester import ReloadRequest
from wsgicluster.arbiter.plan.rollout import PROBATION_S, Result
from wsgicluster.ipc.messages import RequestFailed, ShareConnections
from wsgicluster.ipc.scoreboard import HISTOGRAM_BOUNDS_S, Cell
from wsgicluster.ipc.slot_totals import RESPONSE_KEYS

OK, FAILED = RESPONSE_KEYS.index("2xx"), RESPONSE_KEYS.index("5xx")


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[Supervised]:
    with supervised(tmp_path) as made:
        yield made


def serve(link: RecordedLink, requests: int, failed: int = 0, ms: int = 10) -> None:
    """A worker has served so many more requests, each in so many milliseconds."""
    cells = link.page.cells
    cells[Cell.RESPONSES + OK] += requests - failed
    cells[Cell.RESPONSES + FAILED] += failed
    cells[Cell.FAILED] += failed
    cells[Cell.APPLICATION_NS] += requests * ms * 1_000_000
    cells[Cell.APPLICATION_HISTOGRAM + HISTOGRAM_BOUNDS_S.index(ms / 1e3)] += requests


def on_probation(world: Supervised, canary_s: float = 0.0, **wanted: object) -> tuple[RecordedLink, ...]:
    """Two old workers and a new one, which is ready; what they had served before does not count."""
    supervisor = world.supervisor
    supervisor.reload(settings(workers=2, **wanted), ())
    world.turn()
    world.ready()
    for link in world.living:
        serve(link, 1000, failed=1000)
    supervisor.reload(settings(workers=2, **wanted), (), wanted=ReloadRequest(canary_s=canary_s))
    world.turn()
    world.ready()
    old, other, new = world.living
    assert new.child.generation == 2
    return old, other, new


def outcome(world: Supervised) -> Result | None:
    last = world.supervisor.status().last
    return last.result if last is not None else None


def advance(world: Supervised, seconds: float) -> None:
    """Let time pass as the arbiter's loop does."""
    until = world.hands.now + seconds
    while world.hands.now < until:
        world.hands.now = min(until, max(world.hands.now, world.supervisor.next_due()))
        world.turn()


@pytest.mark.parametrize("how", ["setting", "request"])
def test_more_failures_abort_the_reload_at_once(world: Supervised, how: str) -> None:
    if how == "setting":
        old, other, new = on_probation(world, reload_probation=30.0)
    else:
        old, other, new = on_probation(world, canary_s=30.0)
    world.say(new, RequestFailed("GET / HTTP/1.1: KeyError: 'user'", "Traceback ...\nKeyError: 'user'\n"))
    world.say(new, RequestFailed("a later one", "a later one"))
    world.say(old, RequestFailed("of an old worker", "of an old worker"))
    serve(old, 100)
    serve(other, 100, failed=1)
    serve(new, 61, failed=12)
    advance(world, 1.0)
    last = world.supervisor.status().last
    assert last is not None
    why = "12 of 61 requests failed (19.7 %), against 1 of 200 requests failed (0.5 %) in the old workers"
    assert (last.number, last.result, last.reason) == (2, Result.ABORTED, f"on probation {why}")
    assert last.trace == "Traceback ...\nKeyError: 'user'\n"
    line = f"Reload aborted: generation 2 did worse on probation: {why}; generation 1 keeps serving"
    assert line in world.lines
    assert "The first exception of generation 2:" in world.lines
    # It may finish what it has begun; the others notice nothing.
    assert (old.sent, other.sent, new.sent) == ([], [], [signal.SIGTERM])
    world.exit(new)
    advance(world, 60.0)
    assert len(world.living) == 2
    # The next reload has nothing of it.
    world.supervisor.reload(settings(workers=2, reload_probation=30.0), ())
    world.turn()
    world.ready()
    newest = world.living[-1]
    serve(newest, 61, failed=12)
    advance(world, 1.0)
    last = world.supervisor.status().last
    assert last is not None
    assert (last.number, last.result, last.trace) == (3, Result.ABORTED, "")


def test_slower_requests_abort_the_reload(world: Supervised) -> None:
    old, _, new = on_probation(world, reload_probation=30.0)
    serve(old, 200)
    serve(new, 30, ms=50)
    advance(world, 29.0)
    assert outcome(world) is Result.UNDER_WAY
    advance(world, 1.5)
    assert outcome(world) is Result.ABORTED
    assert "30 requests took 50 ms on the average, against 10 ms for 200 in the old workers" in world.lines[-1]
    assert new.sent == [signal.SIGTERM]


def test_a_good_generation_takes_over_at_the_end(world: Supervised) -> None:
    old, other, new = on_probation(world, reload_probation=30.0)
    serve(old, 200, failed=2)
    serve(new, 60)
    advance(world, 29.5)
    assert outcome(world) is Result.UNDER_WAY
    assert (old.sent, other.sent, new.sent) == ([], [], [])
    advance(world, 1.0)
    assert outcome(world) is Result.TOOK_OVER
    assert world.lines[-2:] == [
        (
            "Generation 2 after 30 s of probation: 0 of 60 requests failed (0.0 %), 10 ms on the average; "
            "the old workers: 2 of 200 requests failed (1.0 %), 10 ms on the average"
        ),
        "Generation 2 is healthy and now serving",
    ]


def test_too_few_requests_abort_nothing(world: Supervised) -> None:
    _, _, new = on_probation(world, reload_probation=30.0)
    serve(new, 19, failed=19)
    advance(world, 31.0)
    assert outcome(world) is Result.TOOK_OVER
    assert (
        "Generation 2 could not be compared in 30 s of probation: only 19 requests, reload_least_requests is 20"
        in world.lines
    )


def test_requests_that_hang_abort_the_reload(world: Supervised) -> None:
    old, _, new = on_probation(world, reload_probation=20.0)
    serve(old, 200)
    serve(new, 2)
    new.page.floats[Cell.STARTED] = world.hands.now + 0.5
    advance(world, 19.0)
    assert outcome(world) is Result.UNDER_WAY
    advance(world, 1.0)
    assert outcome(world) is Result.ABORTED
    assert "a request has been running for 19.50 s, of 200 requests in the old workers none does" in world.lines[-1]


def test_a_reload_as_ever_compares_nothing(world: Supervised) -> None:
    _, _, new = on_probation(world)
    serve(new, 100, failed=100)
    advance(world, PROBATION_S)
    assert outcome(world) is Result.TOOK_OVER
    assert not any("probation" in line for line in world.lines)


def test_old_workers_that_exit_and_their_replacements_are_compared_with(world: Supervised) -> None:
    old, _, new = on_probation(world, reload_probation=30.0)
    serve(old, 50, failed=20)
    advance(world, 1.0)
    world.exit(old)
    world.turn()
    world.ready()
    replacement = world.living[-1]
    assert replacement.child.generation == 1
    serve(replacement, 50, failed=20)
    serve(new, 100, failed=40)
    advance(world, 30.0)
    assert outcome(world) is Result.TOOK_OVER
    assert "the old workers: 40 of 100 requests failed (40.0 %)" in "\n".join(world.lines)


def test_a_worker_that_dies_on_probation_aborts_the_reload(world: Supervised) -> None:
    _, _, new = on_probation(world, reload_probation=30.0)
    serve(new, 100)
    advance(world, 5.0)
    world.exit(new)
    world.turn()
    assert outcome(world) is Result.ABORTED
    advance(world, 60.0)
    assert len([line for line in world.lines if line.startswith("Reload aborted")]) == 1
    assert len(world.living) == 2


def test_a_second_reload_on_probation_begins_anew(world: Supervised) -> None:
    _, _, new = on_probation(world, reload_probation=30.0)
    serve(new, 100, failed=5)
    advance(world, 20.0)
    world.supervisor.reload(settings(workers=2, reload_probation=10.0), ())
    world.turn()
    world.ready()
    assert new.sent == [signal.SIGTERM]
    newest = world.living[-1]
    assert newest.child.generation == 3
    serve(newest, 100)
    advance(world, 9.5)
    assert outcome(world) is Result.UNDER_WAY
    advance(world, 1.0)
    assert outcome(world) is Result.TOOK_OVER
    assert world.lines[-2].startswith("Generation 3 after 10 s of probation: 0 of 100 requests failed")


def test_a_stop_on_probation_compares_no_more(world: Supervised) -> None:
    old, other, new = on_probation(world, reload_probation=30.0)
    world.supervisor.stop(Stopping.GRACEFUL)
    world.turn()
    serve(new, 100, failed=100)
    for link in (old, other, new):
        link.page.cells[Cell.STATE] = 4
    advance(world, 5.0)
    assert not any("Reload aborted" in line for line in world.lines)
    for link in (old, other, new):
        assert signal.SIGTERM in link.sent
        world.exit(link)
    assert world.supervisor.status().is_over


def test_scaling_on_probation(world: Supervised) -> None:
    _, other, new = on_probation(world, reload_probation=30.0)
    world.supervisor.scale(+1)
    world.turn()
    world.ready()
    assert sorted((link.child.slot, link.child.generation) for link in world.living) == [(1, 1), (1, 2), (2, 1), (3, 1)]
    world.supervisor.scale(-2)
    world.turn()
    assert other.sent == [signal.SIGTERM]
    serve(new, 100, failed=100)
    advance(world, 1.0)
    assert outcome(world) is Result.ABORTED
    assert world.supervisor.status().wanted == 1


def test_what_stands_on_a_page_may_be_anything(world: Supervised) -> None:
    old, _, new = on_probation(world, reload_probation=30.0)
    serve(new, 100)
    new.page.cells[Cell.APPLICATION_NS] = (1 << 64) - 1
    old.page.cells[Cell.RESPONSES + OK] = 0
    old.page.cells[Cell.FAILED] = 0
    advance(world, 31.0)
    assert outcome(world) is Result.TOOK_OVER


def test_no_look_is_due_without_a_probation(world: Supervised) -> None:
    on_probation(world, reload_probation=30.0, timeout=0.0)
    assert world.supervisor.next_due() <= world.hands.now + 0.5
    advance(world, 31.0)
    for link in world.living:
        if link.sent:
            world.exit(link)
    world.turn()
    world.ready()
    for link in world.living:
        if link.sent:
            world.exit(link)
    advance(world, 60.0)
    assert world.supervisor.next_due() > world.hands.now + 60.0


def told(link: RecordedLink) -> list[ShareConnections]:
    """What a worker has been sent about giving since this was last asked."""
    found = []
    while (message := link.theirs.receive()) is not None:
        if isinstance(message, ShareConnections):
            found.append(message)
    return found


def keep(links: tuple[RecordedLink, ...], *counts: int) -> None:
    """So many clients keep their connections to these workers."""
    for link, count in zip(links, counts, strict=True):
        link.page.cells[Cell.CONNECTIONS] = count


def test_kept_connections_are_shared_as_long_as_there_are_too_few(world: Supervised) -> None:
    old, other, new = links = on_probation(world, reload_probation=30.0)
    keep(links, 0, 6, 0)
    advance(world, 1.0)
    # The one that has the same mailbox hears of it, although it has nothing to give.
    assert old.child.slot == new.child.slot
    assert set(told(old)) == {ShareConnections(0, 1)}
    assert set(told(other)) == {ShareConnections(2, 1)}
    keep(links, 0, 4, 2)
    advance(world, 1.0)
    assert told(old) == told(other) == []
    keep(links, 20, 4, 2)
    advance(world, 1.0)
    assert set(told(old)) == {ShareConnections(6, 1)}
    assert set(told(other)) == {ShareConnections(1, 1)}
    assert told(new) == []


@pytest.mark.parametrize("end", ["good", "bad", "it dies", "a newer reload"])
def test_mail_is_taken_again_when_the_probation_ends(world: Supervised, end: str) -> None:
    old, other, new = links = on_probation(world, reload_probation=30.0)
    keep(links, 6, 6, 0)
    advance(world, 1.0)
    assert told(old)
    assert told(other)
    keep(links, 4, 4, 4)
    if end == "bad":
        serve(new, 100, failed=100)
        serve(old, 100)
    elif end == "it dies":
        world.exit(new)
    elif end == "a newer reload":
        world.supervisor.reload(settings(workers=2, reload_probation=30.0), ())
    advance(world, 30.0 if end == "good" else 1.0)
    assert told(old)[:1] == told(other)[:1] == [ShareConnections(0, 0)]


def test_where_clients_belong_to_slots_only_that_of_the_new_worker_gives(world: Supervised) -> None:
    old, other, _ = links = on_probation(world, reload_probation=30.0, scheduling="sticky")
    keep(links, 6, 6, 0)
    advance(world, 0.5)
    assert told(other) == []
    assert set(told(old)) == {ShareConnections(3, 1)}


def test_nothing_is_shared_where_nothing_is_compared(world: Supervised) -> None:
    old, other, new = links = on_probation(world)
    keep(links, 6, 6, 0)
    advance(world, PROBATION_S)
    assert outcome(world) is Result.TOOK_OVER
    assert told(old) == told(other) == told(new) == []
