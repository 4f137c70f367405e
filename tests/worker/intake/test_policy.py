"""What a worker takes, leaves and passes on: the rules, as tables of plain values."""

import math

import pytest

from wsgicluster.worker.intake.policy import (
    ACCEPT_S,
    ALONE_BATCH,
    CROWDED_S,
    HAND_OFF_S,
    INLINE_BATCH,
    OFFLOADED_BATCH,
    OPEN_FOR_ONE_MORE,
    QUICK_CROWDED_S,
    RULES,
    SILENT_S,
    SLOW_S,
    Accept,
    Decision,
    Defer,
    Occasion,
    PassOn,
    Serve,
    Snapshot,
    accept_until,
    batch,
    decide,
    may_over_admit,
)

NOW = 1000.0
IDLE = Snapshot(NOW)
THREADS = Snapshot(NOW, capacity=4, most_open=100)
SLOWED = THREADS._replace(running=4, oldest_s=SLOW_S)
QUICKENED = THREADS._replace(running=4, oldest_s=SLOW_S * 0.99)
NONE_RUNS = THREADS._replace(queued=4, oldest_s=NOW)
PROBED = SLOWED._replace(meets_probes=True)


def test_there_is_a_rule_for_each_occasion() -> None:
    assert {*RULES} == {*Occasion}


@pytest.mark.parametrize(
    ("snapshot", "decision"),
    [
        # One thread for everything, or as many greenlets as there are requests: there is always room.
        (IDLE._replace(batch=INLINE_BATCH), Accept(1)),
        (IDLE, Accept(OFFLOADED_BATCH)),
        (IDLE._replace(open=OPEN_FOR_ONE_MORE - 1), Accept(OFFLOADED_BATCH)),
        (IDLE._replace(open=OPEN_FOR_ONE_MORE), Accept(OFFLOADED_BATCH + 1)),
        (IDLE._replace(batch=INLINE_BATCH, open=10 * OPEN_FOR_ONE_MORE), Accept(11)),
        (IDLE._replace(running=500, queued=500), Accept(OFFLOADED_BATCH)),
        # Not more than can run at once, nor more than there may be connections.
        (THREADS, Accept(4)),
        (THREADS._replace(running=3), Accept(1)),
        (THREADS._replace(running=1, queued=1), Accept(2)),
        (THREADS._replace(open=97), Accept(3)),
        # Without room they are left to siblings for a moment.
        (SLOWED, Defer(NOW + CROWDED_S)),
        (SLOWED._replace(running=1, queued=3), Defer(NOW + CROWDED_S)),
        (SLOWED._replace(queued=9), Defer(NOW + CROWDED_S)),
        (SLOWED._replace(siblings_ready=3), Defer(NOW + CROWDED_S)),
        # After that one more may wait here, or half as many as there are requests of kept clients that wait.
        (SLOWED._replace(siblings_had_time=True), Accept(1, beyond=True)),
        (SLOWED._replace(siblings_had_time=True, over_admitted=1), Defer(NOW + CROWDED_S)),
        (SLOWED._replace(queued=6, siblings_had_time=True, over_admitted=2), Accept(1, beyond=True)),
        (SLOWED._replace(queued=6, siblings_had_time=True, over_admitted=3), Defer(NOW + CROWDED_S)),
        # Where no request is slow, or none runs yet, siblings get a shorter moment, and then as many come in as in any
        # other turn.
        (QUICKENED._replace(siblings_ready=3), Defer(NOW + QUICK_CROWDED_S)),
        (QUICKENED._replace(siblings_ready=3, siblings_had_time=True), Accept(OFFLOADED_BATCH, beyond=True)),
        (NONE_RUNS._replace(siblings_ready=3, siblings_had_time=True), Accept(OFFLOADED_BATCH, beyond=True)),
        (
            QUICKENED._replace(siblings_ready=3, siblings_had_time=True, open=2 * OPEN_FOR_ONE_MORE, over_admitted=1),
            Accept(OFFLOADED_BATCH + 1, beyond=True),
        ),
        (
            QUICKENED._replace(siblings_ready=3, siblings_had_time=True, over_admitted=OFFLOADED_BATCH),
            Defer(NOW + QUICK_CROWDED_S),
        ),
        # A worker that is alone leaves none of them to others.
        (QUICKENED, Accept(ALONE_BATCH, beyond=True)),
        (NONE_RUNS, Accept(ALONE_BATCH, beyond=True)),
        (QUICKENED._replace(over_admitted=ALONE_BATCH - 3), Accept(3, beyond=True)),
        (QUICKENED._replace(open=98), Accept(2, beyond=True)),
        (QUICKENED._replace(over_admitted=ALONE_BATCH), Defer(NOW + QUICK_CROWDED_S)),
        (QUICKENED._replace(over_admitted=ALONE_BATCH, queued=2 * ALONE_BATCH + 2), Accept(1, beyond=True)),
        # Where one of them may send a probe, it must not wait behind others for which there is no room.
        (PROBED._replace(siblings_had_time=True, over_admitted=50), Accept(1, beyond=True)),
        (PROBED, Defer(NOW + CROWDED_S)),
        (PROBED._replace(open=100, siblings_had_time=True), Defer(NOW + SILENT_S)),
        # With room that makes no difference.
        (THREADS._replace(running=2, siblings_had_time=True, over_admitted=5), Accept(2)),
        # Full: until clients have been silent for long enough to make room.
        (THREADS._replace(open=100), Defer(NOW + SILENT_S)),
        (THREADS._replace(open=101, running=4, siblings_had_time=True), Defer(NOW + SILENT_S)),
    ],
)
def test_which_new_clients_are_taken(snapshot: Snapshot, decision: Decision) -> None:
    assert decide(Occasion.CLIENTS_WAIT, snapshot) == decision


