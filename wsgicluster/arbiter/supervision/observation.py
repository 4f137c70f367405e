"""What is known of a server's processes now and before, as values for those who look at it from outside.

It reads the pool, the scoreboard and the events, and changes nothing. What only ``/proc`` tells is left to who asks.
"""

import collections
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.plan.backoff import Wait
from wsgicluster.arbiter.plan.child import UNEXPECTED_ENDS, Child, End, Role
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.arbiter.plan.rollout import Attempt
from wsgicluster.arbiter.plan.status import ServiceStatus
from wsgicluster.arbiter.supervision.tallies import EXIT_WORDS, Tallies
from wsgicluster.clock import Clock
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.events import Event, ExitEvent, ReadyEvent, as_json
from wsgicluster.ipc.scoreboard import HISTOGRAM_BOUNDS_S, Cell, PageSnapshot, WorkerState
from wsgicluster.ipc.slot_totals import read_slots, together
from wsgicluster.settings import Settings
from wsgicluster.system import process

LAST_EXITS = 5
_UNASKED = frozenset({end.value for end in UNEXPECTED_ENDS} | {End.TIMED_OUT.value, End.BOOT_FAILED.value})
_PAGE_STATES = {WorkerState.HELD: "held", WorkerState.ORPHANED: "draining"}


def rfc3339(seconds: float) -> str:
    """A moment since the epoch as RFC 3339 has it, in UTC with milliseconds."""
    # With the time module: datetime would be imported by each start for this alone.
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{microseconds // 1000:03d}Z"


def event_as_json(event: Event) -> dict[str, Any]:
    """An event as the control socket shows it: as everywhere, but for its time."""
    return {**as_json(event), "at": rfc3339(event.at)}


@dataclass(slots=True)
class SlotHistory:
    """The boots and ends of a slot's workers, for as long as the server runs."""

    ends: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    last: collections.deque[dict[str, Any]] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=LAST_EXITS)
    )
    boot_s: float | None = None
    """How long the last boot took that has succeeded."""

    @property
    def restarts(self) -> int:
        """How many of them were not requested."""
        return sum(count for reason, count in self.ends.items() if reason in _UNASKED)


class ExitHistory:
    """The ends of all workers by slot; takes in events."""

    def __init__(self) -> None:
        self._slots: dict[int, SlotHistory] = {}

    def note(self, event: Event) -> None:
        """An event has happened; only boots and exits of workers count."""
        if isinstance(event, ReadyEvent) and event.role == Role.WORKER.value:
            self._slots.setdefault(event.slot, SlotHistory()).boot_s = event.boot_s
        if not isinstance(event, ExitEvent) or event.role != Role.WORKER.value:
            return
        found = self._slots.setdefault(event.slot, SlotHistory())
        found.ends[event.reason] += 1
        found.last.append(
            {
                "at": rfc3339(event.at),
                "pid": event.pid,
                "generation": event.generation,
                "reason": event.reason,
                "code": event.code,
                "signal": event.signal or None,
                "request": event.request or None,
                "requests": event.requests,
            }
        )

    def of(self, slot: int) -> SlotHistory:
        """That of one slot."""
        return self._slots.get(slot) or SlotHistory()


