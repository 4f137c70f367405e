"""The mold: a child that loads the application once and forks workers on order.

It exists so that the arbiter itself never runs application code and a reload still
loads new code. Its workers are forked twice, so that they become the arbiter's own
children (the arbiter is their subreaper), which reaps them itself.
"""

import errno
import faulthandler
import gc
import json
import os
import resource
import select
import signal
import socket
import threading
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from wsgicluster.arbiter.children import fork
from wsgicluster.arbiter.children.entry_points import Roles
from wsgicluster.clock import SystemClock
from wsgicluster.dataclass import dataclass
from wsgicluster.errors import AppLoadError, HookError, ServerError
from wsgicluster.ipc import app_metrics, membership
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.mailbox import MailboxName, MailboxRegistry
from wsgicluster.ipc.messages import BootFailed, Channel, Forked, Ready
from wsgicluster.ipc.scoreboard import Cell, Page, Scoreboard
from wsgicluster.ipc.shared_files import SharedFiles
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.system import forks, parent_death, privileges, process, signals
from wsgicluster.system.descriptors import count_descriptors
from wsgicluster.system.network import descriptor_passing

if TYPE_CHECKING:
    import ssl

# As they are now: an application, or a kind of workers, may put what waits otherwise in their place.
_Socket, _new_poll = socket.socket, select.poll

MOST_TOGETHER = 32
"""How many orders are carried out at once."""

_OWN_DESCRIPTORS = 8
"""What a worker whose parts are made takes besides those of its order, at most, and a fork for a moment."""

TOGETHER_MS = 2
"""Orders that were sent together have come within this time from one to the next; so long each worker waits for it."""

_ORDER_BYTES = 64 * 1024
_MORE = b"more"
"""The packets after the first of an order that has more descriptors than one packet takes."""
_MOST_DESCRIPTORS = 250
"""The kernel passes at most 253 descriptors at a time."""


@dataclass(frozen=True, slots=True)
class MoldContext:
    """What a mold receives when it is forked."""

    generation: int
    page: Page
    board: Scoreboard
    channel: Channel
    orders: socket.socket
    stacks_fd: int
    mailboxes: MailboxRegistry
    """As they were when it was forked; orders say what has changed since."""
    shared_files: SharedFiles | None
    app_metrics: str = ""
    """As workers have it."""
    tls: "ssl.SSLContext | None" = None
    """What its workers make their TLS contexts of; each gets its own copy with the fork."""
    opened: frozenset[int] = frozenset()
    """What hooks of the configuration file have opened, and workers may use."""

    def own_descriptors(self) -> set[int]:
        """Those that are of use to the mold alone."""
        return {self.channel.fileno(), self.orders.fileno(), self.stacks_fd}

    def descriptors(self) -> set[int]:
        """All of its own that stay open in it, besides those of the logs."""
        shared = self.shared_files.descriptors() if self.shared_files is not None else set()
        return self.own_descriptors() | self.mailboxes.descriptors() | shared


def send_order(
    orders: socket.socket,
    ticket: int,
    assignment: Assignment,
    mailboxes: MailboxRegistry,
    known: Mapping[MailboxName, int],
) -> None:
    """Order a worker from a mold that knows these mailboxes; raises OSError when that is not possible now."""
    # Not all mailboxes with each order: the kernel limits how many descriptors of a user are under way.
    opened, closed, ends = mailboxes.news(known)
    descriptors = [
        assignment.channel.fileno(),
        assignment.hand_off_receive.fileno(),
        assignment.hand_off_send.fileno(),
        assignment.stacks_fd,
        *(listener.fileno() for listener in assignment.listeners),
        *ends,
    ]
    fields = {
        "ticket": ticket,
        "slot": assignment.slot,
        "generation": assignment.generation,
        "page": assignment.page.index,
        "smoke_test": assignment.smoke_test,
        "is_judged": assignment.is_judged,
        "listener_numbers": assignment.listener_numbers,
        "opened": opened,
        "closed": closed,
        "whole": not known,
        "hooked": assignment.hooked,
        "descriptors": len(descriptors),
    }
    packet = json.dumps(fields).encode()
    for start in range(0, len(descriptors), _MOST_DESCRIPTORS):
        # An order that is sent in part is dropped by the mold when the next one comes.
        socket.send_fds(orders, [packet], descriptors[start : start + _MOST_DESCRIPTORS])
        packet = _MORE


