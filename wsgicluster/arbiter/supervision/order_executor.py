"""Carries out the orders of the plan: children are started, and their stop is requested or forced.

Decides nothing: what cannot be done now is reported, and the next plan orders it again.
"""

import functools
from collections.abc import Callable, Sequence

from wsgicluster.arbiter.children import fork
from wsgicluster.arbiter.children.prepared import PreparedChild
from wsgicluster.arbiter.plan.child import Ask, Child, End, Role, State, title_of
from wsgicluster.arbiter.plan.orders import Order, Spawn, Stop
from wsgicluster.arbiter.plan.support import SUPPORT_ROLES
from wsgicluster.arbiter.postmortem import report
from wsgicluster.arbiter.supervision.parts import SupervisionParts
from wsgicluster.errors import ServerError

MOST_TOGETHER = 32
"""How many children are prepared at once: until it is forked, each takes one descriptor more than after."""


class OrderExecutor:
    """Carries out the orders for one pool; ``read`` is called with the key of a child that has sent something."""

    def __init__(self, parts: SupervisionParts, read: Callable[[int], object]) -> None:
        self._pool = parts.pool
        self._children = parts.children
        self._progress = parts.progress
        self._failures = parts.failures
        self._events = parts.events
        self._log = parts.log
        self._read = read

    def carry_out(self, orders: Sequence[Order], now: float) -> None:
        """Do what is ordered, one after the other, and note it in the pool.

        Children that are started together are all prepared before the first is forked, and looked after once the last
        is. What this process writes between two forks, it has to copy first, page by page, and the older child stays
        alone with the pages as they were before: that was 1 to 2 MB, of which a worker would not have changed a third.
        """
        waiting: list[PreparedChild] = []
        try:
            for order in orders:
                if isinstance(order, Spawn):
                    waiting += self._prepare(order, now)
                    if self._children.can_wait and len(waiting) < MOST_TOGETHER:
                        continue
                together, waiting = waiting, []
                self._start(together, now)
                if isinstance(order, Stop):
                    self._stop(order, now)
        finally:
            # A fault with one order is none of those before it.
            self._start(waiting, now)

    def _prepare(self, order: Spawn, now: float) -> Sequence[PreparedChild]:
        """The child; nothing where there is no room for it, which is reported."""
        try:
            return (self._children.prepare(order, self._pool.generations[order.generation], now),)
        except (OSError, ServerError, MemoryError) as error:
            self._not_started(order.role, order.slot, error, now)
        return ()

    def _start(self, together: Sequence[PreparedChild], now: float) -> None:
        if not together:
            return
        started: list[PreparedChild] = []
        errors: list[tuple[Child, Exception]] = []
        try:
            with fork.together():
                for prepared in together:
                    try:
                        prepared.start()
                    except (OSError, ServerError, MemoryError) as error:
                        errors.append((prepared.link.child, error))
                    else:
                        started.append(prepared)
        finally:
            # Whatever happens, a process that was made has to be known.
            for prepared in started:
                self._adopt(prepared, now)
        for child, reason in errors:
            self._not_started(child.role, child.slot, reason, now)

    def _adopt(self, started: PreparedChild, now: float) -> None:
        child = self._children.adopt(started)
        self._pool.add(child)
        self._events.forked(child)
        self._children.watch(child, functools.partial(self._read, child.key))
        timeout_s = self._pool.settings(child).timeout
        if timeout_s > 0:
            self._failures.expect_beat(now + timeout_s)
        self._log.debug("%s started", child)

    def _not_started(self, role: Role, slot: int, error: Exception, now: float) -> None:
        """There is no process, descriptor or memory to be had now, which may pass; the others keep serving."""
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if role in SUPPORT_ROLES:
            wait = self._pool.support.not_started(role, now)
            title = title_of(role, 0)
            self._log.error("%s cannot be started: %s; next attempt in %g s", title, reason, wait.wait_s)
            return
        self._progress.not_started(slot, reason or "out of memory", now)

    def _stop(self, order: Stop, now: float) -> None:
        child = self._pool.children[order.key]
        graceful_s = self._pool.settings(child).graceful_timeout
        link = self._children.link(child)
        if child.unborn and child.state is State.KILLED and child.mold not in self._pool.children:
            self._failures.not_started(child)
            return
        if order.cut and child.end is None and child.state is State.DRAINING:
            if child.asked is Ask.DRAIN:
                self._log.warning("%s", report.cut(child, link.facts(), now, graceful_s))
            else:
                self._log.warning("%s did not exit on SIGQUIT; sending SIGKILL", child)
            child.end = End.CUT
        if order.ask is Ask.KILL and child.kills == 1 and child.pid:
            self._log.error("%s", report.unkillable(child))
        if not child.asked:
            child.by = self._pool.stop_requested_by(child)
            if order.ask is not Ask.KILL:
                self._events.draining(child)
        self._pool.asked(child, order.ask, now, graceful_s)
        link.request_stop(order.ask)
