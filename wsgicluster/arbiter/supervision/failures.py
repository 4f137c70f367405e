"""Children that fail to boot, hang or exit: the record of each, its log line, and what follows for its generation.

What follows is decided by the pool; why a child exited by `wsgicluster.arbiter.postmortem`.
"""

import math
import signal
from collections.abc import Sequence

from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.plan.backoff import Wait
from wsgicluster.arbiter.plan.child import UNEXPECTED_ENDS, Child, End, Input, Role, State, title_of
from wsgicluster.arbiter.plan.hang_detector import HangDetector
from wsgicluster.arbiter.plan.pool import DUMP_S, Pool, Verdict
from wsgicluster.arbiter.plan.rollout import Attempt, Result
from wsgicluster.arbiter.plan.support import SUPPORT_ROLES
from wsgicluster.arbiter.postmortem import report
from wsgicluster.arbiter.postmortem.diagnosis import Death, Exit, Hang, in_service
from wsgicluster.arbiter.postmortem.evidence import ExitInvestigator
from wsgicluster.arbiter.postmortem.forced_stop import ForcedStopReport
from wsgicluster.arbiter.supervision.events import EventReporter
from wsgicluster.arbiter.supervision.progress import Progress
from wsgicluster.clock import Clock
from wsgicluster.counting import count_of
from wsgicluster.errors import BootError, ForcedStop
from wsgicluster.ipc.messages import BootFailed
from wsgicluster.logs.logs import Logs
from wsgicluster.system import process
from wsgicluster.system.signals import DUMP_STACKS

SILENT_S = 1.0
"""How long a child may run that has closed its channel: usually it is about to exit."""


