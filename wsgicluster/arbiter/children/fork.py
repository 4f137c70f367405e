"""The only place that makes child processes, and the first steps of each child.

Knows what a child must not inherit, not what it is for.
"""

import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from typing import NoReturn

from wsgicluster.errors import BootError
from wsgicluster.system import descriptors, forks, process
from wsgicluster.system.signals import BY_DEFAULT, HELD, set_handler

_together = False

_COUNTS_NAMES = sys.version_info[:2] == (3, 11)
"""Whether the cache of attributes that types have counts references to their names. Each one that a child looks up, and
that takes the place of another one, is then written to together with that. To empty the cache of older versions would
write to all types; newer ones do not count names."""


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What forks need is done once for all of them in this context, which does nothing else.

    Between two forks as little as possible is written: it would be copied first, and the older child would stay alone
    with the pages as they were.
    """
    global _together
    _flush_output()
    if _COUNTS_NAMES:
        sys._clear_type_cache()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    _together = True
    try:
        with forks.by_server():
            yield
    finally:
        _together = False
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def fork(run: Callable[[], NoReturn], log: logging.Logger) -> int:
    """Fork a child that runs ``run``, which ends the process itself; returns its pid.

    Raises OSError when the system has no room for a process.
    """
    if not _together:
        with together():
            return _fork(run, log)
    return _fork(run, log)


def _fork(run: Callable[[], NoReturn], log: logging.Logger) -> int:
    pid = os.fork()
    if pid == 0:
        _live(run, log)
    return pid


def _flush_output() -> None:
    """Write what was printed and is still buffered, else each child would write it once more."""
    for stream in (sys.stdout, sys.stderr):
        # There is none, it is closed, or has no reader any more: then nothing more can be done for the text.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()


def _live(run: Callable[[], NoReturn], log: logging.Logger) -> NoReturn:
    global _together
    _together = False
    # What there is was made by the parent: a collection that looked at it would write to every object, and so on every
    # page that the two still share.
    gc.freeze()
    try:
        signal.set_wakeup_fd(-1)
        for number in HELD:
            set_handler(number, BY_DEFAULT)
        run()
    except BaseException:
        # The boundary of this process: above it are only the arbiter's frames, which are not the child's to run.
        log.critical("Child (pid %d) failed before it could report why", os.getpid(), exc_info=True)
    finally:
        os._exit(BootError.exit_code)


def settle_in(title: str, name: str, keep: Collection[int]) -> None:
    """In a new child: set the title and close every descriptor that is not in ``keep``.

    The objects that own the closed descriptors live on in the frames below, which never
    return: nothing closes a number a second time that has a new owner by then.
    """
    process.set_title(title, name)
    descriptors.close_descriptors_except(keep)
