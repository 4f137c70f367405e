"""When the scoreboard is read, and which children are found late."""

import math

from wsgicluster.arbiter.plan.hang_detector import HangDetector


def looking(at: float = 100.0) -> HangDetector:
    beats = HangDetector()
    beats.expect(at)
    return beats


def test_nobody_looks_before_there_is_a_child() -> None:
    beats = HangDetector()
    assert beats.missed({}, 30.0, 100.0) == []
    assert beats.next_look == math.inf
    beats.expect(130.0)
    beats.expect(140.0)
    assert beats.next_look == 130.0


def test_idle_workers_are_looked_at_a_few_times_in_a_timeout() -> None:
    beats = looking()
    assert beats.missed({1: 0.0, 2: 0.0}, 30.0, 100.0) == []
    assert beats.next_look == 107.5


def test_a_deadline_is_looked_at_when_it_is_due() -> None:
    beats = looking()
    assert beats.missed({1: 103.0, 2: 130.0}, 30.0, 100.0) == []
    assert beats.next_look == 103.0
    assert beats.missed({1: 102.0}, 30.0, 102.9) == []  # not before the look that was planned
    assert beats.missed({1: 103.0, 2: 130.0}, 30.0, 103.0) == [1]


def test_a_worker_that_beats_again_is_left_alone() -> None:
    beats = looking()
    beats.missed({1: 103.0}, 30.0, 100.0)
    assert beats.missed({1: 133.0}, 30.0, 103.0) == []


def test_without_a_timeout_nobody_looks() -> None:
    beats = looking()
    assert beats.missed({1: 1.0}, 0.0, 100.0) == []
    assert beats.next_look == math.inf
    # A reload brings a timeout.
    beats.expect(104.5)
    assert beats.missed({1: 104.5}, 4.0, 104.5) == [1]
    assert beats.next_look == 105.5


def test_after_a_standstill_workers_get_a_moment() -> None:
    beats = looking()
    beats.missed({1: 103.0}, 30.0, 100.0)
    assert beats.missed({1: 103.0}, 30.0, 160.0) == []
    assert beats.next_look == 160.5
    assert beats.missed({1: 103.0}, 30.0, 160.5) == [1]


def test_after_a_standstill_workers_get_what_was_left_of_their_time() -> None:
    beats = looking()
    beats.missed({1: 120.0, 2: 0.0}, 30.0, 100.0)
    assert beats.next_look == 107.5
    assert beats.missed({1: 120.0, 2: 0.0}, 30.0, 207.5) == [], "12.5 s were left when all stood still"
    assert beats.missed({1: 120.0, 2: 230.0}, 30.0, 215.0) == []
    assert beats.next_look == 220.0
    assert beats.missed({1: 120.0, 2: 230.0}, 30.0, 220.0) == [1]


def test_one_that_has_beaten_since_a_standstill_has_its_new_deadline() -> None:
    beats = looking()
    beats.missed({1: 120.0}, 30.0, 100.0)
    beats.missed({1: 120.0}, 30.0, 207.5)
    assert beats.missed({1: 210.0}, 30.0, 215.0) == [1]


def test_a_standstill_of_the_arbiter_alone_forgives_one_timeout_at_most() -> None:
    beats = looking()
    beats.missed({}, 30.0, 100.0)
    assert beats.missed({1: 1090.0}, 30.0, 1100.0) == []
    for now in (1107.5, 1115.0, 1122.5):
        assert beats.missed({1: 1090.0}, 30.0, now) == []
    assert beats.missed({1: 1090.0}, 30.0, 1130.0) == [1]
