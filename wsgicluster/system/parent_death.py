"""How a child notices that the arbiter has exited, whatever it runs at that time, and exits soon after.

The kernel sends a signal when the other end of the child's channel is closed: unlike the parent-death signal this
outlasts a change of user, and holds for children that the arbiter has adopted. Elsewhere than on Linux a child
notices when it next reads its channel.
"""

import faulthandler
import fcntl
import os
import select
import signal
from collections.abc import Callable

from wsgicluster.system.signals import ARBITER_EXITED, set_handler

MARGIN_S = 1.0
"""A child that exits by itself at the end of its time gets this long to do so."""


def notice(channel_fd: int, gone: Callable[[], object]) -> None:
    """Call ``gone``, from a signal handler, when the other end of a socket is closed; at once if it is already."""
    if not ARBITER_EXITED or not hasattr(fcntl, "F_SETSIG"):
        return
    set_handler(ARBITER_EXITED, lambda _number, _frame: _closed(channel_fd) and gone())
    fcntl.fcntl(channel_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(channel_fd, fcntl.F_SETSIG, ARBITER_EXITED)
    fcntl.fcntl(channel_fd, fcntl.F_SETFL, fcntl.fcntl(channel_fd, fcntl.F_GETFL) | os.O_ASYNC)
    if _closed(channel_fd):
        gone()


def _closed(channel_fd: int) -> bool:
    poll = _new_poll()
    poll.register(channel_fd, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


# As it is now: gevent takes the name out of its module.
_new_poll = select.poll


def forget() -> None:
    """In a process that the application has forked, whose parent's channel is not its own."""
    if ARBITER_EXITED:
        signal.signal(ARBITER_EXITED, signal.SIG_DFL)


def end_after(seconds: float, stacks_fd: int) -> None:
    """End this process then, whatever it runs: no arbiter supervises it any more."""
    faulthandler.dump_traceback_later(seconds + MARGIN_S, exit=True, file=stacks_fd)
