"""Makes events of what the arbiter knows, at the moment when it learns it, and queues them for the steward.

Each method is one event. Nothing is made while no steward is wanted.
"""

import socket
from collections.abc import Callable
from typing import Any

from wsgicluster.arbiter.children.event_outbox import EventOutbox
from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.plan.child import Child, End, Role
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.arbiter.plan.strength import ready_slots
from wsgicluster.arbiter.postmortem.diagnosis import Death, Exit, InFlight, in_flight, signal_name
from wsgicluster.clock import Clock
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.events import (
    DegradedEvent,
    DisconnectEvent,
    DrainingEvent,
    Event,
    ExitEvent,
    ForkEvent,
    ListeningEvent,
    OnlineEvent,
    ReadyEvent,
    RecycleEvent,
    ReloadEvent,
    ScaleEvent,
    TimeoutEvent,
)
from wsgicluster.ipc.scoreboard import PageSnapshot


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment: in seconds since the epoch, and of the monotonic clock."""

    time: float
    monotonic: float


_REQUESTED = frozenset(
    {
        End.ASKED,
        End.CUT,
        End.RECYCLED_APPLICATION,
        End.RECYCLED_CHANNEL,
        End.RECYCLED_HANG,
        End.RECYCLED_MEMORY,
        End.PROMOTED,
        End.RECYCLED_REFORK,
        End.RECYCLED_REQUESTS,
    }
)


def exit_event(child: Child, ended: Exit, facts: PageSnapshot | None, death: Death | None, moment: Moment) -> ExitEvent:
    """The event of a child that has exited, with its end known; ``death`` is the record of an unexpected end."""
    end = child.end or End.LEFT
    # The first may be known before anything was asked, when the whole group of processes has got the signal.
    asked = end is End.ASKED or (bool(child.asked) and end in _REQUESTED)
    if death is not None:
        request = death.request
    else:
        request = in_flight(facts, moment.monotonic) if end is End.CUT else None
    return ExitEvent(
        at=moment.time,
        reason=end.value,
        asked=asked,
        by=child.by if asked else "",
        role=child.role.value,
        slot=child.slot if child.role is Role.WORKER else 0,
        generation=child.generation,
        pid=child.pid,
        code=None if ended.signal_number else ended.code,
        signal=signal_name(ended.signal_number) if ended.signal_number else "",
        requests=facts.requests if facts is not None else 0,
        age_s=moment.monotonic - child.forked_at,
        rss_bytes=ended.peak_bytes,
        request=request_line(request),
        stack="\n".join(filter(None, (death.detail, death.stacks))) if death is not None else "",
    )


def request_line(request: InFlight | None) -> str:
    """The first line of a request; empty for none."""
    return "" if request is None else f"{request.method} {request.path} {request.protocol}".strip()


class EventReporter:
    """The events of one server."""

    def __init__(self, pool: Pool, children: ChildProcesses, clock: Clock) -> None:
        self._pool = pool
        self._children = children
        self._clock = clock
        self.observers: list[Callable[[Event], object]] = []
        """Called with each event, besides the steward; they return at once."""
        self._outbox: EventOutbox = children.events
        self._disconnected: set[int] = set()

    def _of(self, child: Child) -> dict[str, Any]:
        return {
            "at": self._clock.time(),
            "role": child.role.value,
            "slot": child.slot if child.role is Role.WORKER else 0,
            "generation": child.generation,
            "pid": child.pid,
        }

    @property
    def is_wanted(self) -> bool:
        """Does any receiver exist?"""
        return self._outbox.is_open or bool(self.observers)

    def _add(self, event: Event) -> None:
        self._outbox.add(event)  # which drops it while no steward is wanted
        for observer in self.observers:
            observer(event)

    # Processes

    def forked(self, child: Child) -> None:
        """A process was started, or ordered."""
        if self.is_wanted:
            self._add(ForkEvent(**self._of(child)))

    def online(self, child: Child) -> None:
        """It is about to import the application."""
        if self.is_wanted:
            self._add(OnlineEvent(**self._of(child)))

    def ready(self, child: Child, boot_s: float) -> None:
        """It is ready, and listens."""
        if not self.is_wanted:
            return
        # In a stop they may be closed by now.
        for _, sock in () if self._pool.stopping else self._children.listeners_of(child):
            self._add(ListeningEvent(address=_address(sock), **self._of(child)))
        self._add(ReadyEvent(boot_s=boot_s, **self._of(child)))

    def recycle(self, child: Child, detail: str) -> None:
        """It is to be replaced."""
        if self.is_wanted:
            by = self._pool.stop_requested_by(child)
            self._add(RecycleEvent(reason=detail, asked=True, by=by, **self._of(child)))

    def draining(self, child: Child) -> None:
        """Its stop was requested."""
        if self.is_wanted:
            reason = (child.recycle or End.ASKED).value
            self._add(DrainingEvent(reason=reason, asked=True, by=child.by, **self._of(child)))

    def disconnected(self, child: Child) -> None:
        """Its channel is closed, or it has exited; once for each."""
        if self.is_wanted and child.key not in self._disconnected:
            self._disconnected.add(child.key)
            asked = bool(child.asked)
            by = child.by if asked else ""
            self._add(DisconnectEvent(asked=asked, by=by, **self._of(child)))

    def timed_out(self, child: Child, timeout_s: float) -> None:
        """It is past its beat deadline."""
        if self.is_wanted:
            found = in_flight(self._children.link(child).facts(), self._clock.monotonic())
            request = request_line(found)
            event = TimeoutEvent(timeout_s=timeout_s, request=request, **self._of(child))
            self._add(event)

    def exited(self, child: Child, ended: Exit, facts: PageSnapshot | None, death: Death | None) -> None:
        """It has exited; before its link is released."""
        if self.is_wanted:
            self.disconnected(child)
            moment = Moment(self._clock.time(), self._clock.monotonic())
            self._add(exit_event(child, ended, facts, death, moment))
        self._disconnected.discard(child.key)

    # The server

    def reload(
        self, generation: int, result: str, by: str, reason: str = "", changes: dict[str, str] | None = None
    ) -> None:
        """How far a reload is that ``by`` has requested."""
        if self.is_wanted:
            event = ReloadEvent(
                at=self._clock.time(), reason=reason, asked=True, by=by, generation=generation, result=result,
                changes=changes or {},
            )  # fmt: skip
            self._add(event)

    def scaled(self, before: int, reason: str = "") -> None:
        """Another number of workers is wanted."""
        if self.is_wanted:
            workers, by = self._pool.rollout.workers, self._pool.rollout.scaled_by
            self._add(
                ScaleEvent(at=self._clock.time(), reason=reason, asked=True, by=by, workers=workers, before=before)
            )

    def degraded(self, recovered: bool = False, reason: str = "") -> None:
        """Workers are missing, or all of them serve again."""
        if self.is_wanted:
            ready, workers = ready_slots(self._pool), self._pool.rollout.workers
            self._add(
                DegradedEvent(at=self._clock.time(), reason=reason, ready=ready, workers=workers, recovered=recovered)
            )


def _address(sock: socket.socket) -> str:
    """As in the settings: ``127.0.0.1:8000``, ``[::1]:8000``, ``unix:/run/app.sock``."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name if isinstance(name, str) else name.decode(errors='replace')}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
