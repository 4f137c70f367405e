"""The pool: all children, the generations, what is wanted of them, and what follows from what happens to them.

Pure: events and times in, verdicts out. What to do about it, `wsgicluster.arbiter.plan.planner` orders. A generation
that does not work changes nothing, and boots that fail back off, whatever the reason of a change.
"""

import dataclasses
import enum

from wsgicluster.arbiter.plan.backoff import Backoff, Wait
from wsgicluster.arbiter.plan.child import Ask, Child, End, Input, Role, State
from wsgicluster.arbiter.plan.orders import Stopping
from wsgicluster.arbiter.plan.requester import APPLICATION, ARBITER, OPERATOR
from wsgicluster.arbiter.plan.rollout import Generation, Rollout, Stage
from wsgicluster.arbiter.plan.support import SUPPORT_ROLES, SupportPlan
from wsgicluster.settings import Settings

DUMP_S = 0.15
"""How long a child that hangs has to write down its stacks."""

QUICK_STOP_S = 2.0
"""A child that was to exit at once is killed after this."""

DRAIN_MARGIN_S = 0.3
"""Workers end their drain by themselves at ``graceful_timeout``; they get this long to do so."""

HANG_S = DUMP_S + 1.0
"""A child that hangs is killed after this: it has shown its stacks, and had a second to obey ``ABRT``."""

KILL_REPEAT_S = 5.0
"""A kill is repeated, should a process in the kernel's hands not have ended."""


class Verdict(enum.Enum):
    """What the loss of a child means."""

    NOTHING = "nothing"
    REPLACE = "replace"
    WAIT = "wait"
    """Replace it, but not at once: see the wait."""
    ABORT = "abort"
    """The generation on trial does not work."""
    HALT = "halt"
    """No generation has ever worked."""


