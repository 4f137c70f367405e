"""The main thread of a child that serves no connection: the steward and the jobs worker.

It takes the signals that a worker takes, writes the beat, and waits; what the child is for runs in threads of its own,
so that a signal is handled whatever they do. A beat deadline says that this thread runs, and that what it watches has
not been busy with one thing for longer than ``timeout``.
"""

import contextlib
import faulthandler
import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

from wsgicluster.ipc import membership
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import ChannelClosed, MailboxesChanged
from wsgicluster.ipc.scoreboard import Cell, WorkerState
from wsgicluster.system import forks, parent_death
from wsgicluster.system.signals import DUMP_STACKS, IGNORED_BY_WORKERS, WORKER_ACTIONS, ignore, stop_ignoring

TURN_S = 0.5


class ChildLoop:
    """That of one process; ``reopen_logs`` is called after USR1, in the main thread."""

    def __init__(self, assignment: Assignment, timeout_s: float, reopen_logs: Callable[[], object]) -> None:
        self.drain_wanted = False
        self._assignment = assignment
        self._timeout_s = timeout_s
        self._reopen_logs_wanted = False
        self._reopen = reopen_logs
        self._wake_receive, self._wake_send = os.pipe()
        for number in (self._wake_receive, self._wake_send):
            os.set_blocking(number, False)
        self._handlers = {number: getattr(self, f"_{action}") for number, action in WORKER_ACTIONS.items()}

    def install(self) -> None:
        """Take all signals; those that came since the fork are handled now."""
        faulthandler.register(DUMP_STACKS, file=self._assignment.stacks_fd, all_threads=True, chain=False)
        faulthandler.enable(self._assignment.stacks_fd)
        for ignored in IGNORED_BY_WORKERS:
            ignore(ignored)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for handled, handler in self._handlers.items():
            signal.signal(handled, handler)
        signal.set_wakeup_fd(self._wake_send, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        parent_death.notice(self._assignment.channel.fileno(), self._arbiter_exited)
        forks.on_fork(self.forget)
        forks.on_fork(parent_death.forget)

    def forget(self) -> None:
        """In a process that the application has forked: default handlers, and no descriptor of this one."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == handler:
                signal.signal(number, signal.SIG_DFL)
        stop_ignoring(IGNORED_BY_WORKERS)
        faulthandler.unregister(DUMP_STACKS)
        faulthandler.disable()
        for end in (self._wake_receive, self._wake_send):
            with contextlib.suppress(OSError):  # closed by the application
                os.close(end)

    def run(self, each_turn: Callable[[], object]) -> None:
        """Wait until the stop is requested; the beat depends on what `membership.busy_since` says."""
        page = self._assignment.page
        page.cells[Cell.STATE] = WorkerState.READY
        poll = select.poll()
        poll.register(self._wake_receive, select.POLLIN)
        channel = self._assignment.channel.fileno()
        poll.register(channel, select.POLLIN)
        while not self.drain_wanted:
            self.beat(membership.busy_since())
            each_turn()
            ready = dict(poll.poll(TURN_S * 1000))
            if self._wake_receive in ready:
                self._empty_wakeups()
            if channel in ready and not self._read_channel():
                poll.unregister(channel)
                self.drain_wanted = True
        page.cells[Cell.STATE] = WorkerState.DRAINING

    def beat(self, busy_since: float) -> None:
        """Write the beat deadline."""
        if self._timeout_s > 0:
            now = time.monotonic()
            self._assignment.page.floats[Cell.DEADLINE] = min(busy_since or now, now) + self._timeout_s

    def finish(self, is_done: Callable[[], bool], limit_s: float) -> None:
        """Wait until it is done, for so many seconds at most; the arbiter ends the process a little later."""
        until = time.monotonic() + limit_s
        # A process that drains has its own deadline, which the arbiter knows.
        self._assignment.page.floats[Cell.DEADLINE] = 0.0
        while not is_done() and time.monotonic() < until:
            time.sleep(0.01)

    def _empty_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_receive, 4096):
                pass
        if self._reopen_logs_wanted:
            self._reopen_logs_wanted = False
            self._reopen()

    def _read_channel(self) -> bool:
        """Take in what the arbiter has sent; False when it has exited."""
        mailboxes = self._assignment.mailboxes
        try:
            while (message := self._assignment.channel.receive()) is not None:
                if isinstance(message, MailboxesChanged) and mailboxes is not None:
                    mailboxes.apply(message)
        except ChannelClosed:
            return False
        return True

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # there is more than enough to wake up for
            os.write(self._wake_send, b"\0")

    def _arbiter_exited(self) -> None:
        self.drain_wanted = True
        self._wake()

    def _drain(self, _number: int, _frame: FrameType | None) -> None:
        self.drain_wanted = True

    def _quit(self, _number: int, _frame: FrameType | None) -> None:
        forks.end_children()
        os._exit(0)

    def _reopen_logs(self, _number: int, _frame: FrameType | None) -> None:
        self._reopen_logs_wanted = True

    def _rescue(self, _number: int, _frame: FrameType | None) -> None:
        forks.end_children()
        os._exit(1)
