"""How long a response waits for its client before it is stored."""

import pytest

from wsgicluster.worker.transport.pace_wait import PACE_S, SPARE_S, SPARE_SHARE, PaceWait


def test_a_client_that_had_no_processor_for_a_while_is_waited_for() -> None:
    assert PaceWait().begin(1000.0) == pytest.approx(PACE_S[1] + SPARE_S)


def test_slow_clients_soon_cost_the_least_time_and_a_small_share_of_all() -> None:
    wait, now, waited_s = PaceWait(), 1000.0, 0.0
    for _ in range(1000):
        limit_s = wait.begin(now)
        waited_s += limit_s
        now += limit_s
        wait.end(now, False)
    assert limit_s == pytest.approx(PACE_S[0], rel=0.06)
    assert waited_s < 1000 * PACE_S[0] + SPARE_S + 2 * PACE_S[1] + SPARE_SHARE * (now - 1000.0)


def test_clients_that_read_late_take_no_larger_share_although_each_does_read() -> None:
    wait, now, longer_s = PaceWait(), 1000.0, 0.0
    for _ in range(1000):
        limit_s = wait.begin(now)
        now += limit_s * 0.99
        wait.end(now, True)
        longer_s += max(0.0, limit_s * 0.99 - PACE_S[1])
    assert longer_s < SPARE_S + SPARE_SHARE * (now - 1000.0)


def test_time_in_which_nobody_is_waited_for_can_be_spent_again() -> None:
    wait = PaceWait()
    used_s = wait.begin(1000.0)
    wait.end(1000.0 + used_s, True)
    assert wait.begin(1000.0 + used_s) == pytest.approx(PACE_S[1] + used_s * SPARE_SHARE)
    wait.end(1000.0 + used_s, True)
    assert wait.begin(1000.0 + used_s + 2 * SPARE_S / SPARE_SHARE) == pytest.approx(PACE_S[1] + SPARE_S)


def test_a_process_that_was_held_up_itself_waits_on_for_at_least_the_least_time() -> None:
    wait = PaceWait()
    wait.end(1000.0 + wait.begin(1000.0) + 60.0, False)
    assert PACE_S[0] <= wait.begin(1060.0) <= PACE_S[1] + SPARE_S
