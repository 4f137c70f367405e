"""Has the number of workers follow their load, where the settings have a range: looks, asks the policy, and scales.

It reads the pages of workers, the queues of listeners and what memory is available; what follows from that is decided
by `wsgicluster.arbiter.plan.autoscaling`. Without a range it does nothing, and never wakes the arbiter.
"""

import logging
import math

from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.plan.autoscaling import (
    LOOK_S,
    Autoscaling,
    Limits,
    Look,
    ScalingStep,
    WorkerSample,
    busy_share,
    room_for,
)
from wsgicluster.arbiter.plan.child import Child
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.arbiter.plan.requester import AUTOSCALING
from wsgicluster.arbiter.supervision.events import EventReporter
from wsgicluster.counting import count_of
from wsgicluster.ipc.scoreboard import STATUS_CLASSES, Cell, Page
from wsgicluster.settings import Settings
from wsgicluster.settings.types.worker import kind_row
from wsgicluster.system import cgroup
from wsgicluster.system.network.listen_queues import waiting_connections

LEAST_S = 0.2
"""What a worker has done in less time than this says nothing."""


def read_page(page: Page, processor_s: float, now: float) -> WorkerSample:
    """What a worker's page tells at this moment."""
    cells, oldest_at = page.cells, page.floats[Cell.STARTED]
    return WorkerSample(
        at=now,
        requests=sum(page.counted(Cell.RESPONSES + each) for each in range(STATUS_CLASSES)),
        busy_s=page.counted(Cell.DURATION_NS) / 1e9,
        queue_s=page.counted(Cell.QUEUE_NS) / 1e9,
        processor_s=processor_s,
        running=max(cells[Cell.RUNNING], int(oldest_at > 0.0)),
        oldest_at=oldest_at if 0.0 < oldest_at <= now else 0.0,
    )


class Autoscaler:
    """Of one server; times in seconds of the monotonic clock."""

    def __init__(self, pool: Pool, children: ChildProcesses, events: EventReporter, log: logging.Logger) -> None:
        self._pool = pool
        self._children = children
        self._events = events
        self._log = log
        self._policy = Autoscaling()
        self._before: dict[int, WorkerSample] = {}
        """The last reading of each worker, by its key."""
        self._next_look = math.inf
        self._said_full = False
        """It has been logged that no memory is left for more workers."""

    def next_due(self) -> float:
        """When `advance` has something to do that no event will announce; infinite without a range."""
        return self._next_look

    def advance(self, now: float) -> None:
        """Make the step that is due, if any."""
        serving = self._pool.rollout.serving
        if serving is None or not serving.settings.has_worker_range or self._pool.stopping:
            self._next_look = math.inf
            return
        if self._next_look == math.inf:
            self._next_look = now
        if now < self._next_look:
            return
        self._next_look = now + LOOK_S
        look = self._look(now)
        # New workers would load code that is on trial.
        if self._pool.rollout.trial is not None or self._pool.rollout.retired:
            self._policy.pause()
            return
        settings = serving.settings
        limits = Limits(int(settings.workers), settings.workers_most, settings.worker_idle_timeout)
        step = self._policy.decide(look, limits)
        if step is None:
            return
        if step.workers > look.wanted:
            step = self._that_fits(step, look.wanted)
        if step is not None:
            self._policy.took(step)
            self._scale(step, look.wanted)

    def _scale(self, step: ScalingStep, before: int) -> None:
        self._pool.rollout.scale(step.workers - before, AUTOSCALING)
        self._log.info("Autoscaling: %d -> %s, %s", before, count_of(step.workers, "worker"), step)
        self._events.scaled(before, str(step))
        self._children.hooks.workers_changed(self._pool.rollout.workers, before)

    def _that_fits(self, step: ScalingStep, wanted: int) -> ScalingStep | None:
        """The step, or as much of it as there is memory for."""
        available, largest = cgroup.available_memory_bytes(), self._largest_bytes()
        room = step.workers - wanted if available is None else room_for(available, largest)
        if room > 0:
            self._said_full = False
            return ScalingStep(min(step.workers, wanted + room), step.reason, step.numbers)
        if not self._said_full:
            self._said_full = True
            self._log.warning(
                "Autoscaling: no worker is added (%s): %d MiB of memory are available, the largest worker has %d MiB",
                step,
                (available or 0) >> 20,
                largest >> 20,
            )
        return None

    def that_fit(self, workers: int) -> int:
        """For how many of so many workers, as large as those here, there is memory beside these."""
        available = cgroup.available_memory_bytes()
        return workers if available is None else min(workers, room_for(available, self._largest_bytes()))

    def _largest_bytes(self) -> int:
        pages = [self._children.link(child).page for child in self._pool.workers() if child.ready]
        return max((page.cells[Cell.RESIDENT] for page in pages), default=0)

    def _look(self, now: float) -> Look:
        """What there is to see since the last look; workers that are ready since a moment ago do not count yet."""
        rollout = self._pool.rollout
        wanted, slots, load = rollout.workers, set[int](), 0.0
        requests, waited_s, found = 0, 0.0, dict[int, WorkerSample]()
        for child in self._pool.workers():
            if not child.ready or child.slot not in rollout.slots:
                continue
            found[child.key] = reading = self._read(child, now)
            before = self._baseline(child, reading)
            if before is None or child.slot in slots:
                continue
            slots.add(child.slot)
            load += busy_share(before, reading, threads_of(self._pool.settings(child)))
            requests += reading.requests - before.requests
            waited_s += reading.queue_s - before.queue_s
        self._before = found
        wait_s = waited_s / requests if requests > 0 else 0.0
        return Look(now, wanted, len(slots), load, self._waiting(), max(0.0, wait_s))

    def _read(self, child: Child, now: float) -> WorkerSample:
        link = self._children.link(child)
        return read_page(link.page, link.processor_s(), now)

    def _baseline(self, child: Child, reading: WorkerSample) -> WorkerSample | None:
        """What a worker is compared with: its last sample, or when it was ready if that is long enough ago."""
        before = self._before.get(child.key)
        if before is None and child.ready_at is not None and reading.at - child.ready_at >= LEAST_S:
            # It has taken processor time for its boot, too, which does not count.
            return WorkerSample(child.ready_at, processor_s=reading.processor_s)
        return before

    def _waiting(self) -> int:
        """How many connections wait to be accepted, at all addresses."""
        numbers = self._pool.rollout.listeners
        return sum(waiting_connections(sock) for _, sock in self._children.sockets(numbers))


def threads_of(settings: Settings) -> int:
    """How many requests a worker runs at a time; 0 where there is no limit."""
    row = kind_row(settings.worker_class)
    return 0 if row.cooperative else settings.threads
