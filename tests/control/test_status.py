"""What is computed of a status: percentiles, rates, what the system adds."""

import json
from typing import Any

import pytest

from wsgicluster.control.status import complete, percentile, rates
from wsgicluster.ipc.scoreboard import HISTOGRAM_BOUNDS_S
from wsgicluster.system.usage import Usage

BOUNDS = (0.1, 1.0, 10.0)


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ([], 0.5, None),
        ([0, 0, 0, 0], 0.5, None),
        ([1, 0, 0, 0], 0.99, 0.1),
        ([50, 50, 0, 0], 0.5, 0.1),
        ([50, 50, 0, 0], 0.51, 1.0),
        ([99, 0, 1, 0], 0.99, 0.1),
        ([98, 0, 2, 0], 0.99, 10.0),
        ([0, 0, 0, 3], 0.5, float("inf")),
    ],
)
def test_a_percentile_is_the_bound_above_it(buckets: list[int], share: float, expected: float | None) -> None:
    assert percentile(buckets, share, BOUNDS) == expected


def status(*workers: dict[str, Any]) -> dict[str, Any]:
    return {"server": {"pid": 1}, "workers": list(workers), "others": [{"role": "steward", "pid": 2}]}


def test_a_status_is_completed_and_stays_json() -> None:
    buckets = [0] * len(HISTOGRAM_BOUNDS_S) + [7]
    found = complete(
        status({"pid": 3, "latency": buckets}, {"pid": None}),
        lambda pid: Usage(cpu_seconds=pid / 10, rss_bytes=pid << 20),
    )
    first, ordered = found["workers"]
    assert first["latency_seconds"] == {"p50": 30.0, "p90": 30.0, "p99": 30.0}
    assert first["cpu_seconds"] == 0.3
    assert "latency" not in first
    assert ordered["cpu_seconds"] is None
    assert found["server"]["rss_bytes"] == 1 << 20
    assert found["others"][0]["cpu_seconds"] == 0.2
    json.dumps(found, allow_nan=False)


def test_rates_are_of_workers_that_were_there_before() -> None:
    before = status({"pid": 3, "requests": 10, "cpu_seconds": 1.0}, {"pid": 4, "requests": 10, "cpu_seconds": None})
    after = status(
        {"pid": 3, "requests": 30, "cpu_seconds": 1.5}, {"pid": 4, "requests": 10}, {"pid": 5, "requests": 1}
    )
    assert rates(before, after, 2.0) == {3: {"requests": 10.0, "cpu": 0.25}, 4: {"requests": 0.0}}
    assert rates(before, after, 0.0) == {}