def send_closed(orders: socket.socket, names: Collection[MailboxName]) -> None:
    """Have a mold close mailboxes that the arbiter has closed; raises OSError when that is not possible now."""
    orders.send(json.dumps({"closed": list(names)}).encode())


def _exit() -> NoReturn:
    forks.end_children()
    os._exit(0)


class NoRoomError(Exception):
    """An order came whose descriptors could not be received; ``ticket`` is that of the worker."""

    def __init__(self, ticket: int) -> None:
        super().__init__(ticket)
        self.ticket = ticket


def _receive_order(context: MoldContext) -> tuple[int, Assignment]:
    """Ticket and assignment of the next worker.

    Raises EOFError when the arbiter has exited, NoRoomError when this process has no descriptors left for the worker's.
    """
    fields: dict[str, Any] = {}
    descriptors: list[int] = []
    complete = False
    while not complete:
        packet, received, truncated = descriptor_passing.receive_descriptors(
            context.orders, _ORDER_BYTES, _MOST_DESCRIPTORS
        )
        if not packet:
            raise EOFError
        if packet != _MORE:
            _close_all(descriptors)
            fields, descriptors = json.loads(packet), []
            if "ticket" not in fields:
                context.mailboxes.adopt([], fields["closed"], [])
                fields = {}
                continue
        elif not fields:
            _close_all(received)  # of an order that has been refused
            continue
        descriptors += received
        if truncated:
            _close_all(descriptors)
            raise NoRoomError(fields["ticket"])
        complete = len(descriptors) == fields["descriptors"]
    count = len(fields["listener_numbers"])
    channel, receive, send, stacks_fd, *others = descriptors
    listeners, ends = others[:count], others[count:]
    closed = list(context.mailboxes.known()) if fields["whole"] else fields["closed"]
    context.mailboxes.adopt(fields["opened"], closed, ends)
    assignment = Assignment(
        slot=fields["slot"],
        generation=fields["generation"],
        page=context.board.page(fields["page"]),
        board=context.board,
        channel=Channel(_Socket(fileno=channel), is_childs=True),
        listeners=tuple(_Socket(fileno=number) for number in listeners),
        hand_off_receive=_Socket(fileno=receive),
        hand_off_send=_Socket(fileno=send),
        stacks_fd=stacks_fd,
        smoke_test=fields["smoke_test"],
        is_judged=fields["is_judged"],
        listener_numbers=tuple(fields["listener_numbers"]),
        mailboxes=context.mailboxes.share(fields["slot"]),
        shared_files=context.shared_files,
        app_metrics=context.app_metrics,
        tls=context.tls,
        hooked=fields["hooked"],
    )
    return fields["ticket"], assignment


def _close_all(descriptors: list[int]) -> None:
    for number in descriptors:
        os.close(number)


