"""The plan for the roles beside the workers: when steward, jobs worker and admin worker are started and stopped.

Pure. Each exists at most once: another one is started only after the last one has exited, since what waits for it in
its mailbox waits for its successor, too. It belongs to the generation that serves, and is replaced with that. Its end
has no effect on any worker.
"""

import math
from collections.abc import Iterable

from wsgicluster.arbiter.plan.backoff import Backoff, Wait
from wsgicluster.arbiter.plan.child import Child, Role
from wsgicluster.arbiter.plan.rollout import Generation

SUPPORT_ROLES = (Role.JOBS, Role.STEWARD, Role.ADMIN)


def wants(generation: Generation, role: Role) -> bool:
    """Is there something for this role to do in a generation?"""
    if role is Role.JOBS:
        return generation.settings.jobs_worker
    if role is Role.ADMIN:
        return generation.settings.admin is not None
    return generation.registered is not None or bool(
        generation.settings.event_webhook or generation.settings.event_exec
    )


class SupportPlan:
    """What these roles need; times in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._backoff = Backoff()
        self.admin_elsewhere = False
        """The server beside this one listens at the same admin address, and is the one to answer there."""

    def missing(self, base: Generation | None, children: Iterable[Child], now: float) -> list[Role]:
        """The roles that are to be started now, for the generation ``base``."""
        present = {child.role for child in children}
        if base is None:
            return []
        return [
            role
            for role in SUPPORT_ROLES
            if role not in present and self._wants(base, role) and self._backoff.due(_key(role), now)
        ]

    def _wants(self, base: Generation, role: Role) -> bool:
        return wants(base, role) and not (role is Role.ADMIN and self.admin_elsewhere)

    def superfluous(self, base: Generation | None, children: Iterable[Child]) -> list[Child]:
        """The children of these roles that are to stop: replaced with the generation, or to be replaced."""
        return [
            child
            for child in children
            if child.role in SUPPORT_ROLES
            and not child.asked
            and (self._is_outdated(child, base) or child.recycle is not None)
        ]

    def _is_outdated(self, child: Child, base: Generation | None) -> bool:
        return base is None or child.generation != base.number or not self._wants(base, child.role)

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
