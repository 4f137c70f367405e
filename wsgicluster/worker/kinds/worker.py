"""A worker: its parts, joined, from its first listener to its last connection.

The parts are in `wsgicluster.worker.intake` and `wsgicluster.worker.lifecycle`; kinds differ in the runner.
"""

import math
from collections.abc import Callable
from operator import methodcaller

from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.messages import (
    ListenersEnd,
    MailboxesChanged,
    MemoryLimit,
    Message,
    MoldOrdered,
    PromotionWanted,
    Ready,
    SchedulingChanged,
    ShareConnections,
    TraceMemory,
)
from wsgicluster.ipc.scoreboard import Cell, WorkerState
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.hosting.hand_off import rescue
from wsgicluster.worker.hosting.host import ConnectionHost
from wsgicluster.worker.hosting.refusals import Refusals
from wsgicluster.worker.intake.acceptor import Acceptor
from wsgicluster.worker.intake.connection_share import ConnectionShare
from wsgicluster.worker.intake.drain import Drain
from wsgicluster.worker.intake.listeners import WatchedListeners
from wsgicluster.worker.intake.policy import HOLD_S
from wsgicluster.worker.intake.policy_switch import PolicySwitch
from wsgicluster.worker.intake.reserve import DescriptorReserve
from wsgicluster.worker.kinds.requests import RequestNames
from wsgicluster.worker.lifecycle.arbiter_channel import ArbiterChannel
from wsgicluster.worker.lifecycle.exit_request import ExitRequest
from wsgicluster.worker.lifecycle.log_writer import LogWriter
from wsgicluster.worker.lifecycle.memory_trace import MemoryTrace
from wsgicluster.worker.lifecycle.promotion import Promotion
from wsgicluster.worker.lifecycle.recycle import Recycling
from wsgicluster.worker.loop.loop import do_nothing
from wsgicluster.worker.request.cycle import Application, Cycle
from wsgicluster.worker.runner import KindRunner

# Members of an Enum cost a look-up each time; these are plain integers.
_STATE, _DRAINING, _REQUESTS = int(Cell.STATE), int(WorkerState.DRAINING), int(Cell.REQUESTS)
_BYTES_IN, _CONNECTIONS, _RESIDENT = int(Cell.BYTES_IN), int(Cell.CONNECTIONS), int(Cell.RESIDENT)


@dataclass(frozen=True)
class WorkerParts:
    """What a worker joins."""

    cycle: Cycle
    host: ConnectionHost
    listeners: WatchedListeners
    reserve: DescriptorReserve
    acceptor: Acceptor
    runner: KindRunner
    drain: Drain
    recycling: Recycling
    channel: ArbiterChannel
    exit_request: ExitRequest
    logs: LogWriter
    refusals: Refusals
    switch: PolicySwitch | None
    replace_application: Callable[[Application], object]
    """Have another one called from the next requests on."""
    names: RequestNames
    share: ConnectionShare
    promotion: Promotion