class Observation:
    """What the arbiter tells of its children."""

    def __init__(self, pool: Pool, children: ChildProcesses, waits: Mapping[int, Wait], clock: Clock) -> None:
        self.exits = ExitHistory()
        self.tallies = Tallies()
        self._pool = pool
        self._children = children
        self._waits = waits
        self._clock = clock

    def workers(self) -> list[dict[str, Any]]:
        """All workers, by slot and then by age."""
        found = sorted(self._pool.workers(), key=lambda child: (child.slot, child.key))
        return [self._worker(child) for child in found]

    def others(self) -> list[dict[str, Any]]:
        """All other processes but the arbiter."""
        found = [child for child in self._pool.children.values() if child.role is not Role.WORKER]
        return [{"role": child.role.value, **self._process(child)} for child in found]

    def child_of(self, slot: int) -> Child | None:
        """The worker of a slot that serves, or else the newest one; None where there is none."""
        found = [child for child in self._pool.workers() if child.slot == slot]
        return max(found, key=lambda child: (child.ready, child.rank), default=None)

    def settings_of(self, child: Child) -> Settings:
        """Those of its generation."""
        return self._pool.settings(child)

    def _process(self, child: Child) -> dict[str, Any]:
        age_s = self._clock.monotonic() - child.forked_at
        return {
            "pid": child.pid or None,
            "generation": child.generation,
            "state": child.state.value,
            "started": rfc3339(self._clock.time() - age_s),
        }

    def _worker(self, child: Child) -> dict[str, Any]:
        link, history = self._children.link(child), self.exits.of(child.slot)
        facts = link.facts()
        last = history.last[-1] if history.last else None
        found = {
            "slot": child.slot,
            **self._process(child),
            "restarts": history.restarts,
            "ends": dict(history.ends),
            "last_exit": last,
        }
        if facts is not None:
            cells = link.page.cells
            found |= self._facts(facts, cells[Cell.RUNNING])
            found["lag_seconds"] = cells[Cell.LAG] / 1_000_000
            if cells[Cell.THREADS]:
                found["pool"] = {"threads": cells[Cell.THREADS], "queue": cells[Cell.QUEUED]}
            found["latency"] = list(link.page.histogram())
            if child.ready and facts.state in _PAGE_STATES:
                found["state"] = _PAGE_STATES[facts.state]
        return found

    def _facts(self, facts: PageSnapshot, running: int) -> dict[str, Any]:
        oldest = None
        if facts.started:
            method, _, rest = facts.request_line.partition(" ")
            oldest = {
                "method": method,
                "path": rest.partition(" ")[0],
                "client": facts.client,
                "seconds": max(0.0, self._clock.monotonic() - facts.started),
            }
        in_progress = max(running, int(oldest is not None))
        return {
            "requests": facts.requests,
            "failed": facts.failed,
            "shed": facts.shed,
            "cut": facts.cut,
            "bytes_in": facts.bytes_in,
            "bytes_out": facts.bytes_out,
            "connections": {
                "idle": max(0, facts.connections - in_progress),
                "active": min(facts.connections, in_progress),
            },
            "in_progress": in_progress,
            "oldest_request": oldest,
        }

    def note_processor_times(self) -> None:
        """Write on the pages of living workers how much processor time they have taken so far."""
        for child in self._pool.workers():
            times = process.processor_times_s(child.pid) if child.pid else None
            if times is not None:
                self._children.link(child).note_processor_times(*times)

    def counters(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What each slot has counted since the server was started, those without a worker included; and their sums."""
        counted = read_slots(self._children.board)
        now = self._clock.monotonic()
        slots = [
            {
                "slot": slot,
                "boot_seconds": self.exits.of(slot).boot_s,
                "last_exit_at": last[-1]["at"] if (last := self.exits.of(slot).last) else None,
                "backoff_seconds": self._wait_s(slot, now),
                "totals": {
                    **counters.as_json(),
                    "exits": {word: self.exits.of(slot).ends[reason] for reason, word in EXIT_WORDS.items()},
                },
            }
            for slot, counters in counted.items()
            if slot > 0
        ]
        found = together(counted).as_json()
        failures = found["failures"]
        return slots, {**found, "failed": failures["exception"] + failures["bad_iterable"]}

    def _wait_s(self, slot: int, now: float) -> float:
        """How long a slot still waits for its next worker; 0.0 where it does not."""
        wait = self._waits.get(slot)
        return max(0.0, wait.until - now) if wait is not None and not self._pool.backoff.due(slot, now) else 0.0

    def events_counted(self) -> dict[str, Any]:
        """How often what has happened to workers since the server was started."""
        tallies = self.tallies
        return {
            "exits": dict(tallies.exits),
            "boots": dict(tallies.boots),
            "reloads": dict(tallies.reloads),
            "scalings": {direction: dict(reasons) for direction, reasons in tallies.scalings.items()},
        }


BOUNDS_S = list(HISTOGRAM_BOUNDS_S)
"""The upper bounds of all buckets, in seconds."""


def state_of(status: ServiceStatus) -> str:
    """The server's state in a word."""
    if status.stopping:
        return "stopping"
    if status.leaving:
        return "draining"
    if not status.started:
        return "starting"
    if status.rolling:
        return "reloading"
    return "degraded" if status.degraded else "serving"


def attempt_as_json(attempt: Attempt | None) -> dict[str, Any] | None:
    """How the last reload went; None where there has been none."""
    if attempt is None or attempt.number == 1:
        return None
    return {
        "generation": attempt.number or None,
        "result": attempt.result.value,
        "at": rfc3339(attempt.at),
        "reason": attempt.reason or None,
    }
