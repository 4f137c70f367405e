"""How a worker that has served becomes the mold: it forks one of itself, and exits.

What it has loaded and computed meanwhile is then shared by all workers that are forked later. The mold is a process of
its own, so that to the arbiter it is a child like any other; the worker's memory becomes its own when that exits.
"""

import dataclasses
import os
import socket
from collections.abc import Callable
from typing import NoReturn

from wsgicluster.arbiter.children import fork
from wsgicluster.arbiter.children.entry_points import Roles
from wsgicluster.arbiter.children.mold import Mold, MoldContext
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc import membership
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.mailbox import MailboxRegistry
from wsgicluster.ipc.messages import Channel, Forked, MoldOrdered
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.system import forks

# As it is now: the application may put a class that waits in its place.
_Socket = socket.socket


@dataclass(frozen=True, slots=True)
class MoldForker:
    """What a worker forks a mold with, once it has drained."""

    assignment: Assignment
    settings: Settings
    roles: Roles
    logs: Logs

    def __call__(self, order: MoldOrdered, application: object, prepare: Callable[[], object] | None) -> None:
        """Fork the mold that was ordered. Raises OSError when there is no room for a process.

        ``prepare`` is called in the mold, as `Mold.take_over` says.
        """

        def mold() -> NoReturn:
            context = _context(order, self.assignment)
            # As for workers: before all its other messages.
            context.channel.send(Forked(order.ticket, os.getpid()))
            forks.leave_parent()
            membership.leave()
            Mold(context, self.settings, self.roles, self.logs).take_over(application, prepare)

        def between() -> NoReturn:
            # Forked twice, as workers of a mold are: it becomes a child of the arbiter.
            try:
                fork.fork(mold, self.logs.error)
            except OSError as error:
                self.logs.error.error("worker %d: cannot fork a mold: %s", self.assignment.slot, error.strerror)
            os._exit(0)

        forks.wait_for_imports()
        os.waitpid(fork.fork(between, self.logs.error), 0)


def _context(order: MoldOrdered, assignment: Assignment) -> MoldContext:
    """Of what the worker has: copies of descriptors, because the worker's own are closed in its children."""
    channel, orders, stacks_fd = order.descriptors
    assert assignment.mailboxes is not None, "every worker has a mailbox"
    files = assignment.shared_files
    if files is not None:
        # No record lock is lost with the originals: this process has none yet.
        files = dataclasses.replace(files, counters_fd=os.dup(files.counters_fd), locks_fd=os.dup(files.locks_fd))
    return MoldContext(
        generation=assignment.generation,
        page=assignment.board.page(order.page),
        board=assignment.board,
        channel=Channel(_Socket(fileno=channel), is_childs=True),
        orders=_Socket(fileno=orders),
        stacks_fd=stacks_fd,
        mailboxes=MailboxRegistry.beside(
            os.dup(assignment.mailboxes.retained_fd), os.dup(assignment.mailboxes.turns_fd)
        ),
        shared_files=files,
        app_metrics=assignment.app_metrics,
        tls=assignment.tls,
    )