SLOW, QUICK = SLOW_S * 1.01, SLOW_S * 0.99
BUSY = THREADS._replace(running=4, siblings_ready=1, oldest_s=SLOW)


@pytest.mark.parametrize(
    ("snapshot", "decision"),
    [
        # Behind a slow request it does not wait while a sibling has room.
        (BUSY, PassOn()),
        (BUSY._replace(oldest_s=SLOW_S), PassOn()),
        # Requests that may turn out to be quick get a moment.
        (BUSY._replace(oldest_s=QUICK), Defer(NOW + SLOW_S)),
        (BUSY._replace(oldest_s=0.0), Defer(NOW + SLOW_S)),
        # A worker far beyond a limit waits for nothing.
        (BUSY._replace(oldest_s=0.0, held=True), PassOn()),
        # Without siblings there is no choice, nor for a worker that leaves: the drain passes its connections on.
        (BUSY._replace(siblings_ready=0), Serve()),
        (BUSY._replace(siblings_ready=0, held=True), Serve()),
        (BUSY._replace(draining=True), Serve()),
    ],
)
def test_what_becomes_of_a_request_that_would_wait(snapshot: Snapshot, decision: Decision) -> None:
    assert decide(Occasion.REQUEST_COMES, snapshot) == decision


@pytest.mark.parametrize(
    ("oldest_s", "ready", "idle", "decision"),
    [
        # An idle sibling serves it at once: what would cost less than to move it waits.
        (HAND_OFF_S * 1.01, 1, 1, PassOn()),
        (HAND_OFF_S * 0.5, 7, 1, Defer(NOW + HAND_OFF_S * 0.5)),
        (0.0, 1, 1, Defer(NOW + HAND_OFF_S)),
        # Where all are busy the first that is done serves it, which may be this one.
        (SLOW, 1, 0, PassOn()),
        (SLOW, 7, 0, PassOn()),
        (SLOW_S * 0.5, 1, 0, Defer(NOW + SLOW_S * 0.5)),
        (0.0, 1, 0, Defer(NOW + SLOW_S)),
        # There is no sibling.
        (SLOW, 0, 0, Serve()),
        (0.0, 0, 0, Serve()),
    ],
)
def test_what_comes_while_the_only_thread_is_busy(oldest_s: float, ready: int, idle: int, decision: Decision) -> None:
    snapshot = Snapshot(NOW, open=3, oldest_s=oldest_s, siblings_ready=ready, siblings_idle=idle, batch=INLINE_BATCH)
    assert decide(Occasion.REQUEST_RUNS, snapshot) == decision


def test_how_many_at_a_time_and_for_how_long() -> None:
    assert [batch(1, connections) for connections in (0, 31, 32, 64)] == [1, 1, 2, 3]
    assert accept_until(NOW, INLINE_BATCH) == NOW + ACCEPT_S
    assert accept_until(NOW, OFFLOADED_BATCH) == math.inf


def test_a_clock_makes_a_request_slow() -> None:
    """The same request, looked at again and again: deferred as long as it may be quick, then passed on."""
    began, moments = NOW, [NOW + part * SLOW_S for part in (0.0, 0.5, 0.9, 1.1, 2.0)]
    seen = [decide(Occasion.REQUEST_COMES, BUSY._replace(now=now, oldest_s=now - began)) for now in moments]
    assert [type(decision) for decision in seen] == [Defer, Defer, Defer, PassOn, PassOn]


def test_full_is_full() -> None:
    assert may_over_admit(THREADS)
    assert not may_over_admit(THREADS._replace(open=100))
