"""The arbiter's children as processes: spawned, found by their pid, and reaped.

Carries out what others decide, and owns the link to each child until that is released.
"""

import contextlib
import errno
import functools
import itertools
import os
import socket
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NoReturn

from wsgicluster.arbiter.children import fork, mold
from wsgicluster.arbiter.children.entry_points import Roles
from wsgicluster.arbiter.children.event_outbox import EventOutbox
from wsgicluster.arbiter.children.link import ChildLink
from wsgicluster.arbiter.children.mailbox_keeper import MailboxKeeper
from wsgicluster.arbiter.children.prepared import PreparedChild
from wsgicluster.arbiter.hooks import NO_HOOKS, ArbiterHooks
from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.arbiter.listeners.registry import ListenerSet
from wsgicluster.arbiter.plan.child import Child, Input, Role
from wsgicluster.arbiter.plan.orders import MOLD_SLOT, Spawn
from wsgicluster.arbiter.plan.rollout import Generation
from wsgicluster.arbiter.plan.support import SUPPORT_ROLES
from wsgicluster.arbiter.postmortem.diagnosis import Exit
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.app_metrics import AppMetricsFolder
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import Channel, ChannelClosed, MoldOrdered
from wsgicluster.ipc.scheduling import Scheduling, load_scheduling, store_scheduling
from wsgicluster.ipc.scoreboard import Cell, ChildRole, Scoreboard
from wsgicluster.ipc.shared_files import SharedFiles
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.settings.types.scheduling import SHARED, STICKY_POLICY


@dataclass(frozen=True, slots=True)
class _SupportRow:
    """What tells one role beside the workers from another."""

    page_role: ChildRole
    title: str


_SUPPORT = {
    Role.JOBS: _SupportRow(ChildRole.JOBS, "jobs worker"),
    Role.STEWARD: _SupportRow(ChildRole.STEWARD, "steward"),
    Role.ADMIN: _SupportRow(ChildRole.ADMIN, "admin"),
}

_MAXRSS_BYTES = 1 if os.uname().sysname == "Darwin" else 1024


