"""Waits after quick deaths."""

from wsgicluster.arbiter.backoff import QUICK_DEATH_S, Backoff


def test_waits_grow_to_a_limit() -> None:
    backoff, now, waits = Backoff(), 100.0, []
    for _ in range(10):
        wait = backoff.died(1, 0.0, now)
        waits.append(wait.wait_s)
        assert backoff.due(1, now) == (wait.wait_s == 0)
        now = wait.until
        assert backoff.due(1, now)
    assert waits == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_worker_that_lived_ends_the_row() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.died(1, 0.1, 100.0)
    assert backoff.died(1, QUICK_DEATH_S, 200.0).wait_s == 0.0
    assert backoff.died(1, 0.1, 201.0).deaths == 1


def test_slots_do_not_wait_for_each_other() -> None:
    backoff = Backoff()
    for _ in range(4):
        backoff.died(1, 0.0, 100.0)
    assert not backoff.due(1, 100.0)
    assert backoff.due(2, 100.0)
    assert backoff.next_due(100.0) == 102.0
    assert backoff.next_due(102.0) is None


def test_new_code_gets_a_fresh_start() -> None:
    backoff = Backoff()
    for _ in range(4):
        backoff.died(1, 0.0, 100.0)
    backoff.forget()
    assert backoff.due(1, 100.0)
    assert backoff.died(1, 0.0, 100.0).deaths == 1
