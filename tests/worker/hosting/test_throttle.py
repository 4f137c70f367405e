"""How often the same is said."""

import math

from wsgicluster.worker.hosting.throttle import Throttle


def test_the_first_of_each_kind_and_then_a_sum() -> None:
    throttle = Throttle(2, 10.0)
    assert [throttle.admits("a", 100.0 + number) for number in range(5)] == [True, True, False, False, False]
    assert throttle.admits("b", 103.0)
    assert throttle.ends_at() == 110.0
    assert throttle.sums(109.9) == []
    assert throttle.sums(110.0) == [("a", 3)]
    assert throttle.ends_at() == math.inf
    assert throttle.admits("a", 110.1), "a new period has begun"


def test_what_was_not_too_much_is_not_summed_up() -> None:
    throttle = Throttle(2, 10.0)
    assert throttle.admits("a", 0.0)
    assert throttle.admits("a", 5.0)
    assert throttle.ends_at() == math.inf
    assert throttle.sums(20.0) == []


def test_a_period_that_is_over_ends_by_itself() -> None:
    throttle = Throttle(1, 10.0)
    assert throttle.admits("a", 0.0)
    assert throttle.admits("a", 10.0)
    assert not throttle.admits("a", 10.5)
    # Nobody has summed up: what was not said is still counted, and not forgotten for a new period.
    assert not throttle.admits("a", 30.0)
    assert throttle.sums(math.inf) == [("a", 2)]