class ChildFailures:
    """The failures of one server's children; to be closed by its owner.

    ``exit_code`` is what the server exits with unless its stop was forced, ``forced`` what that has cut off.
    """

    def __init__(
        self,
        pool: Pool,
        children: ChildProcesses,
        progress: Progress,
        events: EventReporter,
        logs: Logs,
        clock: Clock,
    ) -> None:
        self.exit_code = 0
        self.forced = ForcedStopReport()
        self._pool = pool
        self._children = children
        self._progress = progress
        self._events = events
        self._log = logs.error
        self._clock = clock
        self._investigator = ExitInvestigator(clock)
        self._hang_detector = HangDetector()
        self._dumps: dict[int, float] = {}
        """Children that hang, and until when they have time to write their stacks."""

        self._silent: dict[int, float] = {}
        """Children that have closed their channels, and when those that still run are to be replaced."""

    @property
    def final_exit_code(self) -> int:
        """What the server exits with if it ends now: like `exit_code`, unless its stop was forced."""
        return self.exit_code or (ForcedStop.exit_code if self.forced else 0)

    @property
    def deaths(self) -> Sequence[Death]:
        """The last unexpected exits, oldest first."""
        return self._investigator.deaths

    def forget_failures(self) -> None:
        """New code is tried: a failure of the old one is not a repeated one."""
        self._investigator.failures.forget()

    def expect_beat(self, deadline: float) -> None:
        """A new child has this beat deadline."""
        self._hang_detector.expect(deadline)

    def broken(self, child: Child, summary: str, trace: str) -> None:
        """A child has reported a fault of the server's own code, because of which it exits."""
        self._investigator.reported(child, summary, trace)

    def cannot_boot(self, child: Child, message: BootFailed, now: float) -> None:
        """A child has reported why it cannot boot."""
        verdict, wait = self._pool.cannot_boot(child, now)
        if verdict is Verdict.NOTHING:
            return
        self._investigator.reported(child, message.summary, message.trace)
        before = self._investigator.failures.another(message.summary, message.trace)
        self._log.error("%s", report.cannot_boot(child, message.summary, message.trace, before))
        self._judged(child, verdict, wait, (message.summary, message.trace), message.exit_code)

    def not_started(self, child: Child) -> None:
        """A child's process will never be known; if there is one, it exits when it finds its channel closed."""
        # Of one that a worker was to fork more is known elsewhere, and another mold may be started at once.
        if child.state is State.FORKED and not child.promoted:
            self._progress.not_started(child.slot, "its mold could not fork it", self._clock.monotonic())
        self._events.disconnected(child)
        child.take(Input.EXITED)
        self._pool.remove(child)
        self._release(child)

    def exited(self, child: Child, ended: Exit) -> None:
        """A child has exited."""
        now = self._clock.monotonic()
        self._dumps.pop(child.key, None)
        is_stopping = bool(self._pool.stopping) or self._pool.stop_is_near
        end = self._investigator.why(child, ended, now, is_stopping)
        facts = self._children.link(child).facts()
        asked = bool(child.asked) or is_stopping
        if self._pool.stopping:
            self.forced.note(child, end, facts)
        if is_stopping and end is End.ASKED and not child.by:
            child.by = self._pool.stop_requested_by(child)
        verdict, wait = self._pool.exited(child, end, now, in_service(end, facts))
        try:
            self._record(child, ended, end, asked=asked)
        finally:
            # Even where no record of it can be made: its process is not there any more, and the slot may get another.
            self._judged(child, verdict, wait, (f"{child}: {end.value}, {ended}", ""))
            self._release(child)

    def _record(self, child: Child, ended: Exit, end: End, *, asked: bool) -> None:
        """Log how a child has exited, and report the event."""
        link, death = self._children.link(child), None
        facts = link.facts()
        if end in UNEXPECTED_ENDS or end in (End.TIMED_OUT, End.BOOT_FAILED):
            self._children.mailboxes.nudge()
            death = self._investigator.examine(child, ended, facts, link.stacks())
            if end is not End.BOOT_FAILED:  # which has been logged when the child reported it
                self._log.error("%s", report.death(death))
        elif end is not End.CUT and asked:
            served = (
                f", {count_of(facts.requests, 'request')} served"
                if facts is not None and child.role is Role.WORKER
                else ""
            )
            self._log.info("%s exited: %s%s", child, end.value, served)
        self._events.exited(child, ended, facts, death)

    def silent(self, child: Child, now: float) -> None:
        """A child has closed its channel: it has exited, or is about to, or its application has closed it."""
        self._silent.setdefault(child.key, now + SILENT_S)

    def _replace_silent(self, child: Child | None) -> None:
        """A worker that still runs without a channel can neither request anything nor receive anything."""
        if child is not None and child.ready and child.role is Role.WORKER and not child.asked:
            self._log.warning("%s has closed its channel to the arbiter: it will be replaced", child)
            child.recycle = End.RECYCLED_CHANNEL
            self._events.recycle(child, "it has closed its channel to the arbiter")

    def _release(self, child: Child) -> None:
        self._silent.pop(child.key, None)
        self._investigator.forget(child)
        self._children.release(child)

    def _judged(
        self,
        child: Child,
        verdict: Verdict,
        wait: Wait | None,
        why: tuple[str, str],
        exit_code: int = BootError.exit_code,
    ) -> None:
        """Log the verdict; ``why`` is one line and a traceback, ``exit_code`` the server's if it halts."""
        rollout = self._pool.rollout
        if child.role in SUPPORT_ROLES:
            if wait is not None and wait.wait_s:
                self._log.warning("%s: the next one starts in %g s", title_of(child.role, 0), wait.wait_s)
            return
        if verdict in (Verdict.ABORT, Verdict.HALT):
            rollout.last = Attempt(child.generation, Result.ABORTED, self._clock.time(), *why)
        if verdict is Verdict.ABORT and rollout.aborted is not None:
            self._progress.aborted(rollout.aborted, "failed to start", why[0])
        elif verdict is Verdict.HALT:
            self.exit_code = exit_code
            self._log.error("No worker has ever booted: the server exits with exit code %d", exit_code)
        elif verdict is Verdict.WAIT and wait is not None:
            self._progress.waiting(wait)
        elif verdict is Verdict.REPLACE:
            self._progress.degraded()  # logged with the record of the exit

    # Hangs

    def check(self, now: float) -> None:
        """Find children past their beat deadline, and end those that have had time to write their stacks."""
        self._investigator.count_victims(now)
        for key, due in list(self._dumps.items()):
            if now >= due:
                del self._dumps[key]
                self._children.link(self._pool.children[key]).signal(signal.SIGABRT)
        for key in [key for key, due in self._silent.items() if now >= due]:
            del self._silent[key]
            self._replace_silent(self._pool.children.get(key))
        watched = [c for c in self._pool.children.values() if c.unborn or c.state is not State.KILLED]
        deadlines = {child.key: self._children.link(child).beat_deadline for child in watched}
        for key in self._hang_detector.missed(deadlines, self._shortest_timeout(), now):
            child = self._pool.children[key]
            if not child.unborn:
                self._hangs(child, now)
            elif child.mold not in self._pool.children:
                self.not_started(child)
            elif self._pool.children[child.mold].ready:
                self._hangs(self._pool.children[child.mold], now)

    def _shortest_timeout(self) -> float:
        """The shortest ``timeout`` that a child has, in seconds; 0.0 for none."""
        timeouts = [self._pool.settings(child).timeout for child in self._pool.children.values()]
        return min((timeout_s for timeout_s in timeouts if timeout_s > 0), default=0.0)

    def _hangs(self, child: Child, now: float) -> None:
        link, timeout_s = self._children.link(child), self._pool.settings(child).timeout
        facts = link.facts()
        self._investigator.hangs(child, Hang(timeout_s, facts, now, process.state_letter(child.pid)))
        self._events.timed_out(child, timeout_s)
        # In Gunicorn's words: alerts look for them.
        self._log.critical("WORKER TIMEOUT (pid:%d): %s has not reported for %g s", child.pid, child, timeout_s)
        if link.is_profiled:
            link.clear_stacks()
        link.signal(DUMP_STACKS)
        self._dumps[child.key] = now + DUMP_S
        verdict, wait = self._pool.hung(child, now, in_service(End.TIMED_OUT, facts))
        self._judged(child, verdict, wait, (f"{child}: not ready within timeout", ""))

    def next_due(self) -> float:
        """When `check` has something to do that no event will announce; infinite if never."""
        return min([self._hang_detector.next_look, *self._dumps.values(), *self._silent.values()], default=math.inf)

    def close(self) -> None:
        """Close the descriptors."""
        self._investigator.close()
