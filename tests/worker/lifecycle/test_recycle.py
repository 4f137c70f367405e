"""When a worker asks to be replaced."""

from collections.abc import Iterator

import pytest

from wsgicluster.worker.lifecycle.recycle import ANY, SAMPLE_S, SAMPLES, Recycling, with_jitter

MIB = 1 << 20


def recycling(
    max_requests: int = 0, max_memory: int = 0, boot_s: float = 0.0, sizes: Iterator[int] | None = None
) -> Recycling:
    source = sizes if sizes is not None else iter([0] * 1000)
    return Recycling(max_requests, max_memory, boot_s, lambda: next(source))


def test_several_samples_in_a_row_above_the_limit_make_a_worker_too_large() -> None:
    subject = recycling(max_memory=100 * MIB, sizes=iter([101 * MIB] * SAMPLES))
    said = [subject.check(10.0 + i * SAMPLE_S * 1.01, i) for i in range(SAMPLES)]
    assert said[:-1] == [None] * (SAMPLES - 1)
    assert said[-1] is not None
    assert said[-1].reason == "memory"
    assert "101 MiB" in said[-1].detail


def test_a_single_peak_is_forgiven() -> None:
    sizes = iter([101 * MIB, 101 * MIB, 50 * MIB, 101 * MIB, 101 * MIB])
    subject = recycling(max_memory=100 * MIB, sizes=sizes)
    assert [subject.check(10.0 + i, i) for i in range(5)] == [None] * 5


def test_a_limit_that_is_too_low_is_raised_and_then_kept() -> None:
    subject = recycling(max_memory=100 * MIB, sizes=iter([150 * MIB] * (2 * SAMPLES) + [301 * MIB] * SAMPLES))
    moments = iter(range(10, 100))
    assert [subject.check(next(moments), 1) for _ in range(SAMPLES)][-1] is not None
    assert subject.yields_to(1) == ANY
    subject.raise_memory_limit(300 * MIB)
    assert subject.yields_to(1) == 0
    assert [subject.check(next(moments), 1) for _ in range(SAMPLES)] == [None] * SAMPLES
    assert [subject.check(next(moments), 1) for _ in range(SAMPLES)][-1] is not None


@pytest.mark.parametrize(
    ("after_s", "requests", "early"), [(0.0, 0, True), (9.0, 10, True), (0.2, 5000, True), (0.3, 11, False)]
)
def test_one_that_is_too_large_since_its_first_requests_says_so(after_s: float, requests: int, early: bool) -> None:
    subject = recycling(max_memory=100 * MIB, sizes=iter([50 * MIB] + [101 * MIB] * SAMPLES))
    subject.check(10.0, min(1, requests))
    said = [subject.check(10.0 + after_s + (i + 1) * SAMPLE_S * 1.01, requests + 100 * i) for i in range(SAMPLES)]
    assert said[-1] is not None
    assert said[-1].early is early


def test_samples_are_taken_no_more_often_than_their_interval() -> None:
    subject = recycling(max_memory=100 * MIB, sizes=iter([101 * MIB]))
    for count in range(100):
        assert subject.check(10.0 + count * SAMPLE_S / 1000, count) is None


def test_a_worker_above_the_limit_is_looked_at_again_without_work() -> None:
    subject = recycling(max_memory=100 * MIB, sizes=iter([50 * MIB, 101 * MIB, 101 * MIB, 101 * MIB]))
    looks = []
    for now in (10.0, 11.0, 12.0, 13.0):
        subject.check(now, 1)
        looks.append(subject.look_again_at)
    assert looks == [None, 11.0 + SAMPLE_S, 12.0 + SAMPLE_S, None]


def test_max_requests_asks_once() -> None:
    subject = recycling(max_requests=3)
    said = [subject.check(10.0, count) for count in range(1, 7)]
    assert [message is not None for message in said] == [False, False, True, False, False, False]
    assert said[2] is not None
    assert said[2].reason == "requests"


def test_max_requests_asks_as_much_earlier_as_a_boot_takes() -> None:
    subject = recycling(max_requests=100, boot_s=0.1)
    served = 0
    for step in range(1000):
        served += 1
        if subject.check(10.0 + step * 0.01, served) is not None:
            break
    assert 88 <= served <= 92


def test_it_never_asks_before_a_tenth_of_the_limit() -> None:
    subject = recycling(max_requests=100, boot_s=60.0)
    asked = [served for served in range(1, 100) if subject.check(10.0 + served * 0.01, served) is not None]
    assert asked[0] == 10


def test_the_rate_is_known_soon_after_the_first_request() -> None:
    subject = recycling(max_requests=100, boot_s=0.5)
    # A hundred a second: half of the limit is served while a replacement boots.
    asked = [served for served in range(1, 100) if subject.check(10.0 + served * 0.01, served) is not None]
    assert 48 <= asked[0] <= 52


def test_a_sibling_that_leaves_its_clients_to_this_worker_doubles_the_rate() -> None:
    subject = recycling(max_requests=1000, boot_s=0.5)
    for step in range(100):  # a hundred a second
        assert subject.check(10.0 + step * 0.01, step) is None
    # A thousand a second: what is served in a boot has grown from 50 to 500.
    served = next(step for step in range(100, 1000) if subject.check(11.0 + (step - 100) * 0.001, step) is not None)
    assert 500 <= served <= 620


def test_far_beyond_max_requests_those_who_have_served_fewer_come_first() -> None:
    subject = recycling(max_requests=100)
    assert subject.check(10.0, 99) is None
    assert subject.yields_to(99) == 0
    assert subject.check(10.0, 100) is not None
    assert subject.yields_to(110) == 0
    assert subject.yields_to(111) == 111


def test_far_beyond_max_memory_everybody_else_comes_first() -> None:
    subject = recycling(max_memory=100 * MIB, sizes=iter([111 * MIB] * SAMPLES))
    for step in range(SAMPLES):
        assert subject.yields_to(step) == 0
        subject.check(10.0 + step * SAMPLE_S * 1.01, step)
    assert subject.yields_to(5) == ANY


@pytest.mark.parametrize(("limit", "jitter"), [(0, 50), (100, 0)])
def test_no_jitter_without_limit_or_range(limit: int, jitter: int) -> None:
    assert with_jitter(limit, jitter) == limit


def test_jitter_only_ever_adds() -> None:
    assert {with_jitter(100, 2) for _ in range(200)} == {100, 101, 102}
