"""The arbiter's children as processes: born, spoken to, looked at, and buried.

Carries out what others decide. Owns the arbiter's end of every descriptor that
belongs to one child, and gives it back when that child is gone.
"""

import contextlib
import dataclasses
import itertools
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Collection, Iterator
from typing import NoReturn

from wsgicluster.arbiter import mold, spawn
from wsgicluster.arbiter.addresses import Places
from wsgicluster.arbiter.autopsy import Exit
from wsgicluster.arbiter.child import Child, Input, Role
from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.arbiter.pool import Spawn
from wsgicluster.arbiter.roles import Roles
from wsgicluster.cluster.assignment import Assignment
from wsgicluster.cluster.nudge import nudge
from wsgicluster.logs import Logs
from wsgicluster.messages import Channel, ChannelClosed, ListenersEnd, Message
from wsgicluster.scoreboard import Cell, Facts, Page, Scoreboard, WorkerState
from wsgicluster.settings import Settings

_STACKS_BYTES = 256 * 1024
_MAXRSS_BYTES = 1 if os.uname().sysname == "Darwin" else 1024


@dataclasses.dataclass(slots=True)
class Link:
    """What the arbiter holds of one child."""

    child: Child
    page: Page
    channel: Channel
    stacks_fd: int
    orders: socket.socket | None = None
    """The way to order workers from a mold."""
    places: Places = ()
    """What it listens at."""
    told: frozenset[int] = frozenset()
    """Listeners of which it has been told that they end."""
    silent: bool = False
    """The child's end of the channel is closed."""

    def close(self) -> None:
        """Give all descriptors back."""
        self.channel.close()
        os.close(self.stacks_fd)
        if self.orders is not None:
            self.orders.close()


