"""The first worker of a new generation beside the old ones: their counters are compared until it is trusted, or not.

It reads the pages of workers; what the figures mean is decided by `wsgicluster.arbiter.plan.canary`.
"""

import dataclasses
import math
from collections.abc import Iterable

from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.plan.canary import Bounds, Figures, Judgement, judge, total
from wsgicluster.arbiter.plan.canary_share import SHARE_EVERY_S, gifts
from wsgicluster.arbiter.plan.child import Child
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.arbiter.plan.rollout import Generation, Stage
from wsgicluster.arbiter.supervision.progress import Progress
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.messages import RequestFailed
from wsgicluster.ipc.scoreboard import BUCKETS, STATUS_CLASSES, Cell, Page
from wsgicluster.settings.types.scheduling import STICKY_POLICY

LOOK_S = 0.5
LOOKS = 20
"""The counters are read so often during a probation, though not more often than every `LEAST_LOOK_S`, and at least
every `LOOK_S`."""
LEAST_LOOK_S = 0.05

_COUNTED = (
    *range(Cell.RESPONSES, Cell.RESPONSES + STATUS_CLASSES),
    Cell.FAILED,
    Cell.BAD_ITERABLES,
    Cell.APPLICATION_NS,
    *range(Cell.APPLICATION_HISTOGRAM, Cell.APPLICATION_HISTOGRAM + BUCKETS),
)
_FAILURES = 3
"""So many of these stand between the classes of statuses and the histogram."""


def counted(page: Page) -> list[int]:
    """What the page's present child has counted since it was forked, of what is compared."""
    return [page.counted(cell) for cell in _COUNTED]


def figures(now: Iterable[int], before: Iterable[int]) -> Figures:
    """What a worker has served between two readings of its page."""
    # What is on the page may be anything: it is in the worker's memory.
    grown = [max(0, new - old) for new, old in zip(now, before, strict=True)]
    responses, rest = grown[:STATUS_CLASSES], grown[STATUS_CLASSES:]
    raised, bad, application_ns = rest[:_FAILURES]
    requests = sum(responses)
    # An exception leads to a 500, or comes after the head of another response.
    failed = max(responses[-1], raised + bad)
    return Figures(requests, min(failed, requests), application_ns / 1e9, tuple(rest[_FAILURES:]))


@dataclass(slots=True)
class Comparison:
    """One worker on probation, and what has stood on each page when it began, by the keys of the children."""

    generation: Generation
    bounds: Bounds
    began: dict[int, list[int]]
    old: dict[int, Figures]
    """What each old worker has served since, as far as is known; those that have exited included."""
    next_look: float
    next_share: float = 0.0
    """When it may get connections of the old workers."""


class Probation:
    """Watches the worker on probation of one server, where there is one that is to be compared."""

    def __init__(self, pool: Pool, children: ChildProcesses, progress: Progress) -> None:
        self._pool = pool
        self._children = children
        self._progress = progress
        self._present: Comparison | None = None
        self._first_failure: tuple[int, str] | None = None
        """The number of a generation, and the traceback of its first exception."""

    def request_failed(self, child: Child, message: RequestFailed) -> None:
        """The application of a worker on probation has raised an exception."""
        trial = self._pool.rollout.on_trial
        if trial is not None and child.generation == trial.number and self._trace_of(trial) is None:
            self._first_failure = trial.number, message.trace

    def next_due(self) -> float:
        """When `advance` has something to do that no event will announce; infinite if never."""
        return self._present.next_look if self._present is not None else math.inf

    def advance(self, now: float, at: float) -> None:
        """Compare, and abort the reload if the new worker does worse; ``at`` in seconds since the epoch.

        To be called before the rollout may settle.
        """
        rollout = self._pool.rollout
        trial = rollout.on_trial
        canary = self._canary(trial) if trial is not None and rollout.stage is Stage.PROBATION else None
        if trial is None or canary is None or trial.bounds is None or self._pool.stopping:
            self._end()
            return
        present = self._present
        if present is None or present.generation is not trial:
            self._present = present = self._begin(trial, trial.bounds, now)
        is_over = now >= rollout.settles_at
        if now >= present.next_share and not is_over:
            present.next_share = now + SHARE_EVERY_S
            self._share(canary)
        if now < present.next_look and not is_over:
            return
        present.next_look = now + _pace_s(trial.probation_s)
        self._judge(present, canary, now, at)

    def _trace_of(self, generation: Generation) -> str | None:
        first = self._first_failure
        return first[1] if first is not None and first[0] == generation.number else None

    def _canary(self, trial: Generation) -> Child | None:
        return next((c for c in self._pool.workers() if c.generation == trial.number and c.ready), None)

    def _begin(self, trial: Generation, bounds: Bounds, now: float) -> Comparison:
        began = {child.key: counted(self._children.link(child).page) for child in self._pool.workers()}
        return Comparison(trial, bounds, began, {}, now + _pace_s(trial.probation_s))

    def _judge(self, present: Comparison, canary: Child, now: float, at: float) -> None:
        is_over = now >= self._pool.rollout.settles_at
        for child in self._pool.workers():
            if self._is_old(child):
                present.old[child.key] = self._served(child, present, now)
        judgement, why = judge(self._served(canary, present, now), total(present.old.values()), present.bounds, is_over)
        if judgement is Judgement.WORSE:
            self._pool.rollout.abort()
            self._progress.did_worse(present.generation, why, self._trace_of(present.generation) or "", at)
        elif is_over:
            self._progress.compared(present.generation, judgement, why)
        if judgement is Judgement.WORSE or is_over:
            self._end()
            self._first_failure = None

    def _share(self, canary: Child) -> None:
        """Have old workers give of the connections that they keep to one that has too few."""
        old = [child for child in self._pool.workers() if self._is_old(child) and child.ready]
        others = {child.key: self._connections(child) for child in old}
        # A client that belongs to a slot stays there.
        binds = self._children.scheduling.policy == STICKY_POLICY
        donors = [child.key for child in old if not binds or child.slot == canary.slot]
        given = gifts(self._connections(canary), others, donors)
        if not given:
            return
        # The one with the same mailbox hears of it first, whether or not it gives any.
        for child in sorted(old, key=lambda child: child.slot != canary.slot):
            if child.key in given or child.slot == canary.slot:
                self._children.link(child).share_connections(given.get(child.key, 0), canary.slot)

    def _connections(self, child: Child) -> int:
        return self._children.link(child).page.cells[Cell.CONNECTIONS]

    def _end(self) -> None:
        """Nothing is compared any more: who has left mail to the worker on probation takes it again at once."""
        present, self._present = self._present, None
        if present is None:
            return
        for child in self._pool.workers():
            if child.ready and child.generation != present.generation.number:
                self._children.link(child).share_connections(0, 0)

    def _is_old(self, child: Child) -> bool:
        serving = self._pool.rollout.serving
        return serving is not None and child.generation == serving.number

    def _served(self, child: Child, present: Comparison, now: float) -> Figures:
        page = self._children.link(child).page
        found, started = counted(page), page.floats[Cell.STARTED]
        served = figures(found, present.began.get(child.key, [0] * len(found)))
        return dataclasses.replace(served, oldest_s=now - started if 0.0 < started < now else 0.0)


def _pace_s(probation_s: float) -> float:
    return max(LEAST_LOOK_S, min(LOOK_S, probation_s / LOOKS))
