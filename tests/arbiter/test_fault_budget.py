"""When the arbiter gives up for faults of its own."""

from wsgicluster.arbiter.fault_budget import FORGOTTEN_S, MOST_FAULTS, FaultBudget


def test_too_many_in_a_row() -> None:
    faults = FaultBudget()
    assert [faults.another(100.0 + number) for number in range(MOST_FAULTS)] == [False] * (MOST_FAULTS - 1) + [True]


def test_those_before_a_good_minute_are_forgotten() -> None:
    faults = FaultBudget()
    now = 100.0
    for _ in range(3 * MOST_FAULTS):
        now += FORGOTTEN_S + 1
        assert not faults.another(now)
    assert faults.count == 1
