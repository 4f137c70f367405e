"""What supervision consists of: the pool and what keeps record of it, made once for each server."""

import logging

from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.arbiter.supervision.events import EventReporter
from wsgicluster.arbiter.supervision.failures import ChildFailures
from wsgicluster.arbiter.supervision.observation import Observation
from wsgicluster.arbiter.supervision.probation import Probation
from wsgicluster.arbiter.supervision.progress import Progress
from wsgicluster.arbiter.supervision.reforking import Reforker
from wsgicluster.arbiter.supervision.scheduling import LiveScheduling
from wsgicluster.clock import Clock
from wsgicluster.dataclass import dataclass
from wsgicluster.logs.logs import Logs


@dataclass(frozen=True, slots=True)
class SupervisionParts:
    """The parts that all of supervision shares; ``failures`` is to be closed by their owner."""

    pool: Pool
    children: ChildProcesses
    events: EventReporter
    progress: Progress
    probation: Probation
    failures: ChildFailures
    scheduling: LiveScheduling
    reforker: Reforker
    observation: Observation
    log: logging.Logger
    clock: Clock

    @classmethod
    def of(cls, children: ChildProcesses, logs: Logs, clock: Clock) -> "SupervisionParts":
        """Those of a server that has no child yet."""
        pool = Pool()
        events = EventReporter(pool, children, clock)
        progress = Progress(pool, events, logs.error)
        observation = Observation(pool, children, progress.waits, clock)
        events.observers += [observation.exits.note, observation.tallies.note]
        probation = Probation(pool, children, progress)
        failures = ChildFailures(pool, children, progress, events, logs, clock)
        scheduling = LiveScheduling(pool, children, logs.error)
        reforker = Reforker(pool, children, events, logs.error)
        return cls(
            pool, children, events, progress, probation, failures, scheduling, reforker, observation, logs.error, clock
        )  # fmt: skip