class ChildProcesses:
    """All children that are or may still be alive; to be closed by its owner.

    ``sockets`` returns the listeners with these numbers.
    """

    def __init__(
        self,
        board: Scoreboard,
        inbox: Inbox,
        roles: Roles,
        logs: Logs,
        sockets: Callable[[Iterable[int]], ListenerSet],
    ) -> None:
        self.board = board
        self._inbox = inbox
        self._roles = roles
        self._logs = logs
        self._sockets = sockets
        self._links: dict[int, ChildLink] = {}
        self._by_pid: dict[int, int] = {}
        self._unclaimed: dict[int, Exit] = {}
        self._keys = itertools.count(1)
        self._others: dict[int, Callable[[Exit], object]] = {}
        self.mailboxes = MailboxKeeper(board, self._links.values)
        self.shared_files: SharedFiles | None = None
        """Those that children get; set before there is any child."""
        self.app_metrics: AppMetricsFolder | None = None
        """Where children keep the application's metrics, if their settings say so."""
        self.admin_sockets: Callable[[Settings], tuple[socket.socket, ...]] = lambda _: ()
        """Where the admin worker of these settings listens."""
        self.admit_control: Callable[[socket.socket, str], object] | None = None
        """Gives the arbiter's end of a connection to the control server, with the name of who has the other one."""
        self.hooks: ArbiterHooks = NO_HOOKS
        """What calls the hooks of the configuration file."""
        self.events = EventOutbox(logs.error)
        self.stacks_folder: str | None = None
        self.paused: list[tuple[Child, bool]] = []
        """Children that `reap` has found stopped (True) or continued by a signal; the reader empties it."""

    def link(self, child: Child) -> ChildLink:
        """The link to a child that has not been released."""
        return self._links[child.key]

    def use_hooks(self, settings: Settings) -> None:
        """Call the hooks of these settings from now on."""
        self.hooks = self._roles.hooks(settings)

    # Spawn

    @property
    def can_wait(self) -> bool:
        """May a child that was prepared wait until others are, too? Not where a hook has set something for it alone."""
        return self.hooks is NO_HOOKS

    def prepare(self, order: Spawn, generation: Generation, now: float) -> PreparedChild:
        """Get everything for the child that was ordered; raises OSError or ServerError when there is no room for it.

        It is to be started, or closed.
        """
        settings = generation.settings
        child = Child(next(self._keys), order.slot, order.generation, now, order.role)
        page = self.board.take(order.slot, order.generation)
        with contextlib.ExitStack() as undo:
            undo.callback(self.board.free, page)
            if settings.timeout > 0:
                page.floats[Cell.DEADLINE] = now + settings.timeout
            ours, theirs = Channel.pair()
            undo.callback(ours.close)
            undo.callback(theirs.close)
            stacks_fd = self._stacks_file()
            undo.callback(os.close, stacks_fd)
            link = ChildLink(child, page, ours, stacks_fd)
            start: Callable[[], object]
            if order.role is Role.MOLD:
                start = functools.partial(self._start_mold, link, theirs, generation)
            elif order.role in SUPPORT_ROLES:
                start = functools.partial(self._start_support, link, theirs, generation)
            else:
                start = self._prepare_worker(link, theirs, order, generation, undo)
            return PreparedChild(link, theirs, start, undo.pop_all().close)

    def adopt(self, started: PreparedChild) -> Child:
        """Keep the link to a child that was started, from now on."""
        link, child = started.link, started.link.child
        # The child has its own copy of this end.
        started.channel.close()
        self._links[child.key] = link
        if child.pid:
            self._by_pid[child.pid] = child.key
            child.take(Input.STARTED)
        return child

    def promote(self, source: Child, now: float) -> Child:
        """Order a mold from a worker, which forks it once it has drained; raises OSError when that cannot be done."""
        child = Child(next(self._keys), MOLD_SLOT, source.generation, now, Role.MOLD, mold=source.key)
        page = self.board.take(MOLD_SLOT, source.generation)
        with contextlib.ExitStack() as undo:
            undo.callback(self.board.free, page)
            ours, theirs = Channel.pair()
            undo.callback(ours.close)
            orders, their_orders = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(orders.close)
            with contextlib.closing(theirs), contextlib.closing(their_orders):
                stacks_fd = self._stacks_file()
                undo.callback(os.close, stacks_fd)
                passed = [theirs.fileno(), their_orders.fileno(), stacks_fd]
                try:
                    sent = self._links[source.key].channel.send(MoldOrdered(child.key, page.index, passed))
                except ChannelClosed as error:
                    raise OSError(errno.EPIPE, str(error)) from error
                if not sent:
                    raise OSError(errno.EAGAIN, "its channel is full")
            undo.pop_all()
        link = ChildLink(child, page, ours, stacks_fd)
        orders.setblocking(False)
        link.orders = orders
        # With its first order it gets all mailboxes.
        link.forget_mailboxes()
        self._links[child.key] = link
        return child

    def sockets(self, numbers: Iterable[int]) -> ListenerSet:
        """The listeners with these numbers."""
        return self._sockets(numbers)

    def listeners_of(self, child: Child) -> ListenerSet:
        """The listeners that a child has, but for those of which it has been notified that they end."""
        return self._sockets(self._links[child.key].listeners)

    def watch(self, child: Child, handle: Callable[[], object]) -> None:
        """Have ``handle`` called whenever this child has sent something."""
        self._inbox.watch(self._links[child.key].channel, handle)

    def _metrics_folder(self, settings: Settings) -> str:
        return self.app_metrics.path if self.app_metrics is not None and settings.app_metrics else ""

    def _stacks_file(self) -> int:
        if hasattr(os, "memfd_create"):
            return os.memfd_create("wsgicluster-stacks", os.MFD_CLOEXEC)
        with tempfile.TemporaryFile(dir=self.stacks_folder, buffering=0) as file:
            return os.dup(file.fileno())

    def _start_mold(self, link: ChildLink, channel: Channel, generation: Generation) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        registry = self.mailboxes.registry
        context = mold.MoldContext(
            generation.number, link.page, self.board, channel, theirs, link.stacks_fd, registry,
            self.shared_files, self._metrics_folder(generation.settings),
            generation.tls.context if generation.tls else None, self.hooks.descriptors(),
        )  # fmt: skip
        link.note_mailboxes(registry)
        run = mold.Mold(context, generation.settings, self._roles, self._logs).run
        try:
            link.child.pid = fork.fork(run, self._logs.error)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        link.orders = ours

    def _prepare_worker(
        self, link: ChildLink, channel: Channel, order: Spawn, generation: Generation, undo: contextlib.ExitStack
    ) -> Callable[[], object]:
        """Make all that a worker is given; what is returned starts it, ``undo`` frees what is taken for that."""
        child, settings = link.child, generation.settings
        link.listeners = set(generation.listeners)
        link.scheduling_serial = self.board.server.cells[Cell.SCHEDULING_SERIAL]
        mailboxes = link.share_mailboxes(self.mailboxes.registry, child.slot)
        maker = self._mold_of(child.generation)
        given = self.hooks.before_fork(child, settings, lambda: link.page.cells[Cell.REQUESTS])
        assignment = Assignment(
            slot=child.slot,
            generation=child.generation,
            page=link.page,
            board=self.board,
            channel=channel,
            listeners=tuple(sock for _, sock in self._sockets(generation.listeners)),
            hand_off_receive=self.mailboxes.hand_off[0],
            hand_off_send=self.mailboxes.hand_off[1],
            stacks_fd=link.stacks_fd,
            smoke_test=order.smoke_test,
            is_judged=order.is_judged,
            listener_numbers=generation.listeners,
            mailboxes=mailboxes,
            shared_files=self.shared_files,
            app_metrics=self._metrics_folder(settings),
            tls=generation.tls.context if generation.tls else None,
            hooked=given if maker is None else self.hooks.packed(given, settings),
        )
        if maker is not None and maker.orders is not None:
            return functools.partial(self._order_of_mold, maker, maker.orders, child, assignment)

        # Found here, where it takes no memory of each worker.
        keep = assignment.descriptors() | self.hooks.descriptors() | self._logs.descriptors()
        prepared = self._roles.prepare_worker(settings, assignment, None)
        if prepared is not None:
            keep |= prepared.descriptors
            undo.callback(prepared.close)

        def run() -> NoReturn:
            fork.settle_in(f"worker {child.slot}", settings.proc_name or settings.wsgi_app or "", keep)
            if prepared is not None:
                prepared.boot()
            self._roles.boot_worker(settings, assignment, None)

        def start() -> None:
            try:
                child.pid = fork.fork(run, self._logs.error)
            finally:
                if prepared is not None:
                    prepared.close()

        return start

    def _order_of_mold(self, maker: ChildLink, orders: socket.socket, child: Child, assignment: Assignment) -> None:
        """Have a mold fork a worker."""
        child.mold, registry = maker.child.key, self.mailboxes.registry
        mold.send_order(orders, child.key, assignment, registry, maker.known_mailboxes)
        maker.note_mailboxes(registry)

    def _start_support(self, link: ChildLink, channel: Channel, generation: Generation) -> None:
        child, settings = link.child, generation.settings
        row = _SUPPORT[child.role]
        # Before it joins, so that no worker takes it for a sibling.
        link.page.cells[Cell.ROLE] = row.page_role
        is_steward, is_admin = child.role is Role.STEWARD, child.role is Role.ADMIN
        if is_steward:
            self.events.open()
        registry = self.mailboxes.registry
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair() if is_admin else (None, None)
            if ours is not None and theirs is not None:
                undo.callback(ours.close)
                undo.callback(theirs.close)
            assignment = Assignment(
                slot=0,
                generation=child.generation,
                page=link.page,
                board=self.board,
                channel=channel,
                listeners=self.admin_sockets(settings) if is_admin else (),
                hand_off_receive=self.mailboxes.hand_off[0],
                hand_off_send=self.mailboxes.hand_off[1],
                stacks_fd=link.stacks_fd,
                mailboxes=None if is_admin else link.share_mailboxes(registry, child.role.value),
                shared_files=None if is_admin else self.shared_files,
                app_metrics=self._metrics_folder(settings),
                events=self.events.receive_end if is_steward else None,
                control=theirs,
            )

            def run() -> NoReturn:
                keep = assignment.descriptors() | self._logs.descriptors()
                fork.settle_in(row.title, settings.proc_name or settings.wsgi_app or "", keep)
                if is_steward:
                    self._roles.boot_steward(settings, assignment, generation.registered)
                elif is_admin:
                    self._roles.boot_admin(settings, assignment)
                self._roles.boot_jobs(settings, assignment)

            child.pid = fork.fork(run, self._logs.error)
            if ours is not None and theirs is not None:
                undo.pop_all()
                theirs.close()
                self._connect_control(ours)

    def _connect_control(self, ours: socket.socket) -> None:
        """Have the control server answer the admin worker, which has the other end."""
        assert self.admit_control is not None, "there is a control server before there are children"
        self.admit_control(ours, "admin worker")

    def _mold_of(self, generation: int) -> ChildLink | None:
        """The newest that is ready: one that was forked from a worker is newer than that which has made the worker."""
        links = [k for k in self._links.values() if k.child.generation == generation and k.child.ready]
        return max((link for link in links if link.orders is not None), key=lambda k: k.child.key, default=None)

    def claim(self, child: Child, pid: int) -> Exit | None:
        """A mold has forked this worker, which has this pid; returns how it exited, if it has."""
        child.pid = pid
        child.take(Input.STARTED)
        ended = self._unclaimed.pop(pid, None)
        if ended is None:
            self._by_pid[pid] = child.key
        else:
            self._links[child.key].note_processor_times(ended.processor_s - ended.system_s, ended.system_s)
        return ended

    # All of them

    def end_listeners(self, wanted: Collection[int]) -> None:
        """Tell all workers that have other listeners than these that those end."""
        for link in self._links.values():
            link.end_listeners(wanted)

    @property
    def scheduling(self) -> Scheduling:
        """The scheduling policy that the workers follow."""
        return load_scheduling(self.board.server)

    def set_scheduling(self, wanted: Scheduling) -> None:
        """Have all workers follow a scheduling policy; each is notified in the next `tell_scheduling`."""
        if wanted != self.scheduling:
            store_scheduling(self.board.server, wanted)
        self.mailboxes.clients_belong_to_workers(wanted.policy in (SHARED, STICKY_POLICY))

    def tell_scheduling(self) -> None:
        """Tell the workers that have not heard of the policy in force."""
        serial = self.board.server.cells[Cell.SCHEDULING_SERIAL]
        for link in self._links.values():
            link.update_scheduling(serial)

    # Reap

    def on_exit(self, pid: int, call: Callable[[Exit], object]) -> None:
        """Have this called when a process exits that is a child of this one, but has no link."""
        self._others[pid] = call

    def reap(self) -> Iterator[tuple[Child, Exit]]:
        """Children that have exited; other processes that the system has made children of this one are dropped."""
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
                system_s=usage.ru_stime,
                core_dumped=os.WCOREDUMP(status),
            )
            key, other = self._by_pid.pop(pid, None), self._others.pop(pid, None)
            if other is not None:
                other(ended)
            elif key is not None:
                link = self._links[key]
                link.note_processor_times(ended.processor_s - ended.system_s, ended.system_s)
                yield link.child, ended
            elif any(link.child.pid == 0 for link in self._links.values()):
                # A mold's worker may exit before the mold has reported its pid.
                self._unclaimed[pid] = ended
            else:
                self._unclaimed.clear()

    def mute(self, child: Child) -> None:
        """Stop watching a child whose channel is closed: it would be readable forever."""
        self._inbox.unwatch(self._links[child.key].channel)

    def release(self, child: Child) -> None:
        """Free all that belonged to a child that has exited."""
        link = self._links.pop(child.key)
        if child.role is Role.WORKER:
            self.hooks.exited(child)
        maker = self._links.get(child.mold)
        if maker is not None and maker.orders is not None and child.pid == 0:
            # It may have lost the descriptors of the order: with the next one it gets those of all mailboxes.
            maker.forget_mailboxes()
        self._by_pid.pop(child.pid, None)
        self._inbox.unwatch(link.channel)
        link.close()
        if self.app_metrics is not None:
            self.app_metrics.forget_living(child.slot, link.page.index)
        self.board.free(link.page)

    def close(self) -> None:
        """End and reap all children that are left, and close all descriptors."""
        for link in list(self._links.values()):
            link.kill_and_wait()
            self.release(link.child)
        self.mailboxes.close()
        self.events.close()
