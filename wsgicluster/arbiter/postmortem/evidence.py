"""Gathers the evidence about children that have ended, and keeps the last records.

Reads the kernel's count of victims and its log; what follows from that is decided in
`wsgicluster.arbiter.postmortem.diagnosis`. Knows neither the pool nor the log of the server.
"""

import collections
import dataclasses
import signal

from wsgicluster.arbiter.plan.child import Ask, Child, End
from wsgicluster.arbiter.postmortem.diagnosis import (
    KEPT,
    Death,
    Exit,
    FailureDeduplicator,
    Hang,
    OomKillCounter,
    crash_stacks,
    hang_stacks,
    in_flight,
    why,
)
from wsgicluster.clock import Clock
from wsgicluster.ipc.scoreboard import PageSnapshot
from wsgicluster.system import cgroup
from wsgicluster.system.kernel_log import KernelLog

_COUNT_S = 5.0
"""The kernel's victims are counted at most this often while no child exits."""

_STACKS_CHARACTERS = 8192


class ExitInvestigator:
    """All deaths of one server; to be closed by its owner. ``deaths`` holds the last ones, oldest first."""

    def __init__(self, clock: Clock) -> None:
        self.deaths: collections.deque[Death] = collections.deque(maxlen=KEPT)
        self.failures = FailureDeduplicator()
        self._clock = clock
        self._victims = OomKillCounter(cgroup.out_of_memory_kills())
        self._count_at = 0.0
        self._kernel_log = KernelLog()
        self._hangs: dict[int, Hang] = {}
        self._reported: dict[int, tuple[str, str]] = {}

    def count_victims(self, now: float) -> None:
        """Count the kernel's victims now and then: one of long ago, maybe no worker, explains no death of today."""
        if now >= self._count_at:
            self._count_at = now + _COUNT_S
            self._victims.counted(cgroup.out_of_memory_kills(), now)

    def hangs(self, child: Child, hang: Hang) -> None:
        """A child is past its deadline; this is seen of it before it is ended."""
        self._hangs[child.key] = hang

    def reported(self, child: Child, summary: str, trace: str) -> None:
        """A child has reported why it is about to exit: a Python exception, or why it cannot boot."""
        self._reported[child.key] = summary, trace

    def why(self, child: Child, ended: Exit, now: float, is_stopping: bool) -> End:
        """Why a child has ended, maybe since the server is stopping; to be asked once, when it has."""
        killed = ended.signal_number == signal.SIGKILL and child.asked is not Ask.KILL and child.end is None
        return why(child, ended, killed and self._is_victim(child.pid, now), is_stopping)

    def _is_victim(self, pid: int, now: float) -> bool:
        self._victims.counted(cgroup.out_of_memory_kills(), now)
        # Both are asked, so that a victim that is known by name is not counted a second time.
        counted = self._victims.claim(now)
        return bool(self._kernel_log.about(pid)) or counted

    def examine(self, child: Child, ended: Exit, facts: PageSnapshot | None, stacks: str) -> Death:
        """The record of a child that has ended, with its end known; kept from now on, long stacks only in part."""
        now = self._clock.monotonic()
        hang = self._hangs.pop(child.key, None)
        stuck = hang.facts if hang is not None else facts
        detail, trace = self._reported.pop(child.key, ("", ""))
        death = Death(
            slot=child.slot,
            pid=child.pid,
            generation=child.generation,
            role=child.role,
            end=child.end or End.LEFT,
            exit=ended,
            at=self._clock.time(),
            up_s=now - child.forked_at,
            was_ready=child.ready_at is not None,
            requests=facts.requests if facts is not None else None,
            request=in_flight(stuck, hang.since if hang is not None else now),
            detail=detail,
            stacks=trace.rstrip() or (crash_stacks(stacks) if hang is None else hang_stacks(stacks)),
            kernel=self._kernel_log.about(child.pid) if ended.signal_number else "",
            timeout_s=hang.timeout_s if hang is not None else 0.0,
            state_letter=hang.state_letter if hang is not None else "",
            kernel_counts=self._victims.told,
        )
        self.deaths.append(dataclasses.replace(death, stacks=death.stacks[:_STACKS_CHARACTERS]))
        return death

    def forget(self, child: Child) -> None:
        """A child has exited, for whatever reason."""
        self._hangs.pop(child.key, None)
        self._reported.pop(child.key, None)

    def close(self) -> None:
        """Close the descriptor."""
        self._kernel_log.close()
