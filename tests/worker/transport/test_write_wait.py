"""How long an application may wait for its client: times and bytes, without either."""

import math

from wsgicluster.worker.transport.timeouts import LEAST_RATE, Timing
from wsgicluster.worker.transport.write_wait import WriteWait

TIMING = Timing.of(75, 20, 30, 10)


def test_a_client_that_takes_something_gets_its_time_anew() -> None:
    wait = WriteWait(TIMING)
    wait.begin(100.0, 5000)
    assert wait.deadline(101.0, 5000) == 110.0
    assert wait.deadline(108.0, 5000 + 100 * LEAST_RATE) == 118.0
    assert wait.deadline(109.0, 5000 + 100 * LEAST_RATE) == 118.0


def test_drops_are_not_progress_in_one_wait_or_in_many() -> None:
    wait = WriteWait(TIMING)
    wait.begin(100.0, 0)
    assert wait.deadline(105.0, LEAST_RATE) == 111.0
    wait.end(105.0, LEAST_RATE)
    # The application takes its time: that is none of the client's.
    wait.begin(1000.0, 0)
    assert wait.deadline(1001.0, LEAST_RATE) == 1000.0 - 5.0 + 10.0 + 2.0
    wait.end(1001.0, 3 * LEAST_RATE)
    wait.begin(2000.0, 0)
    assert wait.deadline(2000.0, 0) == 2000.0 - 6.0 + 10.0 + 4.0


def test_the_application_s_waits_are_added_up() -> None:
    wait = WriteWait(TIMING)
    assert wait.total_s(50.0) == 0.0
    wait.begin(100.0, 0)
    assert wait.total_s(103.0) == 3.0
    wait.end(104.0, 0)
    assert wait.total_s(200.0) == 4.0


def test_without_a_limit_there_is_none() -> None:
    wait = WriteWait(Timing.of(75, 20, 30, 0))
    wait.begin(100.0, 0)
    assert wait.deadline(1e6, 0) == math.inf
