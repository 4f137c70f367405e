"""What the arbiter holds of one child: its page, its channel, its file for stacks, and the way to signal it.

Owns the arbiter's end of every descriptor that belongs to the child.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Collection, Iterator, Mapping

from wsgicluster.arbiter.children import mold
from wsgicluster.arbiter.plan.child import Ask, Child
from wsgicluster.ipc.mailbox import Mailboxes, MailboxName, MailboxRegistry
from wsgicluster.ipc.messages import (
    Channel,
    ChannelClosed,
    ListenersEnd,
    MemoryLimit,
    Message,
    SchedulingChanged,
    ShareConnections,
    TraceMemory,
)
from wsgicluster.ipc.scoreboard import Cell, Page, PageSnapshot, WorkerState
from wsgicluster.system import process

_STACKS_BYTES = 256 * 1024
_FAULT = "Fatal Python error: "
_SIGNALS = {Ask.DRAIN: signal.SIGTERM, Ask.QUICK: signal.SIGQUIT, Ask.KILL: signal.SIGKILL}


class ChildLink:
    """The link to one child; ``orders`` is the socket that workers are ordered from a mold on."""

    def __init__(self, child: Child, page: Page, channel: Channel, stacks_fd: int) -> None:
        self.child = child
        self.page = page
        self.channel = channel
        self.stacks_fd = stacks_fd
        self.orders: socket.socket | None = None
        self.listeners: set[int] = set()
        """The numbers of those that it has, but for those of which it has been notified that they end."""
        self._mailboxes: dict[MailboxName, int] | None = None
        self._mailboxes_serial = 0
        self.scheduling_serial: int | None = None
        """The serial number of the scheduling policy that the child knows of; None for one that asks none."""
        self.is_profiled = False
        """Its file for stacks has those of a profile, too."""
        self.is_closed = False
        """The child's end of the channel is closed."""

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens if the process has exited, or is not known yet."""
        if self.child.pid:
            with contextlib.suppress(ProcessLookupError):  # it exited just now and will be reaped
                os.kill(self.child.pid, number)

    def processor_s(self) -> float:
        """The processor time that the process has taken, in seconds; 0.0 where the system does not tell."""
        times = process.processor_times_s(self.child.pid) if self.child.pid else None
        return sum(times) if times is not None else 0.0

    def request_stop(self, ask: Ask) -> None:
        """Send the signal that requests a stop so urgently, as `signal` does."""
        self.signal(_SIGNALS[ask])

    def kill_and_wait(self) -> None:
        """End the process and reap it, if it is known."""
        if self.child.pid:
            self.signal(signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # reaped before
                os.waitpid(self.child.pid, 0)

    def messages(self) -> Iterator[Message | ValueError]:
        """All messages that have come from the child; ValueError for an invalid one."""
        while not self.is_closed:
            try:
                message = self.channel.receive()
            except ChannelClosed:
                self.is_closed = True
                return
            except ValueError as error:
                yield error
                continue
            if message is None:
                return
            yield message

    def end_listeners(self, wanted: Collection[int]) -> None:
        """Tell the child which of its listeners are not ``wanted`` any more, each once.

        What does not fit now is sent in the next turn. The last process that closes a listener empties its queue.
        """
        ended = self.listeners.difference(wanted)
        if not ended:
            return
        with contextlib.suppress(ChannelClosed):  # it is exiting
            if not self.channel.send(ListenersEnd(sorted(ended))):
                return
        self.listeners -= ended

    def share_mailboxes(self, registry: MailboxRegistry, own: MailboxName) -> Mailboxes:
        """The mailboxes of a child that is about to be started and reads those of this name."""
        shared = registry.share(own)
        self.note_mailboxes(registry)
        return shared

    @property
    def known_mailboxes(self) -> Mapping[MailboxName, int]:
        """The mailboxes that the child has, by their serial numbers."""
        return self._mailboxes or {}

    def note_mailboxes(self, registry: MailboxRegistry) -> None:
        """The child has all mailboxes as they are now."""
        self._mailboxes, self._mailboxes_serial = registry.known(), registry.serial

    def forget_mailboxes(self) -> None:
        """It is not known any more which mailboxes a mold has: with the next order it gets all of them."""
        self._mailboxes = {}

    def update_mailboxes(self, registry: MailboxRegistry) -> None:
        """Send a child that has mailboxes what has changed since; what does not fit now is sent in the next turn."""
        known = self._mailboxes
        if known is None or self._mailboxes_serial == registry.serial:
            return
        if self.orders is not None:
            self._update_mold(self.orders, known, registry)
            return
        with contextlib.suppress(ChannelClosed):  # it is exiting
            for change in registry.changes(known):
                if not self.channel.send(change):
                    return
                for name in change.closed:
                    del known[name]
                present = registry.known()
                known.update({name: present[name] for name in change.opened})
        self._mailboxes_serial = registry.serial

    def _update_mold(self, orders: socket.socket, known: dict[MailboxName, int], registry: MailboxRegistry) -> None:
        """A mold learns at once what is closed, and with its next order what is new."""
        closed = known.keys() - registry.known().keys()
        with contextlib.suppress(OSError):  # not now: the next turn of the loop tries again
            if closed:
                mold.send_closed(orders, closed)
            for name in closed:
                del known[name]
            self._mailboxes_serial = registry.serial

    def update_scheduling(self, serial: int) -> None:
        """Tell a worker that there is another scheduling policy; what does not fit now is sent in the next turn."""
        if self.scheduling_serial in (None, serial):
            return
        with contextlib.suppress(ChannelClosed):  # it is exiting
            if not self.channel.send(SchedulingChanged()):
                return
        self.scheduling_serial = serial

    def raise_memory_limit(self, limit_bytes: int) -> None:
        """Have the worker request a replacement for its memory only beyond this."""
        with contextlib.suppress(ChannelClosed):  # it is exiting
            self.channel.send(MemoryLimit(limit_bytes))

    def share_connections(self, count: int, slot: int) -> None:
        """Have the worker give connections to another one, see `ShareConnections`; what does not fit now is left."""
        with contextlib.suppress(ChannelClosed):  # it is exiting
            self.channel.send(ShareConnections(count, slot))

    def trace_memory(self, ticket: int, action: str, top: int) -> bool:
        """Have the worker trace its memory, see `TraceMemory`; False where it cannot be asked now."""
        try:
            return self.channel.send(TraceMemory(ticket, action, top))
        except ChannelClosed:  # it is exiting
            return False

    def facts(self) -> PageSnapshot | None:
        """What the child's page says; None when that is invalid."""
        try:
            return self.page.facts()
        except ValueError:
            # The arbiter does not trust what is in the child's memory.
            return None

    @property
    def beat_deadline(self) -> float:
        """The child's beat deadline, 0.0 for none."""
        return self.page.floats[Cell.DEADLINE]

    @property
    def takes_requests(self) -> bool:
        """Does the child listen, according to its page? It may not have been read yet that it is ready."""
        return self.page.cells[Cell.STATE] > WorkerState.BOOTING

    def note_processor_times(self, user_s: float, system_s: float) -> None:
        """Write on the child's page how much processor time it has taken so far, in seconds."""
        self.page.raise_to(Cell.CPU_USER_NS, int(user_s * 1e9))
        self.page.raise_to(Cell.CPU_SYSTEM_NS, int(system_s * 1e9))

    def stacks(self) -> str:
        """The stacks that the child has written; of very long ones the end, where a fault is."""
        try:
            begin = max(0, os.fstat(self.stacks_fd).st_size - _STACKS_BYTES)
            # A child that wrote while the file was emptied has left a hole in front.
            return os.pread(self.stacks_fd, _STACKS_BYTES, begin).decode("utf-8", "replace").replace("\0", "")
        except OSError:
            # The file system has failed; the report does without.
            return ""

    def clear_stacks(self) -> None:
        """Forget the stacks that the child has written, so that what it writes next is found at the beginning."""
        with contextlib.suppress(OSError):  # the file system has failed; the report does without
            os.ftruncate(self.stacks_fd, 0)
            # The position is the child's, too: both have the same open file.
            os.lseek(self.stacks_fd, 0, os.SEEK_SET)

    def limit_stacks(self, most_bytes: int) -> None:
        """Forget them if they are longer than this, unless the child has written where a fault ends it."""
        with contextlib.suppress(OSError):  # as above
            if os.fstat(self.stacks_fd).st_size > most_bytes and _FAULT not in self.stacks():
                self.clear_stacks()

    def close(self) -> None:
        """Close all descriptors."""
        self.channel.close()
        os.close(self.stacks_fd)
        if self.orders is not None:
            self.orders.close()
