"""What a child gets at the fork: its identity, and the descriptors that it shares with the others."""

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.mailbox import Mailboxes
from wsgicluster.ipc.membership import ClusterSettings, Membership, Role
from wsgicluster.ipc.messages import Channel
from wsgicluster.ipc.scoreboard import Page, Scoreboard
from wsgicluster.ipc.shared_files import SharedFiles

if TYPE_CHECKING:  # a server without TLS does not import it
    import ssl

HAND_OFF_FORMAT = 3
"""The version of the packets on the hand-off socket, to be raised with each change: two servers may share it."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The identity and descriptors of one worker.

    ``listeners`` are non-blocking and listening; each has a number in ``listener_numbers``, the same in all workers
    that have it. ``hand_off_receive`` and ``hand_off_send`` are the two ends of one ``SOCK_SEQPACKET`` pair that all
    workers share: a worker that drains sends its idle connections, the
    others receive them as they accept new ones from a listener. ``stacks_fd`` is
    an empty file of this child only, for ``faulthandler``; the arbiter reads it.
    ``smoke_test`` says that this worker runs the smoke test before it serves, ``is_judged`` that it is on probation
    then, and reports the first exception of its application. ``mailboxes`` are the ends of mailboxes
    that this worker has. ``events`` is where the steward receives events, a ``SOCK_SEQPACKET`` socket. ``control`` is
    the admin worker's end of a connection to the arbiter's control server. ``tls`` is what
    the worker makes its TLS context of, with the keys for session tickets that all workers of its generation have.
    """

    slot: int
    generation: int
    page: Page
    board: Scoreboard
    channel: Channel
    listeners: tuple[socket.socket, ...]
    hand_off_receive: socket.socket
    hand_off_send: socket.socket
    stacks_fd: int
    smoke_test: bool = False
    is_judged: bool = False
    listener_numbers: tuple[int, ...] = ()
    mailboxes: Mailboxes | None = None
    shared_files: SharedFiles | None = None
    events: socket.socket | None = None
    control: socket.socket | None = None
    tls: "ssl.SSLContext | None" = None
    app_metrics: str = ""
    """The folder of the application's metrics, empty where it has none."""
    hooked: object | None = None
    """What hooks of the configuration file have left for it before the fork; not looked into here."""

    def membership(self, role: Role, settings: ClusterSettings) -> Membership:
        """What makes this process, which has to be the child itself, a member of the cluster."""
        assert self.mailboxes is not None, "every member has a mailbox"
        assert self.shared_files is not None, "every child has them"
        return Membership(
            role=role,
            slot=self.slot,
            seat=self.page.index,
            generation=self.generation,
            pid=os.getpid(),
            page=self.page,
            board=self.board,
            mailboxes=self.mailboxes,
            channel=self.channel,
            shared_files=self.shared_files,
            bus=settings.bus,
            store=settings.store,
            node_name=settings.node_name,
            timeout_s=settings.timeout,
            store_size=settings.store_size,
            jobs_elsewhere=settings.jobs_worker and role != "jobs",
        )

    def descriptors(self) -> set[int]:
        """All descriptors that the child keeps; any other above 2, except those of the logs, is closed."""
        shared = {listener.fileno() for listener in self.listeners}
        own = {self.channel.fileno(), self.hand_off_receive.fileno(), self.hand_off_send.fileno(), self.stacks_fd}
        own.update(sock.fileno() for sock in (self.events, self.control) if sock is not None)
        for part in (self.mailboxes, self.shared_files):
            if part is not None:
                own |= part.descriptors()
        return shared | own

    def close(self) -> None:
        """Close all of them, in a process that the application has forked."""
        for sock in (self.hand_off_receive, self.hand_off_send, *self.listeners):
            sock.close()
        self.channel.close()
        for end in (self.events, self.control):
            if end is not None:
                end.close()
        if self.mailboxes is not None:
            self.mailboxes.close()
        if self.shared_files is not None:
            self.shared_files.close()
        with contextlib.suppress(OSError):  # closed by the application
            os.close(self.stacks_fd)