class Family:
    """All children that are or may still be alive; to be closed by who made it."""

    def __init__(self, board: Scoreboard, inbox: Inbox, roles: Roles, logs: Logs) -> None:
        self._board = board
        self._inbox = inbox
        self._roles = roles
        self._logs = logs
        self._links: dict[int, Link] = {}
        self._by_pid: dict[int, int] = {}
        self._unclaimed: dict[int, Exit] = {}
        self._keys = itertools.count(1)
        self._others: dict[int, Callable[[Exit], object]] = {}
        self.hand_off = self._take_hand_off(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.listeners: dict[int, Places] = {}
        """Those of each generation that may still get workers."""
        self.stacks_folder: str | None = None
        self.paused: list[tuple[Child, bool]] = []
        """Children found by `reap` to have been stopped (True) or continued by a signal, until somebody empties it."""

    @staticmethod
    def _take_hand_off(ends: tuple[socket.socket, socket.socket]) -> tuple[socket.socket, socket.socket]:
        for end in ends:
            end.setblocking(False)
        return ends

    def share_hand_off(self, ends: tuple[socket.socket, socket.socket]) -> None:
        """Use the hand-off socket of another server, receiving end first; before there is any child."""
        for end in self.hand_off:
            end.close()
        self.hand_off = self._take_hand_off(ends)

    # Birth

    def spawn(self, order: Spawn, settings: Settings, now: float) -> Child:
        """Make the child that was ordered; raises OSError or ServerError when there is no room for it."""
        child = Child(next(self._keys), order.slot, order.generation, now, order.role)
        page = self._board.take(order.slot, order.generation)
        with contextlib.ExitStack() as undo:
            undo.callback(self._board.free, page)
            if settings.timeout > 0:
                page.floats[Cell.DEADLINE] = now + settings.timeout
            ours, theirs = Channel.pair()
            undo.callback(ours.close)
            # The child has its own copy of this end by the time it is closed here.
            with contextlib.closing(theirs):
                stacks_fd = self._stacks_file()
                undo.callback(os.close, stacks_fd)
                link = Link(child, page, ours, stacks_fd)
                if order.role is Role.MOLD:
                    self._spawn_mold(link, theirs, settings)
                else:
                    self._spawn_worker(link, theirs, order, settings)
            undo.pop_all()
        self._links[child.key] = link
        if child.pid:
            self._by_pid[child.pid] = child.key
            child.take(Input.STARTED)
        self._inbox.watch(ours, child.key)
        return child

    def _stacks_file(self) -> int:
        if hasattr(os, "memfd_create"):
            return os.memfd_create("wsgicluster-stacks", os.MFD_CLOEXEC)
        with tempfile.TemporaryFile(dir=self.stacks_folder, buffering=0) as file:
            return os.dup(file.fileno())

    def _spawn_mold(self, link: Link, channel: Channel, settings: Settings) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        place = mold.Place(link.child.generation, link.page, self._board, channel, theirs, link.stacks_fd)
        try:
            link.child.pid = spawn.fork(mold.Mold(place, settings, self._roles, self._logs).run, self._logs.error)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        link.orders = ours

    def _spawn_worker(self, link: Link, channel: Channel, order: Spawn, settings: Settings) -> None:
        child = link.child
        places = link.places = self.listeners[child.generation]
        assignment = Assignment(
            slot=child.slot,
            generation=child.generation,
            page=link.page,
            board=self._board,
            channel=channel,
            listeners=tuple(sock for _, sock in places),
            hand_off_receive=self.hand_off[0],
            hand_off_send=self.hand_off[1],
            stacks_fd=link.stacks_fd,
            rehearse=order.rehearse,
            listener_numbers=tuple(number for number, _ in places),
        )
        maker = self._mold_of(child.generation)
        if maker is not None and maker.orders is not None:
            child.mold = maker.child.key
            mold.send_order(maker.orders, child.key, assignment)
            return

        def run() -> NoReturn:
            keep = assignment.descriptors() | self._logs.descriptors()
            spawn.settle_in(f"worker {child.slot}", settings.proc_name or settings.wsgi_app or "", keep)
            self._roles.boot_worker(settings, assignment, None)

        child.pid = spawn.fork(run, self._logs.error)

    def _mold_of(self, generation: int) -> Link | None:
        links = [k for k in self._links.values() if k.child.generation == generation and k.child.ready]
        return next((link for link in links if link.orders is not None), None)

    def claim(self, child: Child, pid: int) -> Exit | None:
        """A worker was forked by its mold and has this pid; answers how it ended if it is gone already."""
        child.pid = pid
        child.take(Input.STARTED)
        ended = self._unclaimed.pop(pid, None)
        if ended is None:
            self._by_pid[pid] = child.key
        return ended

    # Life

    def end_listeners(self, wanted: Collection[int]) -> None:
        """Tell workers that have others than these that those end: whoever lets go of one last, empties its queue."""
        for link in self._links.values():
            ended = {number for number, _ in link.places}.difference(wanted, link.told)
            if ended:
                link.told |= ended
                with contextlib.suppress(ChannelClosed):  # it is as good as gone
                    link.channel.send(ListenersEnd(sorted(ended)))

    def signal(self, child: Child, number: int) -> None:
        """Send a signal; a process that is gone, or not known yet, is left out."""
        if child.pid:
            with contextlib.suppress(ProcessLookupError):  # it ended just now and will be reaped
                os.kill(child.pid, number)

    def nudge(self) -> None:
        """Have a worker look for new connections: who was woken for one may never take it."""
        nudge(self.hand_off[1])

    def messages(self, key: int) -> Iterator[Message | ValueError]:
        """All messages that have come from a child; ValueError for one that makes no sense."""
        link = self._links.get(key)
        while link is not None:
            try:
                message = link.channel.receive()
            except ChannelClosed:
                self._inbox.unwatch(link.channel)
                link.silent = True
                return
            except ValueError as error:
                yield error
                continue
            if message is None:
                return
            yield message

    def never_born(self, key: int) -> Child | None:
        """The worker with this key, if nobody is left who could still say which process it is."""
        link = self._links.get(key)
        return link.child if link is not None and link.silent and link.child.pid == 0 else None

    def facts(self, child: Child) -> Facts | None:
        """What the child's page says; None when it makes no sense."""
        try:
            return self._links[child.key].page.facts()
        except ValueError:
            # The child's memory is not the arbiter's to trust.
            return None

    def deadline(self, child: Child) -> float:
        """The child's beat deadline, 0.0 for none."""
        return self._links[child.key].page.floats[Cell.DEADLINE]

    def takes_requests(self, child: Child) -> bool:
        """Has the child come as far as to listen, whatever of its words has been read?"""
        return self._links[child.key].page.cells[Cell.STATE] > WorkerState.BOOTING

    def stacks(self, child: Child) -> str:
        """What the child has written of its stacks, the end cut off if it is very long."""
        try:
            return os.pread(self._links[child.key].stacks_fd, _STACKS_BYTES, 0).decode("utf-8", "replace")
        except OSError:
            # A file system that went bad; the report goes without.
            return ""

    # Death

    def tell_end(self, pid: int, ended: Callable[[Exit], object]) -> None:
        """Call this when a process has ended that is our child, but none of these children."""
        self._others[pid] = ended

    def reap(self) -> Iterator[tuple[Child, Exit]]:
        """Children that have ended; what else was left to us just vanishes."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                if pid in self._by_pid:
                    self.paused.append((self._links[self._by_pid[pid]].child, os.WIFSTOPPED(status)))
                continue
            ended = Exit(
                code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
                signal_number=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
                peak_bytes=usage.ru_maxrss * _MAXRSS_BYTES,
                processor_s=usage.ru_utime + usage.ru_stime,
                core_dumped=os.WCOREDUMP(status),
            )
            key, other = self._by_pid.pop(pid, None), self._others.pop(pid, None)
            if other is not None:
                other(ended)
            elif key is not None:
                yield self._links[key].child, ended
            elif any(link.child.pid == 0 for link in self._links.values()):
                # A mold's worker may end before the mold has told of it.
                self._unclaimed[pid] = ended
            else:
                self._unclaimed.clear()

    def release(self, child: Child) -> None:
        """Give back all that belonged to a child that is gone."""
        link = self._links.pop(child.key)
        self._by_pid.pop(child.pid, None)
        self._inbox.unwatch(link.channel)
        link.close()
        self._board.free(link.page)

    def close(self) -> None:
        """End and reap whoever is left, and give all descriptors back."""
        for link in list(self._links.values()):
            if link.child.pid:
                self.signal(link.child, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):  # reaped before
                    os.waitpid(link.child.pid, 0)
            self.release(link.child)
        for end in self.hand_off:
            end.close()
