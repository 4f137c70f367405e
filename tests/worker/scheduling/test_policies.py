"""Scheduling policies on plain values: who gets the next client, and what happens where a slot takes none."""

from collections import Counter

import pytest

from wsgicluster.worker.scheduling.policies import (
    SlotLoad,
    least_connections,
    round_robin,
    weighted,
    weighted_cycle,
    with_room,
)


def slots(count: int, takes_none: tuple[int, ...] = ()) -> list[SlotLoad]:
    return [SlotLoad(slot, slot not in takes_none) for slot in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 16])
def test_round_robin_is_equal(count: int) -> None:
    shares = Counter(round_robin(turn, slots(count)) for turn in range(count * 50))
    assert shares == dict.fromkeys(range(1, count + 1), 50)


def test_round_robin_leaves_out_a_slot_that_takes_none() -> None:
    shares = Counter(round_robin(turn, slots(4, takes_none=(2,))) for turn in range(400))
    assert shares == {1: 100, 3: 200, 4: 100}


@pytest.mark.parametrize("count", [0, 1, 4])
def test_without_a_slot_that_takes_clients_there_is_no_choice(count: int) -> None:
    nobody = slots(count, takes_none=tuple(range(1, count + 1)))
    assert round_robin(7, nobody) is None
    assert least_connections(7, nobody) is None
    assert count == 0 or weighted(7, nobody, (1,) * count) is None


def test_weights_are_spread_over_the_cycle() -> None:
    assert weighted_cycle((3, 1), 2) == (1, 1, 2, 1)
    assert weighted_cycle((5, 1, 1), 3) == (1, 1, 2, 1, 3, 1, 1)
    assert weighted_cycle((2, 0, 1), 3) == (1, 3, 1)


def test_weighted_keeps_its_shares() -> None:
    shares = Counter(weighted(turn, slots(4), (3, 2, 1, 1)) for turn in range(700))
    assert shares == {1: 300, 2: 200, 3: 100, 4: 100}


def test_slots_beyond_the_weights_weigh_one_and_weights_beyond_the_slots_nothing() -> None:
    assert Counter(weighted(turn, slots(3), (2,)) for turn in range(40)) == {1: 20, 2: 10, 3: 10}
    assert Counter(weighted(turn, slots(2), (1, 1, 7)) for turn in range(40)) == {1: 20, 2: 20}


def test_weighted_leaves_out_a_slot_that_takes_none() -> None:
    shares = Counter(weighted(turn, slots(2, takes_none=(1,)), (3, 1)) for turn in range(8))
    assert shares == {2: 8}


def test_a_weight_of_zero_takes_nobody() -> None:
    assert Counter(weighted(turn, slots(2), (0, 1)) for turn in range(8)) == {2: 8}


def test_least_connections_counts_requests_first() -> None:
    loads = [SlotLoad(1, True, 2, 2), SlotLoad(2, True, 0, 90), SlotLoad(3, True, 1, 1)]
    assert {least_connections(turn, loads) for turn in range(6)} == {2}


def test_least_connections_breaks_ties_in_turn() -> None:
    assert Counter(least_connections(turn, slots(4)) for turn in range(40)) == {1: 10, 2: 10, 3: 10, 4: 10}


def test_least_connections_never_takes_a_slot_that_takes_none() -> None:
    loads = [SlotLoad(1, False, 0, 0), SlotLoad(2, True, 9, 9)]
    assert {least_connections(turn, loads) for turn in range(4)} == {2}


def test_a_late_slot_is_the_last_choice() -> None:
    loads = [SlotLoad(1, True, 0, 0, late=True), SlotLoad(2, True, 9, 9)]
    assert {least_connections(turn, loads) for turn in range(4)} == {2}
    assert {least_connections(turn, loads[:1]) for turn in range(4)} == {1}


def test_slots_without_room_take_none() -> None:
    loads = [SlotLoad(1, True, 4, 9), SlotLoad(2, True, 3, 9), SlotLoad(3, True, 3, 10), SlotLoad(4, True, late=True)]
    assert [load.takes for load in with_room(loads, 4, 10)] == [False, True, False, False]
