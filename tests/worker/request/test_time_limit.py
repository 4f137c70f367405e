"""How long one request may go on: from its last block, or until when its application says."""

import math

from wsgicluster.worker.request.time_limit import TimeLimit

BLOCK = "timeout of 2 s passed since its last block"
OWN = "the deadline that the application has set passed"


def test_without_a_block_the_limit_counts_from_the_beginning() -> None:
    limit = TimeLimit(100.0, 2.0)
    limit.look(101.9, 0, 0.0, None)
    assert limit.passed == ""
    limit.look(102.0, 0, 0.0, None)
    assert limit.passed == "timeout of 2 s passed"


def test_each_block_puts_the_limit_off() -> None:
    limit = TimeLimit(100.0, 2.0)
    for turn in range(1, 50):
        limit.look(100.0 + turn, turn, 0.0, None)
        assert limit.passed == ""
    limit.look(150.9, 49, 0.0, None)
    assert limit.passed == ""
    limit.look(151.0, 49, 0.0, None)
    assert limit.passed == BLOCK


def test_the_client_s_time_is_not_the_application_s() -> None:
    limit = TimeLimit(100.0, 2.0)
    limit.look(105.0, 0, 4.0, None)
    assert limit.passed == ""
    limit.look(106.0, 1, 4.0, None)  # what was waited for before a block counts no more
    limit.look(107.9, 1, 4.0, None)
    assert limit.passed == ""
    limit.look(108.0, 1, 4.0, None)
    assert limit.passed == BLOCK
    limit.look(108.0, 1, 4.5, None)
    assert limit.passed == ""


def test_an_application_sets_its_own_deadline() -> None:
    limit = TimeLimit(100.0, 2.0)
    limit.look(101.0, 0, 0.0, 110.0)
    limit.look(109.9, 0, 0.0, 110.0)
    assert limit.passed == ""
    limit.look(110.0, 0, 0.0, 110.0)
    assert limit.passed == OWN
    # An earlier one, too.
    limit = TimeLimit(100.0, 2.0)
    limit.look(100.5, 0, 0.0, 100.5)
    assert limit.passed == OWN


def test_a_block_does_not_shorten_what_the_application_has_asked_for() -> None:
    limit = TimeLimit(100.0, 2.0)
    limit.look(101.0, 1, 0.0, 110.0)
    limit.look(109.0, 2, 0.0, 110.0)
    limit.look(110.9, 2, 0.0, 110.0)
    assert limit.passed == ""
    limit.look(111.0, 2, 0.0, 110.0)
    assert limit.passed == BLOCK


def test_a_limit_that_is_lifted_stays_lifted_until_there_is_another_one() -> None:
    limit = TimeLimit(100.0, 2.0)
    limit.look(101.0, 0, 0.0, math.inf)
    limit.look(1e6, 7, 0.0, math.inf)
    assert limit.passed == ""
    limit.look(1e6 + 1, 7, 0.0, 1e6 + 2)
    limit.look(1e6 + 2, 7, 0.0, 1e6 + 2)
    assert limit.passed == OWN
