"""How a worker stands at a moment, as the intake policy is asked with it."""

from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.intake.policy import Snapshot
from wsgicluster.worker.runner import Load


def snapshot(
    context: WorkerContext,
    load: Load,
    now: float,
    siblings_ready: int = 0,
    over_admitted: int = 0,
    siblings_had_time: bool = False,
) -> Snapshot:
    """How a worker stands at a moment."""
    return Snapshot(
        now=now,
        open=len(context.connections),
        most_open=context.most_open,
        running=len(load.running),
        queued=len(load.queue.waiting),
        capacity=load.capacity,
        oldest_s=load.oldest_s(now),
        siblings_ready=siblings_ready,
        held=context.state.held,
        draining=context.state.leaving,
        over_admitted=over_admitted,
        siblings_had_time=siblings_had_time,
        batch=load.batch,
        meets_probes=bool(context.settings.health_path or context.settings.ready_path),
    )
