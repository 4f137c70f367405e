"""Where this process's shared state is: found out at the first use, and again in each process that is forked.

A member of the cluster uses the files of the arbiter or a Redis server. A process that loads the application for
workers to come (``preload_app``) uses the same. Any other is alone and has files of its own, as long as it lives. A
process that the application has forked from one that uses the state has none.
"""

import atexit
import os
import tempfile
import threading
from collections.abc import Callable
from typing import Protocol

from wsgicluster.cluster.embedded.backend import EmbeddedBackend
from wsgicluster.cluster.errors import NotInCluster
from wsgicluster.cluster.state.counters import CounterBackend
from wsgicluster.cluster.state.locks import LockBackend
from wsgicluster.cluster.values.stored_values import Stored
from wsgicluster.ipc import membership
from wsgicluster.ipc.membership import SharedState
from wsgicluster.ipc.shared_files import SharedFilesOwner

ALONE_STORE_BYTES = 32 << 20


class StoreBackend(Protocol):
    """Where values are; times to live in seconds, None for good. What they raise is said in `Store`."""

    def get(self, key: str) -> Stored | None:
        """The value, or None."""
        ...

    def set(self, key: str, value: Stored, ttl_s: float | None) -> None:
        """Store a value."""
        ...

    def pop(self, key: str) -> Stored | None:
        """Remove a value and return it, or None."""
        ...

    def add(self, key: str, n: int, ttl_s: float | None) -> int:
        """Add to a number; its new value."""
        ...

    def compare_and_set(self, key: str, old: Stored | None, new: Stored, ttl_s: float | None) -> bool:
        """Store a value where ``old`` is; whether it was there."""
        ...


class Backend(CounterBackend, LockBackend, StoreBackend, Protocol):
    """All of it. ``scope`` names the server, differently for each of its starts."""

    scope: str

    def clock(self) -> float:
        """The time by which jobs are due, in seconds, the same in all processes."""
        ...

    def close(self) -> None:
        """Close what was opened."""
        ...

    def abandon(self) -> None:
        """In a process that was forked by the application: free what that may free."""
        ...


_mutex = threading.RLock()
_backend: Backend | None = None
_is_opening = False
_inherited = False
_abandoned: list[Backend] = []
"""Kept to the end: to collect a connection to the database would close it, which is the parent's business."""
_after_fork: list[Callable[[], object]] = []


def backend() -> Backend:
    """This process's. Raises NotInCluster, and ClusterError where it cannot be opened."""
    global _backend, _is_opening
    if _backend is None:
        with _mutex:
            if _backend is None:
                _is_opening = True
                try:
                    _backend = _open()
                finally:
                    _is_opening = False
    return _backend


def after_fork(call: Callable[[], object]) -> None:
    """Call this in each forked process, which has another backend or none."""
    _after_fork.append(call)


def _open() -> Backend:
    place = membership.current()
    if place is None and (_inherited or membership.inherited()):
        raise NotInCluster("this process was forked by the application, and is not a member of the cluster")
    if place is not None:
        return _open_state(SharedState(place.shared_files, place.store, place.store_size))
    lent = membership.lent()
    return _open_state(lent) if lent is not None else _open_alone()


def _open_state(state: SharedState) -> Backend:
    if state.store is None:
        return EmbeddedBackend(state.files, state.store_size)
    # Late: it is an extra, and most servers do without.
    from wsgicluster.cluster.redis.backend import RedisBackend

    return RedisBackend(state.store, state.files.instance)


def _open_alone() -> Backend:
    owner = SharedFilesOwner.create(tempfile.gettempdir())
    backend = EmbeddedBackend(owner.files, ALONE_STORE_BYTES)
    pid = os.getpid()

    def remove() -> None:
        if os.getpid() == pid:
            backend.close_at_exit()
            owner.close()

    atexit.register(remove)
    return backend


def _before_fork() -> None:
    """A process that loads the application for workers does not hand them its connections, but the files."""
    global _backend
    if membership.is_lent() and _backend is not None:
        _backend.close()
        _backend = None
        _forget()


def _in_child() -> None:
    global _backend, _inherited, _is_opening, _mutex
    # Threads that are not here may have held it, or have been about to open what is the parent's.
    _mutex = threading.RLock()
    _inherited, _is_opening = _inherited or _is_opening, False
    _forget()
    if _backend is not None:
        left, _backend, _inherited = _backend, None, True
        _abandoned.append(left)
        left.abandon()


def _forget() -> None:
    for call in _after_fork:
        call()


def _joined() -> None:
    """A process that was forked by the server and becomes a member is one whatever it was before."""
    global _backend, _inherited
    _backend, _inherited = None, False
    _forget()


os.register_at_fork(before=_before_fork, after_in_child=_in_child)
membership.on_join(_joined)
