"""The plan for the roles beside the workers: when the steward and the jobs worker are started and stopped.

Pure. Each exists at most once: another one is started only after the last one has exited, since what waits for it in
its mailbox waits for its successor, too. It belongs to the generation that serves, and is replaced with that. Its end
has no effect on any worker.
"""

import math
from collections.abc import Iterable

from wsgicluster.arbiter.plan.backoff import Backoff, Wait
from wsgicluster.arbiter.plan.child import Child, Role
from wsgicluster.arbiter.plan.rollout import Generation

SUPPORT_ROLES = (Role.JOBS, Role.STEWARD)


def wants(generation: Generation, role: Role) -> bool:
    """Is there something for this role to do in a generation?"""
    if role is Role.JOBS:
        return generation.settings.jobs_worker
    return generation.registered is not None or bool(
        generation.settings.event_webhook or generation.settings.event_exec
    )


class SupportPlan:
    """What these roles need; times in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._backoff = Backoff()

    def missing(self, base: Generation | None, children: Iterable[Child], now: float) -> list[Role]:
        """The roles that are to be started now, for the generation ``base``."""
        present = {child.role for child in children}
        if base is None:
            return []
        return [
            role
            for role in SUPPORT_ROLES
            if role not in present and wants(base, role) and self._backoff.due(_key(role), now)
        ]

    def superfluous(self, base: Generation | None, children: Iterable[Child]) -> list[Child]:
        """The children of these roles that are to stop: replaced with the generation, or to be replaced."""
        return [
            child
            for child in children
            if child.role in SUPPORT_ROLES
            and not child.asked
            and (_is_outdated(child, base) or child.recycle is not None)
        ]

    def ended(self, child: Child, now: float) -> Wait:
        """A child of these roles has exited or hangs, unasked."""
        ready_s = 0.0 if child.ready_at is None else now - child.ready_at
        return self._backoff.died(_key(child.role), ready_s, now)

    def not_started(self, role: Role, now: float) -> Wait:
        """The system had no room for a process."""
        return self._backoff.refused(_key(role), now)

    def forget(self) -> None:
        """New code follows."""
        self._backoff.forget()

    def next_due(self, since: float) -> float:
        """When the next wait ends; infinite if there is none."""
        due = self._backoff.next_due(since)
        return math.inf if due is None else due


def _key(role: Role) -> int:
    return SUPPORT_ROLES.index(role)


def _is_outdated(child: Child, base: Generation | None) -> bool:
    return base is None or child.generation != base.number or not wants(base, child.role)
