"""What HAProxy reads, over plain statuses and a fake clock."""

from typing import Any

import pytest

from tests.admin.test_metrics import status, worker
from wsgicluster.admin.agent_line import LoadMeter, agent_line, capacity_of, weight_of


class FakeClock:
    now = 10.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


def with_duration(seconds: float, *workers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = status(*workers, **changes)
    found["server"]["totals"]["duration"] = {"seconds": seconds}
    return found


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "up ready 100%"),
        ({"state": "reloading"}, "up ready 100%"),
        ({"state": "degraded", "workers": {"wanted": 4, "ready": 3}}, "up ready 75%"),
        ({"workers": {"wanted": 2, "ready": 3}}, "up ready 100%"),
        ({"workers": {"wanted": 2, "ready": 0}}, "down #workers: none of 2 is ready"),
        ({"state": "starting"}, "down #server: starting"),
        ({"state": "draining"}, "drain"),
        ({"state": "stopping", "workers": {"wanted": 2, "ready": 0}}, "drain"),
    ],
)
def test_states(changes: dict[str, Any], line: str) -> None:
    assert agent_line(status(**changes), 0.0) == line


@pytest.mark.parametrize(
    ("share", "load", "weight"),
    [
        (1.0, 0.0, 100),
        (1.0, 0.5, 75),
        (1.0, 1.0, 50),
        (1.0, 7.0, 50),
        (0.5, 1.0, 25),
        (0.001, 1.0, 1),
        (1.0, -1.0, 100),
    ],
)
def test_weights(share: float, load: float, weight: int) -> None:
    assert weight_of(share, load) == weight


def test_capacity() -> None:
    pool = {"threads": 4, "queue": 0}
    assert capacity_of(status(worker(1), worker(2), worker(3, state="booting"))) == 2
    assert capacity_of(status(worker(1, pool=pool), worker(2, pool=pool))) == 8
    assert capacity_of(status(worker(1), worker_class="gevent")) == 0


def test_load_is_measured_between_two_looks() -> None:
    clock = FakeClock()
    meter = LoadMeter(clock)
    idle = worker(1, oldest_request=None), worker(2, oldest_request=None)
    assert meter.load(with_duration(5.0, *idle)) == 0.0
    clock.now += 0.1
    assert meter.load(with_duration(5.1, *idle)) == 0.0, "too soon to say"
    clock.now += 1.9
    assert meter.load(with_duration(6.0, *idle)) == pytest.approx(0.25)
    clock.now += 0.1
    assert meter.load(with_duration(6.2, *idle)) == pytest.approx(0.25)
    clock.now += 1.9
    assert meter.load(with_duration(6.0, *idle)) == 0.0


def test_a_request_that_takes_long_counts_while_it_runs() -> None:
    busy = worker(1), worker(2, oldest_request=None)
    assert LoadMeter(FakeClock()).load(with_duration(5.0, *busy)) == 0.5
    assert LoadMeter(FakeClock()).load(with_duration(5.0, *busy, worker_class="gevent")) == 0.0
