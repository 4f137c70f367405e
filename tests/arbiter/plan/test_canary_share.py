"""How many kept connections old workers give to one on probation."""

import pytest

from wsgicluster.arbiter.plan.canary_share import gifts


@pytest.mark.parametrize(
    ("canary", "others", "given"),
    [
        (0, {1: 4, 2: 4, 3: 4, 4: 4}, {1: 1, 2: 1, 3: 1}),
        (0, {1: 10, 2: 10}, {1: 4, 2: 3}),
        (7, {1: 6, 2: 7}, {}),
        (3, {1: 12, 2: 5}, {1: 3, 2: 1}),
        (20, {1: 1, 2: 1}, {}),
        (0, {1: 1, 2: 1, 3: 1, 4: 0}, {1: 1}),
        (0, {1: 1, 2: 1, 3: 0, 4: 0}, {}),
        (0, {1: 2}, {1: 1}),
        (0, {1: 1}, {}),
        (0, {1: 0, 2: 0}, {}),
        (0, {}, {}),
        (5, {}, {}),
        (0, {1: 3000, 2: 0, 3: 0}, {1: 750}),
    ],
)
def test_its_share_is_that_of_one_worker_of_all(canary: int, others: dict[int, int], given: dict[int, int]) -> None:
    assert gifts(canary, others, others) == given


def test_where_clients_belong_to_slots_it_shares_those_of_its_slot() -> None:
    assert gifts(0, {1: 10, 2: 10, 3: 10}, [2]) == {2: 5}
    assert gifts(5, {1: 10, 2: 5, 3: 10}, [2]) == {}
    assert gifts(4, {1: 10, 2: 6, 3: 10}, [2]) == {2: 1}
    assert gifts(0, {1: 2, 2: 20, 3: 2}, [2]) == {2: 6}
    assert gifts(0, {1: 10, 2: 0, 3: 10}, [2]) == {}
    assert gifts(0, {1: 10, 2: 10}, []) == {}


def test_whatever_there_is_it_ends_with_its_share() -> None:
    for count in range(1, 8):
        for most in range(40):
            others = {key: (key * 7 + most) % (most + 1) for key in range(count)}
            given = gifts(0, others, others)
            assert all(0 < given[key] <= others[key] for key in given)
            share = sum(others.values()) / (count + 1)
            assert share - 0.5 <= sum(given.values()) <= share + 0.5
            left = {key: others[key] - given.get(key, 0) for key in others}
            assert gifts(sum(given.values()), left, left) == {}
