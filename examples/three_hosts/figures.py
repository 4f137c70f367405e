"""What requests and runs of a periodic job say about a step of the drill. Pure: lines of files in, figures out."""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence

from examples.three_hosts.load import Request

SLOW_S = 1.0


@dataclasses.dataclass(frozen=True)
class Figures:
    """Requests of one step; ``lost`` counts them by kind, method and result."""

    sent: int
    lost: "collections.Counter[tuple[str, str, str]]"
    slow: int
    longest_s: float

    @staticmethod
    def of(requests: Iterable[Request]) -> "Figures":
        """The figures of these requests."""
        found = list(requests)
        lost = collections.Counter((each.kind, each.method, each.result) for each in found if each.is_lost)
        return Figures(
            len(found),
            lost,
            sum(each.seconds >= SLOW_S for each in found),
            max((each.seconds for each in found), default=0.0),
        )

    def text(self) -> str:
        """One line for people."""
        lost = ", ".join(f"{count} {' '.join(what)}" for what, count in sorted(self.lost.items()))
        return (
            f"{self.sent} requests, {self.lost.total()} lost{f' ({lost})' if lost else ''}; "
            f"{self.slow} took over {SLOW_S:g} s, the longest {self.longest_s:.2f} s"
        )


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the periodic job, in seconds of the clock that the hosts share here."""

    began: float
    ended: float
    host: str

    @staticmethod
    def of(line: str) -> "Run":
        """As the application has written it."""
        began, ended, host = line.split()
        return Run(float(began), float(ended), host)


@dataclasses.dataclass(frozen=True)
class Runs:
    """What the runs of a job amount to: how many, without a tick of their own, while another ran, the longest pause."""

    count: int
    twice: int
    together: int
    longest_pause_s: float

    @staticmethod
    def of(runs: Sequence[Run], interval_s: float, lost_at: float = math.inf) -> "Runs":
        """``lost_at`` is when Redis lost its data, the rhythm of the job included; no pause is counted over it."""
        ordered = sorted(runs, key=lambda run: run.began)
        parts = [[run for run in ordered if (run.began >= lost_at) is is_after] for is_after in (False, True)]
        pauses = [after.began - before.began for part in parts for before, after in itertools.pairwise(part)]
        return Runs(
            len(ordered),
            sum(without_tick([run.began for run in part], interval_s) for part in parts),
            sum(after.began < before.ended for before, after in itertools.pairwise(ordered)),
            max(pauses, default=0.0),
        )

    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.count} runs, {self.twice} of them a second one of its tick, {self.together} while another one ran; "
            f"at most {self.longest_pause_s:.2f} s from one to the next"
        )


def rhythm(times: Sequence[float], interval_s: float) -> float:
    """When in an interval the ticks are: after the longest part of it in which no run begins.

    Runs may be late, most of them by a little, and never are early.
    """
    phases = sorted(at % interval_s for at in times)
    earlier = [phases[-1], *phases]
    gaps = [(after - before) % interval_s or interval_s for before, after in zip(earlier, phases, strict=False)]
    return phases[gaps.index(max(gaps))]


def without_tick(times: Sequence[float], interval_s: float) -> int:
    """How many of these runs, in order, had no tick of their own.

    A run is of the last tick before it began, or, unless it is the first, of the one before that: it may have been
    late, and have taken its time to begin.
    """
    found, last = 0, -math.inf
    phase = rhythm(times, interval_s) if times else 0.0
    for at in times:
        # A little more than a whole number for one on time, which rounding must not put before its tick.
        latest = math.floor((at - phase) / interval_s + 1e-6)
        tick = max(last + 1, latest - 1) if last > -math.inf else latest
        if tick > latest:
            found += 1
        else:
            last = tick
    return found
