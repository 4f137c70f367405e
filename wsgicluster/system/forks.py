"""What a process that an application forks inherits from ours, and which of its processes end with ours.

However and whenever an application forks, from the first moment of its import on: the child has default signal
handlers, no descriptor of the server's, and a title that names its parent. Owners register what has to be
closed. Processes that are started anew (``exec``) need nothing of this: descriptors of ours are closed then, and
handlers become default ones, as long as no signal is ignored or blocked.
"""

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from wsgicluster.system import process

FINISH_S = 1.0
"""How long the processes that end with this one have to do so after SIGTERM, and multiprocessing to clean up."""

POLL_S = 0.01


class _Guard:
    """The state of this process; ``os.register_at_fork`` cannot be undone, so that one hook serves all."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.by_server = False
        self.strayed = False
        self.registered = False
        self.of_boot: set[int] = set()
        self.log: logging.Logger | None = None

    def in_child(self) -> None:
        if self.by_server or not self.calls:
            return
        self.strayed = True
        calls, self.calls = self.calls, []
        for call in calls:
            try:
                call()
            except Exception:
                # What one owner cannot close does not stop the others.
                assert self.log is not None, "set before there are any calls"
                self.log.exception(
                    "pid %d: a child forked by the application cannot close what it inherits", os.getpid()
                )


_guard = _Guard()


def begin(role: str, name: str, log: logging.Logger) -> None:
    """From now on every process that is forked from this one is the application's; ``role`` and ``name`` are ours."""
    _guard.log = log
    if not _guard.registered:
        _guard.registered = True
        os.register_at_fork(after_in_child=_in_child)
    _guard.calls = [lambda: process.set_child_title(role, name)]
    _guard.by_server = _guard.strayed = False
    _guard.of_boot = set()
    # Those of the process that has forked this one are not its own, to be waited for or ended.
    known = sys.modules.get("multiprocessing.process")
    if known is not None:
        known._children.clear()
    known = sys.modules.get("multiprocessing.forkserver")
    if known is not None:
        # Else it waits for its server, which is not a child of this process, and fails.
        known._forkserver.__init__()


def _in_child() -> None:
    _guard.in_child()


def on_fork(call: Callable[[], object]) -> None:
    """Call this in each process that the application forks, before it continues."""
    if call not in _guard.calls:
        _guard.calls.append(call)


def leave_parent() -> None:
    """In a process of ours that was forked from a worker: close and reset what is the worker's, as in all others."""
    calls, _guard.calls = _guard.calls, []
    for call in calls:
        call()


@contextlib.contextmanager
def by_server() -> Iterator[None]:
    """What is forked in this context is a process of ours; in the child that holds until it calls `begin`."""
    before, _guard.by_server = _guard.by_server, True
    try:
        yield
    finally:
        _guard.by_server = before


def wait_for_imports() -> None:
    """Before a fork by a process with other threads: wait until none of them imports a module, but not for long.

    The child would have their locks on modules, and wait for one of these forever.
    """
    known: Any = sys.modules["_frozen_importlib"]
    until, mine = time.monotonic() + FINISH_S, threading.get_ident()
    while time.monotonic() < until:
        locks = [reference() for reference in list(known._module_locks.values())]
        if all(lock is None or lock.owner in (None, mine) for lock in locks):
            return
        time.sleep(POLL_S)


def strayed() -> bool:
    """Whether this process was forked by the application: no code of the server is its to run."""
    return _guard.strayed


def end_stray(log: logging.Logger) -> NoReturn:
    """End a process that the application has forked, and that has returned into the server's code."""
    log.warning("exited pid %d: a child forked by the application returned into the server", os.getpid())
    os._exit(0)


def booted() -> None:
    """The application is loaded: the processes of multiprocessing that it has started so far end with this one."""
    _guard.of_boot = {child.pid for child in _children()}


def end_children(wait: bool = False) -> None:
    """End the processes of multiprocessing that do not outlive this one; with ``wait`` see to it that they do not.

    These are daemons, those of ``ProcessPoolExecutor``, and all that were started while the application was loaded.
    Without ``wait`` it may be called from a signal handler.
    """
    ended = [child for child in _children() if child.daemon or child.pid in _guard.of_boot or child.pid in _pooled()]
    for child in ended:
        with contextlib.suppress(OSError, ValueError):  # gone, or closed by the application
            child.terminate()
    until = time.monotonic() + FINISH_S
    for child in ended if wait else ():
        with contextlib.suppress(OSError, ValueError):
            # Not join(): once the process has closed its end that waits without limit, and gevent may never hear of it.
            while child.exitcode is None and time.monotonic() < until:
                time.sleep(POLL_S)
            child.kill()


def _children() -> list[Any]:
    """The processes that this one has started by multiprocessing, and that may be alive."""
    known = sys.modules.get("multiprocessing.process")
    if known is None:
        return []
    mine = os.getpid()
    children: list[Any] = list(known._children)
    return [child for child in children if child._parent_pid == mine]


def _pooled() -> set[int]:
    """Processes of executors: they are not daemons, and wait for work forever once this process has exited."""
    known = sys.modules.get("concurrent.futures.process")
    if known is None:
        return set()
    executors: list[Any] = list(known._threads_wakeups)
    return {pid for executor in executors for pid in list(executor.processes or ())}


def forget_exit_functions() -> None:
    """In a child of a program that embeds the server: what the program has registered for its end is for that alone.

    A worker that exits would else delete its temporary folders.
    """
    atexit._clear()


def run_exit_functions() -> None:
    """Do what the application has registered for the end of this process, and wait for none of its processes.

    What multiprocessing does then is done without what it does first: to join every process that is not a daemon.
    """
    known: Any = sys.modules.get("multiprocessing.util")
    if known is not None:
        atexit.unregister(known._exit_function)
    atexit._run_exitfuncs()
    known = known or sys.modules.get("multiprocessing.util")
    if known is not None:
        # Pools and managers know best how to end theirs; a queue would wait forever for a reader that has exited.
        known._exiting = True
        _within(FINISH_S, lambda: known._run_finalizers(0))
        end_children(wait=True)
        _within(FINISH_S, known._run_finalizers)


def _within(seconds: float, call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call, daemon=True)
    with contextlib.suppress(RuntimeError):  # no room for a thread: then it is skipped
        thread.start()
        thread.join(seconds)
