"""How long a client may take."""

import math

from wsgicluster.worker.timing import LEAST_RATE, Timing

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
