"""Carries out reforks: looks at workers, asks one, has it replaced, and then the others; see `plan.refork`.

Without ``refork_after`` it does nothing, and never wakes the arbiter.
"""

import logging
import math

from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.plan.child import Child, End, Role
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.arbiter.plan.refork import ANSWER_S, LOOK_S, Refork, ReforkStage, ReforkStep, WorkerLoad, choose
from wsgicluster.arbiter.plan.rollout import Generation, Stage
from wsgicluster.arbiter.postmortem import report
from wsgicluster.arbiter.supervision.events import EventReporter
from wsgicluster.counting import count_of
from wsgicluster.ipc.messages import ChannelClosed, PromotionAnswered, PromotionWanted
from wsgicluster.ipc.scoreboard import Cell


class Reforker:
    """Of one server; times in seconds of the monotonic clock."""

    def __init__(self, pool: Pool, children: ChildProcesses, events: EventReporter, log: logging.Logger) -> None:
        self._pool = pool
        self._children = children
        self._events = events
        self._log = log
        self._refork = Refork(0)
        self._next_look = math.inf

    def next_due(self) -> float:
        """When `advance` has something to do that no event will announce; infinite where there are no reforks."""
        return self._next_look

    def advance(self, now: float) -> None:
        """Make the step that is due, if any."""
        serving = self._pool.rollout.serving
        if serving is None or not serving.settings.refork_after or self._pool.stopping:
            self._next_look = math.inf
            return
        if self._refork.generation != serving.number:
            self._refork = Refork(serving.number)
        if self._refork.stage is not ReforkStage.WATCHING:
            self._follow(serving, now)
        elif not now < self._next_look < math.inf:
            self._watch(serving, now)
        # What else there is to wait for are messages and exits.
        dues = {ReforkStage.WATCHING: now + LOOK_S, ReforkStage.ASKED: self._refork.asked_at + ANSWER_S}
        if self._refork.stage is not ReforkStage.WATCHING or not now < self._next_look < math.inf:
            self._next_look = dues.get(self._refork.stage, math.inf)

    def _follow(self, serving: Generation, now: float) -> None:
        """What has become of the worker that was asked, and of its mold?"""
        refork, children = self._refork, self._pool.children
        source, mold = children.get(refork.source), children.get(refork.mold)
        if refork.stage is ReforkStage.ASKED:
            if source is None or not source.ready or now - refork.asked_at > ANSWER_S:
                self._lose("the worker that was asked has not answered")
        elif refork.stage is ReforkStage.REPLACING:
            if mold is not None and mold.ready:
                refork.take(ReforkStep.READY)
                self._log.info("Refork: %s was forked from a worker; the others are replaced from it", mold)
                self._replace_others(mold, serving)
            elif source is None and mold is None:
                self._lose("the worker has exited, and there is no mold of it")
        elif refork.stage is ReforkStage.FORKED:
            if mold is None or not mold.ready:
                self._lose("the mold has exited")
            else:
                self._replace_others(mold, serving)

    # Who

    def _watch(self, serving: Generation, now: float) -> None:
        rollout = self._pool.rollout
        workers = [child for child in self._pool.workers() if child.ready and child.generation == serving.number]
        # Not beside something else that replaces workers: there is to be room for one more.
        whole = len({child.slot for child in workers}.intersection(rollout.slots)) == len(rollout.slots)
        if rollout.stage is not Stage.SERVING or not whole:
            return
        found = choose(
            [self._candidate(child) for child in workers if child.recycle is None and not child.asked],
            serving.settings.refork_after,
        )
        if not found:
            return
        try:
            sent = self._children.link(self._pool.children[found]).channel.send(PromotionWanted())
        except ChannelClosed:  # it is exiting
            return
        if sent:
            self._refork.ask(found, now)

    def _candidate(self, child: Child) -> WorkerLoad:
        page = self._children.link(child).page
        idle = not page.cells[Cell.RUNNING] and not page.floats[Cell.STARTED]
        return WorkerLoad(child.key, page.cells[Cell.REQUESTS], idle)

    def answered(self, child: Child, message: PromotionAnswered) -> None:
        """A worker has said whether a mold can be forked from it."""
        refork = self._refork
        if refork.stage is not ReforkStage.ASKED or refork.source != child.key:
            return
        if message.refused:
            refork.take(ReforkStep.REFUSE)
            self._log.warning(
                "Refork refused by %s: %s; until a reload no worker is promoted", child, report.shown(message.refused)
            )
            return
        if not child.ready or child.recycle is not None:
            self._lose("the worker that was asked is to be replaced")
            return
        refork.take(ReforkStep.ACCEPT)
        served = count_of(self._children.link(child).page.cells[Cell.REQUESTS], "request")
        child.recycle = End.PROMOTED
        self._log.info("%s will be replaced, and a mold forked from it: %s served", child, served)
        self._events.recycle(child, f"to be the mold, {served} served")

    # The mold

    def order(self, source: Child, now: float) -> Child | None:
        """A worker that is promoted is about to be asked to drain: order the mold; None where that is not possible."""
        refork = self._refork
        if refork.source != source.key or refork.stage is not ReforkStage.REPLACING or refork.mold:
            return None
        try:
            mold = self._children.promote(source, now)
        except (OSError, MemoryError) as error:
            reason = error.strerror if isinstance(error, OSError) else ""
            self._lose(reason or "out of memory")
            return None
        refork.mold = mold.key
        return mold

    def _replace_others(self, mold: Child, serving: Generation) -> None:
        """Have the workers replaced that were forked before there was this mold."""
        assert mold.ready_at is not None, "it is ready"
        for child in self._pool.workers():
            before = child.generation == serving.number and child.mold != mold.key and child.forked_at <= mold.ready_at
            if before and child.ready and child.recycle is None and not child.asked:
                child.recycle = End.RECYCLED_REFORK
                self._events.recycle(child, "forked anew from the mold that was a worker")

    def _lose(self, why: str) -> None:
        again = self._refork.lose()
        then = "another worker will be asked" if again else "until a reload no worker is promoted"
        self._log.warning("Refork abandoned: %s; %s", why, then)


def is_promoted(child: Child) -> bool:
    """Whether it is a worker of which a mold is to be forked when it drains."""
    return child.role is Role.WORKER and child.recycle is End.PROMOTED
