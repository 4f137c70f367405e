"""What is logged about the workers as a whole: started, degraded, complete again.

Knows the pool and no process.
"""

import logging
import math
from collections.abc import Callable

from wsgicluster.arbiter.plan import strength
from wsgicluster.arbiter.plan.backoff import Wait
from wsgicluster.arbiter.plan.canary import Judgement
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.arbiter.plan.rollout import Attempt, Generation, Result
from wsgicluster.arbiter.postmortem import report
from wsgicluster.arbiter.supervision.events import EventReporter
from wsgicluster.counting import count_of


class Progress:
    """How far the server is; times in seconds of the monotonic clock."""

    def __init__(self, pool: Pool, events: EventReporter, log: logging.Logger) -> None:
        self._pool = pool
        self._events = events
        self._log = log
        self.started = False
        """As many workers as ``min_ready`` asks for have been ready at the same time."""
        self.on_started: Callable[[], object] = lambda: None
        """Called before that is logged: who has read it finds the server so."""
        self.waits: dict[int, Wait] = {}
        """The last wait of each slot that has had to wait for a worker."""
        self._is_degraded = False
        self._complete = 0
        """The newest generation of which all workers have been ready, which has been logged."""

    def promoted(self, at: float) -> None:
        """Another generation serves from now on; ``at`` in seconds since the epoch."""
        rollout = self._pool.rollout
        if rollout.serving is not None:
            rollout.last = Attempt(rollout.serving.number, Result.TOOK_OVER, at)
            if rollout.serving.number > 1:
                self._log.info("Generation %d is healthy and now serving", rollout.serving.number)

    def aborted(self, generation: Generation, what: str, reason: str) -> None:
        """A reload has failed, which ``what`` says for the log and ``reason`` for the event."""
        serving = self._pool.rollout.serving
        if serving is not None:
            self._log.error(
                "Reload aborted: generation %d %s; generation %d keeps serving", generation.number, what, serving.number
            )
            self._events.reload(generation.number, "aborted", generation.by, reason)

    def did_worse(self, generation: Generation, why: str, trace: str, at: float) -> None:
        """The first worker of a generation has done worse than the old ones; ``at`` in seconds since the epoch."""
        self._pool.rollout.last = Attempt(generation.number, Result.ABORTED, at, f"on probation {why}", trace)
        self.aborted(generation, f"did worse on probation: {why}", f"on probation {why}")
        if trace:
            self._log.error("The first exception of generation %d:\n%s", generation.number, trace.rstrip())

    def compared(self, generation: Generation, judgement: Judgement, why: str) -> None:
        """A probation is over, and the reload continues."""
        if judgement is Judgement.OPEN:
            text = "Generation %d could not be compared in %g s of probation: %s"
            self._log.warning(text, generation.number, generation.probation_s, why)
        else:
            self._log.info("Generation %d after %g s of probation: %s", generation.number, generation.probation_s, why)

    def degraded(self) -> None:
        """A worker is missing, which has been logged."""
        if not self._is_degraded:
            self._events.degraded()
        self._is_degraded = True

    def waiting(self, wait: Wait) -> None:
        """A slot waits for its next worker."""
        self.degraded()
        self.waits[wait.slot] = wait
        self._log.warning("%s", report.waiting(wait, strength.ready_slots(self._pool), self._pool.rollout.workers))

    def not_started(self, slot: int, reason: str, now: float) -> None:
        """A child could not be started; its slot waits."""
        self.degraded()
        self.waits[slot] = wait = self._pool.backoff.refused(slot, now)
        self._log.error(
            "%s", report.not_started(wait, reason, strength.ready_slots(self._pool), self._pool.rollout.workers)
        )

    def recovered_at(self) -> float:
        """When the workers will count as recovered, if nothing happens until then; infinite if never."""
        return strength.proven_at(self._pool) if self._is_degraded and strength.whole(self._pool) else math.inf

    def update(self, now: float) -> None:
        """Log what has been reached."""
        if self._pool.stopping:
            return
        if strength.enough(self._pool):
            self._say_started()
        if strength.whole(self._pool):
            self._say_complete(now)

    def _say_started(self) -> None:
        if not self.started:
            self.on_started()
        if not self.started and not strength.whole(self._pool):
            ready, wanted = strength.ready_slots(self._pool), self._pool.rollout.workers
            serve = count_of(wanted, "worker serves", "workers serve")
            if ready < wanted:
                self._log.info("Started: %d of %s, the others boot", ready, serve)
            else:  # not whole, because a reload has begun
                self._log.info("Started: %s", serve)
        self.started = True

    def _say_complete(self, now: float) -> None:
        rollout = self._pool.rollout
        if rollout.serving is not None and rollout.serving.number > self._complete:
            self._complete = rollout.serving.number
            what = "Reload complete" if rollout.serving.number > 1 else "Started"
            self._log.info("%s: %s", what, count_of(rollout.workers, "worker serves", "workers serve"))
            if rollout.serving.number > 1:
                self._events.reload(rollout.serving.number, "complete", rollout.serving.by)
        elif self._is_degraded and now >= strength.proven_at(self._pool):
            # Workers that die quickly are ready in between, which is not yet a recovery.
            all_of_them = "The worker serves" if rollout.workers == 1 else f"All {rollout.workers} workers serve"
            self._log.info("%s again", all_of_them)
            self._events.degraded(recovered=True)
            self._is_degraded = False
