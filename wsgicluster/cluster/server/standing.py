"""Where this process stands: a member of a server's cluster, or alone, with a mailbox of its own that only it uses."""

import atexit
import os
import threading
from typing import Literal, TypeAlias

from wsgicluster.cluster.errors import NotInCluster
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc import membership
from wsgicluster.ipc.mailbox import Mailboxes, MailboxName, MailboxRegistry
from wsgicluster.ipc.membership import Membership
from wsgicluster.ipc.retained import RetainedLog
from wsgicluster.ipc.scoreboard import Cell

Role: TypeAlias = Literal["steward", "worker", "jobs", "alone"]

SLOT_ALONE = 1
"""The slot that a process has for itself when it is alone."""
_ROLES_ALONE: tuple[MailboxName, ...] = (SLOT_ALONE, "steward", "jobs")


@dataclass(frozen=True, slots=True)
class Standing:
    """``name`` is that of its mailbox; ``member`` is None for a process that is alone."""

    role: Role
    name: MailboxName
    mailboxes: Mailboxes
    member: Membership | None
    retained: RetainedLog
    pid: int

    def count(self, cell: Cell) -> None:
        """Add one to a counter on the page of this process, if it has one."""
        if self.member is not None:
            with _counting:
                self.member.page.cells[cell] += 1


_counting = threading.Lock()

_of_member: Standing | None = None
_of_alone: Standing | None = None


def role() -> Role:
    """What this process is in the cluster; a process that the application has forked is alone, too."""
    found = membership.current()
    return found.role if found is not None else "alone"


def standing() -> Standing:
    """Where this process stands. Raises NotInCluster in a process that the application has forked from a member."""
    global _of_member
    found = membership.current()
    if found is None:
        if membership.inherited():
            raise NotInCluster(f"pid {os.getpid()} was forked by the application; only its parent is in the cluster")
        return _alone()
    if _of_member is None or _of_member.member is not found:
        mailboxes = found.mailboxes
        _of_member = Standing(
            found.role, mailboxes.own, mailboxes, found, RetainedLog(mailboxes.retained_fd), found.pid
        )
    return _of_member


def _alone() -> Standing:
    """A cluster of one process, whose slot, steward and jobs worker are all this one."""
    global _of_alone
    if _of_alone is not None and _of_alone.pid == os.getpid():
        return _of_alone
    if _of_alone is not None:
        atexit.unregister(_of_alone.mailboxes.close)
        _of_alone.mailboxes.close()  # its parent's
    mailboxes = MailboxRegistry().share(SLOT_ALONE)
    mailboxes.messages.update(dict.fromkeys(_ROLES_ALONE, mailboxes.messages[SLOT_ALONE]))
    # Else Python says that they were forgotten; the messenger, once there is one, uses them to the end.
    atexit.register(mailboxes.close)
    log = RetainedLog(mailboxes.retained_fd)
    _of_alone = Standing("alone", SLOT_ALONE, mailboxes, None, log, os.getpid())
    return _of_alone