class Pool:
    """All children, the generations, and what is wanted of them."""

    def __init__(self) -> None:
        self.rollout = Rollout()
        self.generations: dict[int, Generation] = {}
        """Those that may get workers or still have children, by number."""
        self.backoff = Backoff()
        self.support = SupportPlan()
        self.children: dict[int, Child] = {}
        self.stopping = Stopping.NO
        self.stop_is_near = False
        """A graceful stop begins in a moment: children may exit already, if all processes have got the signal."""
        self._stopped_by = OPERATOR

    # What happens

    def add(self, child: Child) -> None:
        """A child has been started, as ordered."""
        self.children[child.key] = child
        if child.role not in SUPPORT_ROLES:
            self.backoff.made(child.slot, child.forked_at)

    def reload(self, generation: Generation) -> Generation | None:
        """Try new settings and code; returns the generation that this supersedes, if any."""
        self.backoff.forget()
        self.support.forget()
        superseded = self.rollout.begin(generation)
        self.generations[generation.number] = generation
        self._forget_generations()
        return superseded

    def _forget_generations(self) -> None:
        """Drop those that are of no use any more, else each reload would leave one behind."""
        children = {child.generation for child in self.children.values()}
        for number in [each for each in self.generations if each not in children and not self.rollout.wanted(each)]:
            del self.generations[number]

    def stop(self, how: Stopping, by: str = OPERATOR) -> None:
        """End the server; never slower than asked before. ``by`` is who has requested it, as events name it."""
        if how > self.stopping:
            self.stopping, self._stopped_by = how, by

    def ready(self, child: Child, now: float) -> bool:
        """A child is ready; True when its generation has thereby become the one that serves."""
        child.take(Input.READY)
        if not child.ready:
            return False
        child.ready_at = now
        trial = self.rollout.trial
        first = trial is not None and trial.number == child.generation and child.role is Role.WORKER
        if first and self.rollout.stage in (Stage.FIRST, Stage.TRIAL):
            return self.rollout.first_ready(now)
        return False

    def hung(self, child: Child, now: float, in_service: bool = False) -> tuple[Verdict, Wait | None]:
        """A child is past its beat deadline; it is replaced before it has exited. See `exited`."""
        state = child.state
        child.take(Input.BEAT_MISSED)
        child.end = End.TIMED_OUT
        child.deadline = now + HANG_S
        if state is State.DRAINING:
            return Verdict.NOTHING, None
        return self._judge(child, state, now, in_service)

    def cannot_boot(self, child: Child, now: float) -> tuple[Verdict, Wait | None]:
        """A child has reported that it cannot boot."""
        if child.state is not State.BOOTING:
            return Verdict.NOTHING, None
        child.boot_failed = True
        child.end = End.BOOT_FAILED
        return self._judge(child, State.BOOTING, now)

    def exited(self, child: Child, end: End, now: float, in_service: bool = False) -> tuple[Verdict, Wait | None]:
        """A child's process has exited; ``in_service`` says that its boot is not to blame."""
        state, judged = child.state, child.boot_failed or child.end is End.TIMED_OUT
        child.take(Input.EXITED)
        child.end = end
        self.remove(child)
        if judged or state in (State.DRAINING, State.KILLED):
            return Verdict.NOTHING, None
        return self._judge(child, state, now, in_service)

    def remove(self, child: Child) -> None:
        """There is no process of this child, any more or at all."""
        del self.children[child.key]
        self._forget_generations()

    def _judge(self, child: Child, state: State, now: float, in_service: bool = False) -> tuple[Verdict, Wait | None]:
        """What the loss of a child means that was in ``state``, unasked."""
        if self.stopping or self.stop_is_near:
            return Verdict.NOTHING, None
        if child.role in SUPPORT_ROLES:
            wait = self.support.ended(child, now)
            return Verdict.WAIT if wait.wait_s else Verdict.NOTHING, wait
        trial = self.rollout.trial
        on_trial = trial is not None and trial.number == child.generation
        if not on_trial and not (self.rollout.serving and self.rollout.serving.number == child.generation):
            if state is not State.READY:
                return Verdict.NOTHING, None  # of a generation that was aborted or superseded
        # One that exits by itself before it was ready will do so again.
        left = child.end is End.LEFT and state is State.READY
        outside = left or child.end is End.KILLED_FROM_OUTSIDE
        if on_trial and self.rollout.serving is not None:
            self.rollout.abort()
            return Verdict.ABORT, None
        if on_trial and not outside:
            self.rollout.abort()
            self.stop(Stopping.QUICK, ARBITER)
            return Verdict.HALT, None
        ready_s = 0.0 if child.ready_at is None else now - child.ready_at
        wait = self.backoff.died(child.slot, ready_s, now, in_service=in_service and child.ready_at is not None)
        if wait.deaths or wait.wait_s:
            return Verdict.WAIT, dataclasses.replace(wait, wait_s=self.backoff.end(wait, self.is_unserved()) - now)
        return Verdict.REPLACE, wait

    # How it is

    def workers(self) -> list[Child]:
        """All children that are workers, oldest first."""
        return [child for child in self.children.values() if child.role is Role.WORKER]

    def settings(self, child: Child) -> Settings:
        """Those that a child was started with."""
        return self.generations[child.generation].settings

    def is_unserved(self) -> bool:
        """Does no worker serve, and none boot? Then a wait costs every client, not only a part of the strength."""
        return not any(child.ready or child.coming for child in self.workers())

    def stop_requested_by(self, child: Child) -> str:
        """Who has caused that this child is to stop or to be replaced, as events name it."""
        serving, trial = self.rollout.serving, self.rollout.trial
        if child.by:
            return child.by
        if child.recycle is not None:
            return APPLICATION if child.recycle is End.RECYCLED_APPLICATION else ARBITER
        if self.stopping or self.stop_is_near:
            return self._stopped_by
        if serving is not None and child.generation < serving.number:
            return serving.by
        if child.role is Role.WORKER and child.slot not in self.rollout.slots:
            return self.rollout.scaled_by
        # Stopped in favour of a generation on trial; otherwise its own was aborted.
        return trial.by if trial is not None and child.generation < trial.number else ARBITER

    # What was done

    def asked(self, child: Child, ask: Ask, now: float, graceful_s: float) -> None:
        """An order to stop has been carried out: the signal has been sent, or will be once its pid is known."""
        if ask is Ask.KILL:
            if child.state is not State.DRAINING:
                child.take(Input.STOP_WANTED)
            child.take(Input.DEADLINE_PASSED)
            child.deadline = now + KILL_REPEAT_S
            child.kills += 1
        else:
            child.take(Input.STOP_WANTED)
            child.deadline = now + (QUICK_STOP_S if ask is Ask.QUICK else graceful_s + DRAIN_MARGIN_S)
        child.asked = ask

    def may_finish(self, child: Child) -> bool:
        """Was it to exit at once before it was known that it takes requests, although there is time for them?"""
        return child.asked is Ask.QUICK and child.may_hold_requests and self.stopping < Stopping.QUICK
