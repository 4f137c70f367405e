"""How a server is doing, as other parts of it and a service manager see it. Pure: a value, made from the pool."""

from wsgicluster.arbiter.plan.orders import Stopping
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.arbiter.plan.rollout import Attempt
from wsgicluster.arbiter.plan.strength import ready_slots
from wsgicluster.counting import count_of
from wsgicluster.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """Workers ready and wanted, which generation serves (0: none yet), and what is under way."""

    ready: int
    wanted: int
    generation: int
    enough: bool
    """So many are ready that the server counts as started."""
    started: bool = False
    """So many have been ready before."""
    rolling: bool = False
    """A reload is not over yet."""
    on_trial: bool = False
    """A generation has been begun and does not serve yet."""
    retired: bool = False
    """No worker is wanted for the time being."""
    degraded: bool = False
    """Workers are missing because they die, or cannot be started."""
    leaving: bool = False
    """It serves as before, but is about to stop."""
    stopping: Stopping = Stopping.NO
    is_over: bool = False
    """It was stopped, and no child is left."""
    last: Attempt | None = None
    """How the newest reload went."""

    @property
    def serving(self) -> bool:
        """Are there workers, and will there be?"""
        return self.ready > 0 and self.wanted > 0 and not self.stopping

    def __str__(self) -> str:
        text = f"{self.ready} of {count_of(self.wanted, 'worker')} ready, generation {self.generation}"
        if self.stopping:
            return f"stopping, {text}"
        if self.leaving:
            return f"about to stop, {text}"
        return text + (", degraded" if self.degraded else "") + (", reloading" if self.rolling else "")


def status_of(pool: Pool, now: float, *, started: bool = False, leaving: bool = False) -> ServiceStatus:
    """How the workers of ``pool`` are.

    ``started`` says that enough of them have been ready, ``leaving`` that the server is about to stop.
    """
    rollout = pool.rollout
    serving = rollout.serving.number if rollout.serving is not None else 0
    ready, wanted = ready_slots(pool), rollout.workers
    behind = any(child.ready and child.generation < serving for child in pool.workers())
    return ServiceStatus(
        ready=ready,
        wanted=wanted,
        generation=serving,
        enough=0 < rollout.least_ready <= ready,
        started=started,
        rolling=serving > 0 and (rollout.trial is not None or behind),
        on_trial=rollout.trial is not None,
        retired=rollout.retired,
        degraded=ready < wanted and pool.backoff.next_due(now) is not None,
        leaving=leaving,
        stopping=pool.stopping,
        is_over=bool(pool.stopping) and not pool.children,
        last=rollout.last,
    )