class Worker:
    """One worker process, while it serves."""

    def __init__(self, context: WorkerContext, parts: WorkerParts) -> None:
        self.context = context
        self.parts = parts
        self._loop = context.loop
        self._cells = context.page.cells
        self._host = parts.host
        self._fast_path = parts.host.fast_path
        self._load = parts.runner.load
        self._recycling = parts.recycling
        self._hold_again_at = 0.0
        self._memory_trace = MemoryTrace()

    def begin(self, ready: Ready) -> None:
        """Listen, and tell the arbiter."""
        parts = self.parts
        parts.runner.begin()
        parts.channel.watch(self._on_message)
        parts.acceptor.begin()
        self.context.state.enter(WorkerState.READY)
        parts.channel.send(ready)

    def serve(self, ready: Ready) -> None:
        """Begin, and serve until drained."""
        self.begin(ready)
        turn, cells, parts = self._loop.turn, self._cells, self.parts
        expire, write_logs = methodcaller("expired"), parts.logs.write
        while True:
            turn(expire)
            self.record()
            write_logs()
            if cells[_STATE] >= _DRAINING and parts.drain.step():
                parts.refusals.sum_up(math.inf)
                parts.names.close()
                parts.logs.flush()
                return

    def record(self) -> None:
        """At the end of a turn: write what the arbiter reads, and look for limits that are reached, and for room."""
        cells, recycling, fast_path = self._cells, self._recycling, self._fast_path
        received_bytes = self._host.received_bytes
        cells[_BYTES_IN] = received_bytes if fast_path is None else received_bytes + fast_path.received_bytes
        cells[_CONNECTIONS] = len(self.context.connections)
        requests = cells[_REQUESTS]
        wanted = recycling.check(self._loop.now, requests)
        cells[_RESIDENT] = recycling.resident_bytes
        if wanted is not None:
            self.parts.channel.send(wanted)
        elif (moment := recycling.look_again_at) is not None:
            self._loop.call_at(moment, do_nothing)
        if (below := recycling.yields_to(requests)) and cells[_STATE] < _DRAINING:
            self._hold(below)
        if self._load.room_awaited:
            self.parts.acceptor.step()

    def _hold(self, below: int) -> None:
        """Far beyond a limit: leave what is new to siblings that have served fewer, as long as there are any."""
        context, parts = self.context, self.parts
        state = context.state
        was_held = state.held
        # Said first, asked then: of two workers in this state one at least sees the other and serves on.
        state.enter(WorkerState.HELD)
        if not context.assignment.board.ready_workers(below):
            state.enter(WorkerState.READY)
        if state.held is not was_held:
            parts.host.hold(state.held)
            if state.held:
                parts.listeners.watch(False)
            else:
                parts.listeners.resume()
        if context.loop.now >= self._hold_again_at:
            self._hold_again_at = context.loop.now + HOLD_S
            context.loop.call_at(self._hold_again_at, do_nothing)

    def _on_message(self, message: Message) -> None:
        if isinstance(message, ListenersEnd):
            self.parts.listeners.last_here.update(message.numbers)
        elif isinstance(message, MailboxesChanged):
            self._change_mailboxes(message)
        elif isinstance(message, SchedulingChanged):
            if self.parts.switch is not None:
                self.parts.switch.look()
        elif isinstance(message, MemoryLimit):
            self.parts.recycling.raise_memory_limit(message.limit_bytes)
            if self.context.state.held:
                self._hold(0)
        elif isinstance(message, ShareConnections):
            self.parts.share.note(message.count, message.slot)
        elif isinstance(message, TraceMemory):
            self.parts.channel.send(self._memory_trace.answer(message))
        elif isinstance(message, PromotionWanted):
            self.parts.channel.send(self.parts.promotion.answer())
        elif isinstance(message, MoldOrdered):
            self.parts.promotion.take(message)

    def _change_mailboxes(self, change: MailboxesChanged) -> None:
        mailboxes = self.context.assignment.mailboxes
        lost = mailboxes.apply(change) if mailboxes is not None else []
        if lost:
            self.context.log.error(
                "worker %d: no descriptor was left for the mailboxes of %s: messages to these fail "
                "(raise the limit on open files)",
                self.context.slot, ", ".join(str(name) for name in lost),
            )  # fmt: skip

    # -- called from signal handlers

    def begin_drain(self) -> None:
        """TERM: leave."""
        self.parts.exit_request.drain()

    def flush_logs(self) -> None:
        """QUIT: the process ends in a moment."""
        self.parts.logs.flush()

    def rescue(self) -> None:
        """ABRT: the worker hangs. Give its waiting connections to siblings, and log what it has served."""
        self.parts.runner.end_quickly()
        # One whose request runs on the fast path looks as if it waited.
        serving = self._fast_path.serving if self._fast_path is not None else None
        waiting = [c for c in self.context.connections if c.between_requests and c is not serving]
        rescue(waiting, self.context.assignment.hand_off_send)
        self.parts.logs.flush()

    def abandon(self) -> None:
        """In a process that the application has forked: nothing of the worker's is this process's to use or hold."""
        self.parts.cycle.abandoned = True
        self.parts.logs.forget()
        self.parts.acceptor.abandon()
        self.context.loop.close()
        for runner in self._load.running:
            runner.abandoned = True
