"""Supervision: what happens to children goes into the pool, and what the planner orders is carried out.

What the operator or another part of the arbiter wants of the workers is a method here; how the workers are is its
`status`. Knows no signal that the arbiter itself gets and no listener.
"""

import math
import os
import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.plan import strength
from wsgicluster.arbiter.plan.child import End, Role
from wsgicluster.arbiter.plan.orders import Stopping
from wsgicluster.arbiter.plan.planner import Planner
from wsgicluster.arbiter.plan.requester import BY_OPERATOR, OPERATOR, ReloadRequest
from wsgicluster.arbiter.plan.rollout import Attempt, Generation, Result
from wsgicluster.arbiter.plan.status import ServiceStatus, status_of
from wsgicluster.arbiter.plan.support import wants
from wsgicluster.arbiter.postmortem import report
from wsgicluster.arbiter.supervision.autoscaler import Autoscaler
from wsgicluster.arbiter.supervision.child_messages import ChildMessages
from wsgicluster.arbiter.supervision.order_executor import OrderExecutor
from wsgicluster.arbiter.supervision.parts import SupervisionParts
from wsgicluster.clock import Clock
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Address, Settings

if TYPE_CHECKING:
    from wsgicluster.settings.tls_context import ContextBase


class Supervisor:
    """All children of one server; to be closed by its owner.

    It has many methods and little logic: each method is a verb of an operation, a fact that the rest of the arbiter
    asks for, or a step of the arbiter's turn, most of them of one or two lines. A class for each of the three would
    have the same parts behind it, and the arbiter three objects to ask.
    """

    def __init__(self, children: ChildProcesses, logs: Logs, clock: Clock) -> None:
        parts = SupervisionParts.of(children, logs, clock)
        self.observation = parts.observation
        """What those see who look at the children from outside."""
        self.events = parts.events
        self.messages = ChildMessages(parts)
        """What children send and request."""
        self._pool = parts.pool
        self._children = children
        self.progress = parts.progress
        """How far the service has come, and what is said of it."""
        self._probation = parts.probation
        self.failures = parts.failures
        """What has failed, and what the server exits with therefore."""
        self.scheduling = parts.scheduling
        """The policy that the workers follow, and how it is set."""
        self._reforker = parts.reforker
        self._autoscaler = Autoscaler(parts.pool, children, parts.events, parts.log)
        self._planner = Planner(parts.pool)
        self._executor = OrderExecutor(parts, self.messages.read)
        self._log = logs.error
        self._clock = clock
        self._numbers = 0

    def close(self) -> None:
        """Close the descriptors that only supervision needs."""
        self.failures.close()

    # What is wanted

    def reload(
        self,
        settings: Settings,
        listeners: Sequence[int],
        registered: object | None = None,
        changes: Mapping[str, str] | None = None,
        wanted: ReloadRequest = BY_OPERATOR,
        tls: "ContextBase | None" = None,
    ) -> None:
        """Try new settings and code, with the listeners of these numbers; the old ones serve until the new ones do.

        ``registered`` is what the configuration file has registered for the steward, ``changes`` what is different,
        ``wanted`` who has requested it and how, ``tls`` what its workers make their TLS contexts of.
        """
        self._numbers += 1
        by = wanted.by
        generation = Generation(self._numbers, settings, tuple(listeners), registered, by, tls, wanted.canary_s)
        if self._numbers > 1:
            self.events.reload(generation.number, "begun", by, changes=dict(changes or {}))
        elif wants(generation, Role.STEWARD):
            # So that it gets the events of the first workers, too.
            self._children.events.open()
        superseded = self._pool.reload(generation)
        self.scheduling.reload_begun(settings)
        self.failures.forget_failures()
        self._pool.rollout.last = Attempt(generation.number, Result.UNDER_WAY, self._clock.time())
        if superseded is not None:
            self._log.info("Generation %d superseded by a newer reload", superseded.number)
            self.events.reload(superseded.number, "superseded", superseded.by)

    def refuse(self, reason: str, by: str = OPERATOR) -> None:
        """A reload has been asked for, but there are no settings to try, for this reason."""
        self._pool.rollout.last = Attempt(0, Result.REFUSED, self._clock.time(), reason)
        self.events.reload(0, "refused", by, reason)

    def stop(self, how: Stopping) -> None:
        """End all children; never slower than asked before."""
        self._pool.stop(how)

    def prepare_stop(self) -> None:
        """A graceful stop begins in a moment: until then nothing is started, and children may exit already."""
        self._pool.stop_is_near = True

    def scale(self, more: int, by: str = OPERATOR) -> int:
        """Want so many workers more; returns how many are wanted then."""
        before = self._pool.rollout.workers
        return self._scaled(before, self._pool.rollout.scale(more, by))

    def remove_oldest(self, by: str = OPERATOR) -> int:
        """Want one worker less: the oldest, unless its slot means something to clients; returns how many are wanted."""
        rollout = self._pool.rollout
        found = strength.oldest(self._pool)
        if found is None or rollout.trial is not None or not self.scheduling.is_shared:
            return self.scale(-1, by)
        before = rollout.workers
        return self._scaled(before, rollout.vacate(found.slot, by))

    def _scaled(self, before: int, workers: int) -> int:
        if workers != before:
            self.events.scaled(before)
            self._children.hooks.workers_changed(workers, before)
        return workers

    def scale_to(self, workers: int, by: str = OPERATOR) -> int:
        """Want so many workers; returns how many are wanted then."""
        return self.scale(workers - self._pool.rollout.workers, by)

    def inherit_workers(self, workers: int) -> None:
        """Before any worker boots: want as many as the server before this one, where the settings have a range."""
        self._pool.rollout.inherit(workers)

    @property
    def workers_beside(self) -> int:
        """With how many workers a server that takes over from this one starts: as many, as far as there is memory."""
        return self._autoscaler.that_fit(self._pool.rollout.workers_unless_retired)

    @property
    def most_workers(self) -> int:
        """How many workers may be wanted at the most."""
        return self._pool.rollout.most

    def replace(self, slot: int, by: str) -> bool:
        """Replace the worker of a slot, once another one is ready; False where there is none to replace."""
        ready = [c for c in self._pool.workers() if c.slot == slot and c.ready and not c.asked]
        if not ready:
            return False
        for child in ready:
            if child.recycle is None:
                child.recycle, child.by = End.ASKED, by
                self.events.recycle(child, f"restart requested by the {by}")
        return True

    def admin_elsewhere(self, is_so: bool) -> None:
        """Want no admin worker while the server beside this one has its own at the address of both."""
        self._pool.support.admin_elsewhere = is_so

    def retire(self) -> None:
        """Want no worker, until `resume`, `scale` or a reload."""
        self._pool.rollout.retire_all()

    def resume(self) -> int:
        """Want the workers again that have retired; returns how many that are."""
        return self._pool.rollout.resume()

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to every child."""
        for child in self._pool.children.values():
            self._children.link(child).signal(number)

    # How it is

    def status(self, leaving: bool = False) -> ServiceStatus:
        """How the workers are now; ``leaving`` says that the server is about to stop."""
        return status_of(self._pool, self._clock.monotonic(), started=self.progress.started, leaving=leaving)

    @property
    def stopping(self) -> Stopping:
        """Whether all children are to end, and how fast."""
        return self._pool.stopping

    @property
    def serving(self) -> Settings | None:
        """The settings of the generation that serves."""
        generation = self._pool.rollout.serving
        return generation.settings if generation else None

    @property
    def listeners(self) -> set[int]:
        """The numbers of the listeners that the generation that serves, and the one on trial, need."""
        return self._pool.rollout.listeners

    @property
    def admin_addresses(self) -> set[Address]:
        """Where the admin workers of these generations listen."""
        return {address for each in self._pool.rollout.in_use for address in each.settings.admin_addresses}

    def pids(self) -> set[int]:
        """All processes of this server, as far as they are known."""
        return {os.getpid(), *(child.pid for child in self._pool.children.values())}

    # What happens

    def reap(self) -> None:
        """Take in which children have exited. An error with one of them is raised once all are reaped."""
        try:
            for child, ended in self._children.reap():
                try:
                    # Its last messages may not have been read yet.
                    self.messages.read(child.key)
                finally:
                    # Whatever becomes of those: it is not reported a second time that it has exited.
                    self.failures.exited(child, ended)
            while self._children.paused:
                child, stopped = self._children.paused.pop(0)
                self._log.warning("%s", report.paused(child, stopped))
                self._children.mailboxes.nudge()
        except Exception:
            # The kernel sends no second signal for those behind it, which would be zombies until another child exits.
            # Each call reaps at least one, so that this ends; a further error has this one as its context.
            self.reap()
            raise

    # What is due

    def check(self) -> None:
        """Find children that hang."""
        self.failures.check(self._clock.monotonic())

    def next_due(self) -> float:
        """When `check` or `carry_out` has something to do that no event will announce; infinite if never."""
        return min(
            self._planner.next_due(),
            self.failures.next_due(),
            self.progress.recovered_at(),
            self._probation.next_due(),
            self._autoscaler.next_due(),
            self._reforker.next_due(),
            self._children.events.next_due(self._clock.monotonic()),
            math.inf if self._pool.stopping else self._children.mailboxes.next_due(),
        )

    def carry_out(self) -> None:
        """Bring what is closer to what is wanted, and log it when that is reached."""
        now = self._clock.monotonic()
        self._probation.advance(now, self._clock.time())
        if self._pool.rollout.settle(now):
            self.scheduling.promoted()
            self.progress.promoted(self._clock.time())
        self._autoscaler.advance(now)
        self._reforker.advance(now)
        for child in self._pool.workers():
            if child.ready_at is None:
                child.takes_requests = self._children.link(child).takes_requests
        self._keep_events()
        if not self._pool.stopping:
            self._children.end_listeners(self.listeners)
            self._children.mailboxes.keep(self._pool.rollout.slots, now)
            self._children.tell_scheduling()
        else:
            self._children.mailboxes.hand_on()
        self._executor.carry_out(self._planner.plan(now), now)
        self.progress.update(now)

    def _keep_events(self) -> None:
        """Send what waits for the steward; drop it once no generation wants one and the last one has exited."""
        present = any(child.role is Role.STEWARD for child in self._pool.children.values())
        if present or any(wants(each, Role.STEWARD) for each in self._pool.rollout.in_use):
            self._children.events.send()
        else:
            self._children.events.close()