class Mold:
    """The process itself, from its first moment on."""

    def __init__(self, context: MoldContext, settings: Settings, roles: Roles, logs: Logs) -> None:
        self._context = context
        self._settings = settings
        self._roles = roles
        self._logs = logs
        self._reopen = False
        self._wake: tuple[int, int] = (-1, -1)
        self._name = settings.proc_name or settings.wsgi_app or ""

    def run(self) -> NoReturn:
        """Load the application, then fork workers until the arbiter has exited."""
        keep = self._context.descriptors() | self._context.opened | self._logs.descriptors()
        fork.settle_in("mold", self._name, keep)
        self._begin()
        clock = SystemClock()
        begun_at = clock.monotonic()
        try:
            # Nothing of the application runs as root, where workers would not.
            privileges.drop_privileges(self._settings.user, self._settings.group, self._settings.initgroups)
            application = self._roles.load_application(self._settings)
        except ServerError as error:
            trace = error.trace if isinstance(error, AppLoadError) else ""
            self._context.channel.send(BootFailed(error.exit_code, str(error), trace))
            forks.end_children()
            os._exit(error.exit_code)
        if forks.strayed():
            forks.end_stray(self._logs.error)
        forks.booted()
        if threading.active_count() > 1:
            self._logs.error.warning(
                "The application started threads while it was preloaded (%s): workers will not have them",
                ", ".join(thread.name for thread in threading.enumerate()[1:]),
            )
        self._fork_workers(application, begun_at)

    def take_over(self, application: object, prepare: Callable[[], object] | None) -> NoReturn:
        """Fork workers with an application that a worker has loaded and used, which has forked this process.

        ``prepare`` is called before the first one, and may raise a ServerError.
        """
        begun_at = SystemClock().monotonic()
        process.set_title("mold", self._name)
        if self._settings.timeout > 0:
            # The arbiter does not know when it was forked: the worker may have drained for long.
            self._context.page.floats[Cell.DEADLINE] = begun_at + self._settings.timeout
        self._begin()
        try:
            if prepare is not None:
                prepare()
        except ServerError as error:
            trace = error.trace if isinstance(error, HookError) else ""
            self._context.channel.send(BootFailed(error.exit_code, str(error), trace))
            os._exit(error.exit_code)
        self._fork_workers(application, begun_at)

    def _begin(self) -> None:
        """What makes this process the mold, whatever it was forked from."""
        self._take_signals()
        faulthandler.register(signals.DUMP_STACKS, file=self._context.stacks_fd, all_threads=True)
        faulthandler.enable(self._context.stacks_fd)
        parent_death.notice(self._context.channel.fileno(), _exit)
        forks.begin("mold", self._name, self._logs.error)
        forks.on_fork(self._forget)
        files = self._context.shared_files
        if files is not None:
            membership.lend(membership.SharedState(files, self._settings.store, self._settings.store_size))
        if self._context.app_metrics:
            # Its own: each of its workers opens those of its slot when it counts for the first time.
            app_metrics.begin(self._context.app_metrics, 0, self._context.page.index)

    def _fork_workers(self, application: object, begun_at: float) -> NoReturn:
        # What is frozen is not touched by collections, so that workers continue to share its memory.
        gc.collect()
        gc.freeze()
        self._context.page.floats[Cell.DEADLINE] = 0.0
        self._context.channel.send(Ready(SystemClock().monotonic() - begun_at))
        while True:
            orders = self._receive_orders()
            if orders:
                self._carry_out(orders, application)

    def _receive_orders(self) -> list[tuple[int, Assignment]]:
        """The next order, and those that have been sent together with it."""
        orders: list[tuple[int, Assignment]] = []
        self._await_order()
        while not orders or (len(orders) < MOST_TOGETHER and self._comes_another(len(orders))):
            try:
                orders.append(_receive_order(self._context))
            except EOFError:
                _exit()
            except NoRoomError as error:
                self._refuse(error.ticket, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
                break
        return orders

    def _await_order(self) -> None:
        """Wait until there is one. A signal that came just before a receive would be handled after it only."""
        poll, woken = _new_poll(), self._wake[0]
        poll.register(woken, select.POLLIN)
        poll.register(self._context.orders.fileno(), select.POLLIN)
        while any(number == woken for number, _ in poll.poll()):
            os.read(woken, 4096)

    def _comes_another(self, before: int) -> bool:
        """Whether there is another order by now, or in a moment, that may be carried out with those ``before`` it.

        It closes nothing of what the last one was given, and this process has the descriptors for it.
        """
        poll = _new_poll()
        poll.register(self._context.orders.fileno(), select.POLLIN)
        if not poll.poll(TOGETHER_MS):
            return False
        packet = self._context.orders.recv(_ORDER_BYTES, socket.MSG_PEEK)
        fields = json.loads(packet) if packet and packet != _MORE else {}
        if "ticket" not in fields or fields["closed"] or fields["whole"]:
            return False
        free = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - count_descriptors()
        return bool(fields["descriptors"] + (before + 1) * _OWN_DESCRIPTORS < free)

    def _take_signals(self) -> None:
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in signals.IGNORED_BY_MOLDS:
            signals.ignore(number)
        for number, action in signals.MOLD_ACTIONS.items():
            signal.signal(number, getattr(self, f"_{action}"))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.HELD)

    def _forget(self) -> None:
        """In a process that the application has forked: it must not use or hold anything that belongs to the mold."""
        signal.set_wakeup_fd(-1)
        signals.stop_ignoring(signals.IGNORED_BY_MOLDS)
        for number in signals.MOLD_ACTIONS:
            signal.signal(number, signal.SIG_DFL)
        parent_death.forget()
        faulthandler.unregister(signals.DUMP_STACKS)
        faulthandler.disable()
        self._context.channel.close()
        self._context.orders.close()
        self._context.mailboxes.close()
        for descriptor in (self._context.stacks_fd, *self._wake):
            os.close(descriptor)
        if self._context.shared_files is not None:
            self._context.shared_files.close()

    def _reopen_logs(self, number: int, frame: types.FrameType | None) -> None:
        self._reopen = True  # before the next worker is forked

    def _end(self, number: int, frame: types.FrameType | None) -> None:
        _exit()

    def _carry_out(self, orders: Sequence[tuple[int, Assignment]], application: object) -> None:
        """Fork workers; all are prepared before the first one is, so that they share more of their memory."""
        if self._reopen:
            self._reopen = False
            self._logs.reopen()
        prepared = [self._roles.prepare_worker(self._settings, assignment, application) for _, assignment in orders]
        given = [
            assignment.descriptors() | (each.descriptors if each is not None else frozenset())
            for (_, assignment), each in zip(orders, prepared, strict=True)
        ]
        all_given = self._context.descriptors().union(self._wake, *given)

        def worker(number: int) -> NoReturn:
            ticket, assignment = orders[number]
            # Sent by the worker itself, on its own channel, and so before all its other messages.
            assignment.channel.send(Forked(ticket, os.getpid()))
            process.set_title(f"worker {assignment.slot}", self._name)
            # What belongs to the mold, and to those beside it: what the application has opened while it was loaded
            # belongs to the worker.
            for descriptor in all_given - given[number]:
                os.close(descriptor)
            mine = prepared[number]
            if mine is not None:
                mine.boot()
            self._roles.boot_worker(self._settings, assignment, application)

        def between(number: int) -> NoReturn:
            try:
                fork.fork(partial(worker, number), self._logs.error)
            except OSError as error:
                self._refuse(orders[number][0], error)
            os._exit(0)

        with fork.together():
            for number, (ticket, _) in enumerate(orders):
                try:
                    os.waitpid(fork.fork(partial(between, number), self._logs.error), 0)
                except OSError as error:
                    self._refuse(ticket, error)
        # The workers have their own copies.
        for (_, assignment), each in zip(orders, prepared, strict=True):
            for owner in (*assignment.listeners, assignment.hand_off_receive, assignment.hand_off_send):
                owner.close()
            assignment.channel.close()
            os.close(assignment.stacks_fd)
            if each is not None:
                each.close()

    def _refuse(self, ticket: int, error: OSError) -> None:
        """Report to the arbiter that there is no room for a process; it will wait."""
        self._logs.error.error("Mold: cannot fork: %s", error.strerror)
        self._context.channel.send(Forked(ticket, 0))
