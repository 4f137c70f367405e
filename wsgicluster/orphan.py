"""How a child notices that the arbiter is gone, in the midst of whatever it runs, and that it does not outlive it long.

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

SIGNAL: int = signal.SIGRTMIN + 8 if hasattr(signal, "SIGRTMIN") else 0
"""A real-time signal, which applications hardly use."""

MARGIN_S = 1.0
"""A child that leaves by itself at the end of its time gets this long to do so."""


def notice(channel_fd: int, gone: Callable[[], object]) -> None:
    """Call ``gone``, from a signal handler, when the other end of a socket is closed; at once if it is already."""
    if not SIGNAL or not hasattr(fcntl, "F_SETSIG"):
        return
    signal.signal(SIGNAL, lambda _number, _frame: _closed(channel_fd) and gone())
    fcntl.fcntl(channel_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(channel_fd, fcntl.F_SETSIG, SIGNAL)
    fcntl.fcntl(channel_fd, fcntl.F_SETFL, fcntl.fcntl(channel_fd, fcntl.F_GETFL) | os.O_ASYNC)
    if _closed(channel_fd):
        gone()


def _closed(channel_fd: int) -> bool:
    poll = _new_poll()
    poll.register(channel_fd, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


# As it is now: gevent takes the name out of its module.
_new_poll = select.poll


def end_after(seconds: float, stacks_fd: int) -> None:
    """End this process then, whatever it runs: nobody else watches over it any more."""
    faulthandler.dump_traceback_later(seconds + MARGIN_S, exit=True, file=stacks_fd)
