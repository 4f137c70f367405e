"""The only place that makes child processes, and the first steps of each child.

Knows what a child must not inherit, not what it is for.
"""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection
from typing import NoReturn

from wsgicluster import process
from wsgicluster.errors import BootError

HELD = frozenset(
    {
        signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
        signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD, signal.SIGABRT,
    }
)  # fmt: skip
"""Signals that are blocked in a new child until it has handlers of its own, so that none is lost between."""


def fork(run: Callable[[], NoReturn], log: logging.Logger) -> int:
    """Make a child that runs ``run``, which ends the process itself; answers its pid.

    Raises OSError when the system has no room for a process.
    """
    _flush_output()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        pid = os.fork()
        if pid == 0:
            _live(run, log)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _flush_output() -> None:
    """Write what is printed but still kept, else each child would write it once more."""
    for stream in (sys.stdout, sys.stderr):
        # There is none, it is closed, or nobody can be reached there: then nothing more can be done for the text.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()


def _live(run: Callable[[], NoReturn], log: logging.Logger) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in HELD:
            signal.signal(number, signal.SIG_DFL)
        run()
    except BaseException:
        # The boundary of this process: above it are only the arbiter's frames, which are not the child's to run.
        log.critical("pid %d: a child failed before it could say why", os.getpid(), exc_info=True)
    finally:
        os._exit(BootError.exit_code)


def settle_in(title: str, name: str, keep: Collection[int]) -> None:
    """In a new child: take a title and let go of every descriptor that is not to be kept.

    The objects that own the closed descriptors live on in the frames below, which never
    return: nothing closes a number a second time that has a new owner by then.
    """
    process.set_title(title, name)
    process.close_descriptors_except(keep)
