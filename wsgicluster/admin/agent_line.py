"""What HAProxy's ``agent-check`` gets to read: one line with a state and a weight, made of a status. Pure.

See "agent-check" in the configuration manual of HAProxy: ``ready`` and ``drain`` are what an operator wants, ``up`` and
``down`` whether it works, and a percentage is one of the configured weight.
"""

from collections.abc import Mapping
from typing import Any

from wsgicluster.admin.probes import ready
from wsgicluster.clock import Clock

STUCK_S = 1.0
"""A request in progress for this long keeps its worker busy, although what it takes is counted only when it is over."""
LEAST_S = 0.5
"""How long load is measured at least."""
_LEAVING = frozenset({"draining", "stopping"})
_UNLIMITED = "gevent"


def capacity_of(status: Mapping[str, Any]) -> int:
    """How many requests run at once when all ready workers are busy; 0 where there is no limit."""
    if status["server"]["worker_class"] == _UNLIMITED:
        return 0
    workers = [each for each in status["workers"] if each["state"] == "ready"]
    return sum(each.get("pool", {}).get("threads", 1) for each in workers)


def stuck_of(status: Mapping[str, Any]) -> int:
    """How many workers have a request that has been in progress for long."""
    oldest = [each.get("oldest_request") for each in status["workers"]]
    return sum(each is not None and each["seconds"] >= STUCK_S for each in oldest)


def weight_of(ready_share: float, load: float) -> int:
    """The weight in percent: that of the workers that are ready, of which load takes up to one half.

    All of it would have two servers take turns in being idle and overloaded.
    """
    return max(1, round(100 * min(1.0, ready_share) * (1 - min(1.0, max(0.0, load)) / 2)))


def agent_line(status: Mapping[str, Any], load: float) -> str:
    """The line, without its end; ``load`` is the part of the server's capacity that is in use."""
    server = status["server"]
    if server["state"] in _LEAVING:
        return "drain"
    reasons = ready(status).reasons
    if reasons:
        return f"down #{'; '.join(reasons)}"
    workers = server["workers"]
    return f"up ready {weight_of(workers['ready'] / max(1, workers['wanted']), load)}%"


class LoadMeter:
    """How much of a server's capacity is in use, from one status to the next."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = 0.0
        self._busy_s: float | None = None
        self._load = 0.0

    def load(self, status: Mapping[str, Any]) -> float:
        """The part of the capacity, 0.0 or more; 0.0 as long as it is not known."""
        now, busy_s = self._clock.monotonic(), float(status["server"]["totals"]["duration"]["seconds"])
        capacity = capacity_of(status)
        if self._busy_s is None:
            self._at, self._busy_s = now, busy_s
        elif now - self._at >= LEAST_S:
            self._load = (busy_s - self._busy_s) / (now - self._at) / capacity if capacity else 0.0
            self._at, self._busy_s = now, busy_s
        return max(self._load, stuck_of(status) / capacity) if capacity else 0.0
