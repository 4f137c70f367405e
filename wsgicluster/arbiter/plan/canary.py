"""Whether the first worker of a new generation does as well as the old ones, by what both have counted since it serves.

Pure: figures in, a judgement with its numbers out. Where they are read is not known here.
"""

import enum
import itertools
import math
from collections.abc import Iterable

from wsgicluster.counting import count_of
from wsgicluster.dataclass import dataclass

CLEAR = 3.0
"""Before its probation is over, a worker fails only where its share of failures is beyond the bound by more than chance
explains: by this many standard deviations."""

CLEAR_REQUESTS = 3
"""Before that, times are compared only from this multiple of the least number of requests on: the first ones may be
slow because the application loads what it needs."""

SLOWER_S = 0.01
"""A worker counts as slower from this difference on: three times one millisecond is nothing to stop for."""

HANGS_S = 1.0
"""A request that is not over counts as slower from this time on."""

SLOW_QUARTER = 0.75
"""At least a quarter of the requests have to be slower, too: a few outliers raise an average."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The requests that are over: how many, how many of them failed, and how long the application took.

    ``times`` has how many took at most as long as each of the histogram's bounds. ``oldest_s`` is for how long the
    oldest request has been running that is not over, 0.0 without any.
    """

    requests: int = 0
    failed: int = 0
    application_s: float = 0.0
    times: tuple[int, ...] = ()
    oldest_s: float = 0.0

    @property
    def failed_share(self) -> float:
        """From 0.0 to 1.0; 0.0 without requests."""
        return self.failed / self.requests if self.requests else 0.0

    @property
    def mean_s(self) -> float:
        """What the application took on the average; 0.0 without requests."""
        return self.application_s / self.requests if self.requests else 0.0

    @property
    def slow_bucket(self) -> int:
        """Where in the histogram the slowest quarter begins."""
        sums = list(itertools.accumulate(self.times))
        return next((at for at, below in enumerate(sums) if below >= SLOW_QUARTER * sums[-1]), 0)

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            self.requests + other.requests,
            self.failed + other.failed,
            self.application_s + other.application_s,
            tuple(map(sum, itertools.zip_longest(self.times, other.times, fillvalue=0))),
            max(self.oldest_s, other.oldest_s),
        )

    def __str__(self) -> str:
        taken = f", {_milliseconds(self.mean_s)} on the average" if self.requests else ""
        return f"{_failures(self)}{taken}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """``error_share`` is by how much the share of failed requests may be higher, from 0.0 to 1.0.

    ``latency_factor`` is how many times longer requests may take (0.0: without limit), ``least_requests`` how many
    requests there have to be.
    """

    error_share: float
    latency_factor: float
    least_requests: int


class Judgement(enum.Enum):
    """What the figures say."""

    WORSE = "worse"
    NOT_WORSE = "not worse"
    OPEN = "open"
    """There were too few requests, or it is too early."""


def judge(canary: Figures, others: Figures, bounds: Bounds, is_over: bool) -> tuple[Judgement, str]:
    """What the figures of a new worker mean beside those of the old ones in the same time, and why, in one line.

    ``is_over`` says that its probation is; before, only what is clear counts.
    """
    if is_over and _hangs(canary, others, bounds):
        compared = f"of {count_of(others.requests, 'request')} in the old workers none does"
        return Judgement.WORSE, f"a request has been running for {_milliseconds(canary.oldest_s)}, {compared}"
    if canary.requests < bounds.least_requests:
        return Judgement.OPEN, _too_few(canary, bounds)
    if _fails_more(canary, others, bounds, is_over):
        return Judgement.WORSE, f"{_failures(canary)}, against {_failures(others)} in the old workers"
    if _is_slower(canary, others, bounds, is_over):
        new, old = _milliseconds(canary.mean_s), _milliseconds(others.mean_s)
        compared = f"against {old} for {others.requests} in the old workers"
        return Judgement.WORSE, f"{count_of(canary.requests, 'request')} took {new} on the average, {compared}"
    if not is_over:
        return Judgement.OPEN, ""
    return Judgement.NOT_WORSE, f"{canary}; the old workers: {others}"


def _hangs(canary: Figures, others: Figures, bounds: Bounds) -> bool:
    """Are there too few requests because those that have begun do not end, as they do in the old workers?"""
    if not bounds.latency_factor or canary.requests >= bounds.least_requests or others.requests < bounds.least_requests:
        return False
    return canary.oldest_s >= max(HANGS_S, bounds.latency_factor * max(others.mean_s, others.oldest_s))


def _too_few(canary: Figures, bounds: Bounds) -> str:
    return f"only {count_of(canary.requests, 'request')}, reload_least_requests is {bounds.least_requests}"


def _fails_more(canary: Figures, others: Figures, bounds: Bounds, is_over: bool) -> bool:
    share = canary.failed_share if is_over else _least_share(canary.failed, canary.requests)
    return share - others.failed_share > bounds.error_share


def _least_share(count: int, of: int) -> float:
    """The lower end of Wilson's interval: a share below this would hardly lead to so many."""
    share, spread = count / of, CLEAR**2 / of
    return (share + spread / 2 - math.sqrt(spread * (share * (1 - share) + spread / 4))) / (1 + spread)


def _is_slower(canary: Figures, others: Figures, bounds: Bounds, is_over: bool) -> bool:
    if not bounds.latency_factor or others.requests < bounds.least_requests:
        return False
    if not is_over and canary.requests < CLEAR_REQUESTS * bounds.least_requests:
        return False
    beyond = canary.mean_s > bounds.latency_factor * others.mean_s
    return beyond and canary.mean_s - others.mean_s >= SLOWER_S and canary.slow_bucket > others.slow_bucket


def _failures(figures: Figures) -> str:
    if not figures.requests:
        return "no request"
    of = count_of(figures.requests, "request")
    return f"{figures.failed} of {of} failed ({figures.failed_share * 100:.1f} %)"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def total(figures: Iterable[Figures]) -> Figures:
    """Those of several workers together."""
    return sum(figures, Figures())
