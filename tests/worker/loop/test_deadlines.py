"""Deadlines: who is due, and that nothing is kept alive by one."""

import math

import pytest

from wsgicluster.worker.loop.deadlines import Deadlines


class Item:
    def __init__(self) -> None:
        self.deadline = math.inf
        self.bucket = -1


@pytest.fixture
def deadlines() -> Deadlines:
    return Deadlines()


def test_an_item_is_due_once_after_its_deadline(deadlines: Deadlines) -> None:
    item = Item()
    deadlines.set(item, 10.2)
    assert deadlines.due(10.1) == []
    assert deadlines.due(10.5) == [item]
    assert deadlines.due(99.0) == []
    assert item.bucket == -1


def test_a_later_deadline_moves_nothing_until_the_bucket_comes_up(deadlines: Deadlines) -> None:
    item = Item()
    deadlines.set(item, 10.0)
    bucket = item.bucket
    deadlines.set(item, 50.0)
    assert item.bucket == bucket
    assert deadlines.due(11.0) == []
    assert item.bucket > bucket
    assert deadlines.due(50.5) == [item]


def test_an_earlier_deadline_takes_effect_at_once(deadlines: Deadlines) -> None:
    item = Item()
    deadlines.set(item, 100.0)
    deadlines.set(item, 10.0)
    assert deadlines.due(10.5) == [item]


def test_a_dropped_item_is_never_due_and_leaves_no_wake_up(deadlines: Deadlines) -> None:
    item = Item()
    deadlines.set(item, 10.0)
    deadlines.drop(item)
    deadlines.drop(item)
    assert deadlines.next() is None
    assert deadlines.due(99.0) == []


def test_next_is_never_earlier_than_half_a_second_before_the_first_deadline(deadlines: Deadlines) -> None:
    first, second = Item(), Item()
    deadlines.set(first, 10.2)
    deadlines.set(second, 20.0)
    moment = deadlines.next()
    assert moment is not None
    assert 10.2 <= moment <= 10.7
    assert deadlines.due(moment) == [first]


def test_no_deadline_is_infinite(deadlines: Deadlines) -> None:
    item = Item()
    deadlines.set(item, math.inf)
    assert deadlines.next() is None
