"""How long a client may take."""

import math

from wsgicluster.worker.transport.timeouts import LEAST_RATE, ReceiveLimit, SendLimit, Timing

TIMING = Timing.of(keepalive_s=75, head_s=20, body_s=30, write_s=30)


def test_progress_puts_the_body_deadline_off() -> None:
    assert TIMING.body_deadline(now=110.0, began=100.0, received_bytes=1_000_000) == 140.0


def test_drops_of_single_bytes_are_no_progress() -> None:
    assert TIMING.body_deadline(now=129.0, began=100.0, received_bytes=29) == 130.0 + 29 / LEAST_RATE


def test_a_long_past_does_not_excuse_a_stall() -> None:
    assert TIMING.write_deadline(now=500.0, began=100.0, sent_bytes=10**9) == 530.0


def test_zero_switches_a_limit_off_but_means_no_keep_alive() -> None:
    timing = Timing.of(0, 0, 0, 0)
    assert timing.keepalive_s == 0
    assert timing.head_s == timing.body_deadline(1.0, 0.0, 0) == timing.write_deadline(1.0, 0.0, 0) == math.inf


def test_what_comes_before_the_first_head_is_a_part_of_its_time() -> None:
    limit = ReceiveLimit(TIMING, now=100.0, first_by=120.0)
    assert limit.head_deadline(now=115.0, first=True) == 120.0
    assert limit.head_deadline(now=115.0, first=False) == 135.0
    assert ReceiveLimit(TIMING, now=100.0).head_deadline(now=115.0, first=True) == 135.0


def test_a_body_is_timed_from_its_first_byte() -> None:
    limit = ReceiveLimit(TIMING, now=0.0)
    limit.began = 100.0
    assert limit.body_deadline(now=110.0, received_bytes=0) == TIMING.body_deadline(110.0, 100.0, 0) == 130.0


def test_a_client_that_takes_nothing_more_is_too_slow() -> None:
    limit = SendLimit(TIMING, now=100.0)
    assert not limit.is_over(now=129.0, sent_bytes=0)
    assert limit.is_over(now=130.0, sent_bytes=0)
    assert not limit.is_over(now=131.0, sent_bytes=1_000_000), "it has just taken some"
    assert not limit.is_over(now=160.0, sent_bytes=1_000_000)
    assert limit.is_over(now=161.0, sent_bytes=1_000_000)


def test_the_time_of_a_complete_response_begins_anew() -> None:
    limit = SendLimit(TIMING, now=100.0)
    assert limit.deadline(now=110.0, sent_bytes=500) == 131.0
    limit.restart(now=110.0)
    assert limit.deadline(now=110.0, sent_bytes=0) == 140.0
