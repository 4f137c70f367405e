"""What the list, the dashboard and the metrics show of a server, computed once: the arbiter's facts and the system's.

The arbiter answers from memory; what ``/proc`` has to be asked for is read here, by the process that wants to know.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wsgicluster.ipc.scoreboard import HISTOGRAM_BOUNDS_S
from wsgicluster.system.usage import Usage, usage_of


def percentile(buckets: Sequence[int], share: float, bounds_s: Sequence[float] = HISTOGRAM_BOUNDS_S) -> float | None:
    """The upper bound in seconds below which this share of all requests is; None without requests.

    Beyond the last bound it is infinite. As histogram_quantile of Prometheus, but without interpolation: it never
    claims to be more exact than its bounds.
    """
    sums = list(itertools.accumulate(buckets))
    if not sums or not sums[-1]:
        return None
    at = bisect.bisect_left(sums, share * sums[-1])
    return bounds_s[at] if at < len(bounds_s) else float("inf")


def complete(status: Mapping[str, Any], usage: Callable[[int], Usage] = usage_of) -> dict[str, Any]:
    """A status as the arbiter sends it, with percentiles, and what the system says of each process."""
    return {
        **status,
        "server": {**status["server"], **_used(status["server"], usage)},
        "workers": [_worker(each, usage) for each in status["workers"]],
        "others": [{**each, **_used(each, usage)} for each in status["others"]],
    }


def _used(process: Mapping[str, Any], usage: Callable[[int], Usage]) -> dict[str, Any]:
    pid = process.get("pid")
    return dataclasses.asdict(usage(pid) if pid else Usage())


def _worker(worker: Mapping[str, Any], usage: Callable[[int], Usage]) -> dict[str, Any]:
    buckets = worker.get("latency", [])
    p50, p90, p99 = (percentile(buckets, share) for share in (0.5, 0.9, 0.99))
    found = {key: value for key, value in worker.items() if key != "latency"}
    found["latency_seconds"] = {"p50": _finite(p50), "p90": _finite(p90), "p99": _finite(p99)}
    return {**found, **_used(worker, usage)}


def _finite(value: float | None) -> float | None:
    """JSON has no infinity: what is beyond the last bound is that bound."""
    return HISTOGRAM_BOUNDS_S[-1] if value == float("inf") else value


def rates(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float) -> dict[int, dict[str, float]]:
    """Between two statuses: requests a second, and processor time as a share of one processor, by pid of a worker.

    Workers that were not there at both moments are left out.
    """
    old = {each["pid"]: each for each in before["workers"] if each.get("pid")}
    found = {}
    for each in after["workers"]:
        earlier = old.get(each.get("pid"))
        if earlier is None or seconds <= 0:
            continue
        row = {"requests": (each.get("requests", 0) - earlier.get("requests", 0)) / seconds}
        if each.get("cpu_seconds") is not None and earlier.get("cpu_seconds") is not None:
            row["cpu"] = (each["cpu_seconds"] - earlier["cpu_seconds"]) / seconds
        found[each["pid"]] = row
    return found
