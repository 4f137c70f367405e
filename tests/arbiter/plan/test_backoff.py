"""Waits after quick deaths."""

from wsgicluster.arbiter.plan.backoff import ALONE_S, BUDGET, BUDGET_S, QUICK_DEATH_S, Backoff


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


def test_deaths_in_service_are_replaced_at_once_within_a_budget() -> None:
    backoff = Backoff()
    at_once = [backoff.died(slot, 0.0, 100.0 + slot / 100, in_service=True) for slot in range(BUDGET)]
    assert {(wait.deaths, wait.wait_s) for wait in at_once} == {(0, 0.0)}
    late = [backoff.died(20 + number, 0.0, 100.5, in_service=True) for number in range(2)]
    # Each has the place of one that is no longer within the time.
    assert [round(wait.until, 3) for wait in late] == [100.0 + BUDGET_S, 100.01 + BUDGET_S]
    assert not backoff.due(20, 100.5)
    assert backoff.next_due(100.5) == late[0].until
    assert backoff.died(30, 0.0, 103.0, in_service=True).wait_s == 0.0


def test_a_death_in_service_ends_the_row_of_boots_that_failed() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.died(1, 0.0, 100.0)
    backoff.died(1, 0.1, 150.0, in_service=True)
    assert backoff.died(1, 0.0, 151.0).deaths == 1


def test_workers_that_lived_do_not_use_up_the_budget() -> None:
    backoff = Backoff()
    for slot in range(50):
        assert backoff.died(slot, QUICK_DEATH_S, 100.0, in_service=True).wait_s == 0.0
    assert backoff.died(60, 0.0, 100.0, in_service=True).wait_s == 0.0


def test_alone_only_boots_that_fail_wait() -> None:
    backoff = Backoff()
    for _ in range(6):
        backoff.died(2, 0.0, 100.0)
    for _ in range(30):
        backoff.died(1, 0.0, 100.0, in_service=True)
    assert not backoff.due(1, 100.0 + ALONE_S)
    assert not backoff.due(1, 100.0, alone=True)
    assert backoff.due(1, 100.0 + ALONE_S, alone=True)
    assert backoff.next_due(100.0, alone=True) == 100.0 + ALONE_S
    assert not backoff.due(2, 107.9, alone=True)
    assert backoff.next_due(100.5, alone=True) == 108.0


def test_one_that_is_made_earlier_than_planned_is_counted_when_it_is_made() -> None:
    backoff = Backoff()
    for _ in range(40):
        planned = backoff.died(1, 0.0, 100.0, in_service=True)
        backoff.made(1, 100.0)
    assert planned.until <= 100.0 + BUDGET_S, "what was made early has not been planned for later besides"
