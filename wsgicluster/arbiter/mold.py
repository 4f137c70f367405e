"""The mold: a child that loads the application once and forks workers on order.

It exists so that the arbiter itself never runs application code and a reload still
loads new code. Its workers are forked twice, so that they become the arbiter's own
children (the arbiter is their subreaper) and it learns at first hand how they end.
"""

import dataclasses
import errno
import faulthandler
import gc
import json
import os
import signal
import socket
import threading
import types
from typing import NoReturn

from wsgicluster import orphan, process
from wsgicluster.arbiter import spawn
from wsgicluster.arbiter.roles import Roles
from wsgicluster.clock import SystemClock
from wsgicluster.cluster.assignment import Assignment
from wsgicluster.errors import AppLoadError, ServerError
from wsgicluster.logs import Logs
from wsgicluster.messages import BootFailed, Channel, Forked, Ready
from wsgicluster.scoreboard import Cell, Page, Scoreboard
from wsgicluster.settings import Settings

# As it is now: an application, or a kind of workers, may put a class that waits in its place.
_Socket = socket.socket
_ORDER_BYTES = 4096
_MOST_DESCRIPTORS = 250
"""The kernel passes at most 253 descriptors at a time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """What a mold is given at its birth."""

    generation: int
    page: Page
    board: Scoreboard
    channel: Channel
    orders: socket.socket
    stacks_fd: int

    def descriptors(self) -> set[int]:
        """All descriptors that it keeps, besides those of the logs."""
        return {self.channel.fileno(), self.orders.fileno(), self.stacks_fd}


def send_order(orders: socket.socket, ticket: int, assignment: Assignment) -> None:
    """Order a worker from a mold; raises OSError when that is not possible now."""
    fields = {
        "ticket": ticket,
        "slot": assignment.slot,
        "generation": assignment.generation,
        "page": assignment.page.index,
        "rehearse": assignment.rehearse,
        "listener_numbers": assignment.listener_numbers,
    }
    descriptors = [
        assignment.channel.fileno(),
        assignment.hand_off_receive.fileno(),
        assignment.hand_off_send.fileno(),
        assignment.stacks_fd,
        *(listener.fileno() for listener in assignment.listeners),
    ]
    socket.send_fds(orders, [json.dumps(fields).encode()], descriptors)


class NoRoomError(Exception):
    """An order came whose descriptors could not be received; ``ticket`` is that of the worker."""

    def __init__(self, ticket: int) -> None:
        super().__init__(ticket)
        self.ticket = ticket


def _receive_order(place: Place) -> tuple[int, Assignment]:
    """Ticket and assignment of the next worker.

    Raises EOFError when the arbiter is gone, NoRoomError when this process has no descriptors left for another one's.
    """
    packet, descriptors, flags, _ = socket.recv_fds(place.orders, _ORDER_BYTES, _MOST_DESCRIPTORS)
    if not packet:
        raise EOFError
    fields = json.loads(packet)
    if flags & socket.MSG_CTRUNC:
        for number in descriptors:
            os.close(number)
        raise NoRoomError(fields["ticket"])
    channel, receive, send, stacks_fd, *listeners = descriptors
    assignment = Assignment(
        slot=fields["slot"],
        generation=fields["generation"],
        page=place.board.page(fields["page"]),
        board=place.board,
        channel=Channel(_Socket(fileno=channel)),
        listeners=tuple(_Socket(fileno=number) for number in listeners),
        hand_off_receive=_Socket(fileno=receive),
        hand_off_send=_Socket(fileno=send),
        stacks_fd=stacks_fd,
        rehearse=fields["rehearse"],
        listener_numbers=tuple(fields["listener_numbers"]),
    )
    return fields["ticket"], assignment


class Mold:
    """The process itself, from its first moment on."""

    def __init__(self, place: Place, settings: Settings, roles: Roles, logs: Logs) -> None:
        self._place = place
        self._settings = settings
        self._roles = roles
        self._logs = logs
        self._reopen = False
        self._name = settings.proc_name or settings.wsgi_app or ""

    def run(self) -> NoReturn:
        """Load the application, then fork workers until the arbiter is gone."""
        spawn.settle_in("mold", self._name, self._place.descriptors() | self._logs.descriptors())
        self._take_signals()
        faulthandler.register(process.DUMP_SIGNAL, file=self._place.stacks_fd, all_threads=True)
        faulthandler.enable(self._place.stacks_fd)
        orphan.notice(self._place.channel.fileno(), lambda: os._exit(0))
        clock = SystemClock()
        begun_at = clock.monotonic()
        try:
            # Nothing of the application runs as root, where workers would not.
            process.drop_privileges(self._settings.user, self._settings.group, self._settings.initgroups)
            application = self._roles.load_application(self._settings)
        except ServerError as error:
            trace = error.trace if isinstance(error, AppLoadError) else ""
            self._place.channel.send(BootFailed(error.exit_code, str(error), trace))
            os._exit(error.exit_code)
        if threading.active_count() > 1:
            self._logs.error.warning(
                "The application started threads while it was preloaded (%s): workers will not have them",
                ", ".join(thread.name for thread in threading.enumerate()[1:]),
            )
        # What is frozen is not touched by collections, so that workers go on sharing its memory.
        gc.collect()
        gc.freeze()
        self._place.page.floats[Cell.DEADLINE] = 0.0
        self._place.channel.send(Ready(clock.monotonic() - begun_at))
        while True:
            try:
                ticket, assignment = _receive_order(self._place)
            except EOFError:
                os._exit(0)
            except NoRoomError as error:
                self._refuse(error.ticket, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
                continue
            self._carry_out(ticket, assignment, application)

    def _take_signals(self) -> None:
        for number in spawn.HELD - {signal.SIGTERM, signal.SIGCHLD, signal.SIGABRT, signal.SIGUSR1}:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, self._remember_to_reopen)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, spawn.HELD)

    def _remember_to_reopen(self, number: int, frame: types.FrameType | None) -> None:
        self._reopen = True

    def _carry_out(self, ticket: int, assignment: Assignment, application: object) -> None:
        if self._reopen:
            self._reopen = False
            self._logs.reopen()

        def worker() -> NoReturn:
            # Told by the worker itself, on its own channel: so it comes before anything else it says.
            assignment.channel.send(Forked(ticket, os.getpid()))
            process.set_title(f"worker {assignment.slot}", self._name)
            # Only what is the mold's own: what the application has opened while it was loaded belongs to the worker.
            for number in self._place.descriptors():
                os.close(number)
            self._roles.boot_worker(self._settings, assignment, application)

        def between() -> NoReturn:
            try:
                spawn.fork(worker, self._logs.error)
            except OSError as error:
                self._refuse(ticket, error)
            os._exit(0)

        try:
            os.waitpid(spawn.fork(between, self._logs.error), 0)
        except OSError as error:
            self._refuse(ticket, error)
        # The worker has its own copies.
        for owner in (*assignment.listeners, assignment.hand_off_receive, assignment.hand_off_send):
            owner.close()
        assignment.channel.close()
        os.close(assignment.stacks_fd)

    def _refuse(self, ticket: int, error: OSError) -> None:
        """No room for a process: the arbiter is told, and waits."""
        self._logs.error.error("Mold: cannot fork: %s", error.strerror)
        self._place.channel.send(Forked(ticket, 0))
