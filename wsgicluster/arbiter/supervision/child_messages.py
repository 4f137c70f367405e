"""What children send on their channels, and what follows from each message.

What follows from failures is another file's; operations that a child requests wait here for their reader.
"""

import collections

from wsgicluster.arbiter.plan.child import Ask, Child, End, Role
from wsgicluster.arbiter.plan.memory_rule import PACE_S, Size
from wsgicluster.arbiter.postmortem import report
from wsgicluster.arbiter.supervision.parts import SupervisionParts
from wsgicluster.ipc.messages import (
    BootFailed,
    Broken,
    Forked,
    MailPosted,
    MemoryTraced,
    Message,
    Online,
    OperationWanted,
    PromotionAnswered,
    Ready,
    RecycleWanted,
    RequestFailed,
)

_RECYCLES = {
    "memory": End.RECYCLED_MEMORY,
    "requests": End.RECYCLED_REQUESTS,
    "hang": End.RECYCLED_HANG,
    "application": End.RECYCLED_APPLICATION,
}


class ChildMessages:
    """The messages of one server's children."""

    def __init__(self, parts: SupervisionParts) -> None:
        self.source_changed = False
        """A worker has reported that source files have changed since this was last set to False."""
        self.wanted: collections.deque[OperationWanted] = collections.deque()
        """Operations that the steward has asked for, oldest first; the reader empties it."""
        self.memory: dict[int, MemoryTraced | None] = {}
        """What workers have found in their memory, by tickets that the reader adds and removes; None before."""
        self._pool = parts.pool
        self._children = parts.children
        self._progress = parts.progress
        self._probation = parts.probation
        self._failures = parts.failures
        self._scheduling = parts.scheduling
        self._reforker = parts.reforker
        self._events = parts.events
        self._log = parts.log
        self._clock = parts.clock

    def read(self, key: int) -> None:
        """Take in what the child with this key has sent."""
        child = self._pool.children.get(key)
        if child is None:
            return
        link = self._children.link(child)
        for message in link.messages():
            self._received(child, message)
        if link.is_closed and child.alive:
            self._events.disconnected(child)
            self._children.mute(child)
            if child.pid == 0:
                # No process is left that could report which one it is.
                self._failures.not_started(child)
            else:
                self._failures.silent(child, self._clock.monotonic())

    def _received(self, child: Child, message: Message | ValueError) -> None:
        now = self._clock.monotonic()
        if isinstance(message, ValueError):
            self._log.warning("%s sent an invalid message: %s", child, report.shown(str(message)))
        elif isinstance(message, Forked):
            self._claim(message)
        elif isinstance(message, Ready):
            if child.ready_at is None:
                child.resident_bytes = message.resident_bytes
                self._ready(child, message.boot_s, now)
        elif isinstance(message, BootFailed):
            self._failures.cannot_boot(child, message, now)
        elif isinstance(message, Broken):
            self._failures.broken(child, message.summary, message.trace)
        elif isinstance(message, RequestFailed):
            self._probation.request_failed(child, message)
        elif isinstance(message, RecycleWanted):
            self._recycle(child, message, now)
        elif isinstance(message, MailPosted):
            self._children.mailboxes.expect(now)
        elif isinstance(message, Online):
            self._events.online(child)
        elif isinstance(message, MemoryTraced):
            if message.ticket in self.memory:
                self.memory[message.ticket] = message
        elif isinstance(message, PromotionAnswered):
            self._reforker.answered(child, message)
        elif isinstance(message, OperationWanted) and child.role is Role.STEWARD:
            self.wanted.append(message)

    def _recycle(self, child: Child, message: RecycleWanted, now: float) -> None:
        if message.reason == "source":
            self._log.info("%s: source files have changed: %s", child, report.shown(message.detail))
            self.source_changed = True
        elif message.reason == "memory" and not self._replaces_large(child, message.early, now):
            pass  # which has been logged
        elif message.reason in _RECYCLES:
            child.recycle = _RECYCLES[message.reason]
            self._log.info("%s will be replaced: %s", child, report.shown(message.detail))
            self._events.recycle(child, message.detail)
        else:
            reason = report.shown(message.reason)
            self._log.warning("%s requested a replacement for an unknown reason: %s", child, reason)

    def _replaces_large(self, child: Child, early: bool, now: float) -> bool:
        """Is a worker that is too large to be replaced? Where all are, its limit is raised instead."""
        link = self._children.link(child)
        facts, generation = link.facts(), self._pool.generations[child.generation]
        if facts is None:
            return True
        rule = generation.memory
        known_bytes = rule.raised_bytes
        size = Size(child.slot, child.resident_bytes, facts.resident_bytes, facts.requests, early)
        if rule.replaces(size):
            child.recycle_at = (now if child.ready_at is None else child.ready_at) + PACE_S
            return True
        link.raise_memory_limit(rule.raised_bytes)
        if not known_bytes:
            limit_bytes = generation.settings.max_memory
            self._log.warning("%s", report.memory_needed(child, size, limit_bytes, rule.raised_bytes))
        return False

    def _ready(self, child: Child, boot_s: float, now: float) -> None:
        serves = self._pool.ready(child, now)
        self._events.ready(child, boot_s)
        if child.ready:
            self._log.info("%s is ready after %s", child, report.duration(boot_s))
        if serves:
            self._scheduling.promoted()
            self._progress.promoted(self._clock.time())

    def _claim(self, message: Forked) -> None:
        child = self._pool.children.get(message.ticket)
        if child is None or child.pid:
            return
        if message.pid == 0:
            self._failures.not_started(child)
            return
        ended = self._children.claim(child, message.pid)
        if ended is not None:
            # What it has sent since is behind this message in the channel.
            self.read(child.key)
            self._failures.exited(child, ended)
        elif child.asked:
            # Its stop was requested before its pid was known, and it may have become ready meanwhile.
            child.takes_requests = self._children.link(child).takes_requests
            if self._pool.may_finish(child):
                graceful_s = self._pool.settings(child).graceful_timeout
                self._pool.asked(child, Ask.DRAIN, self._clock.monotonic(), graceful_s)
            self._children.link(child).request_stop(child.asked)
