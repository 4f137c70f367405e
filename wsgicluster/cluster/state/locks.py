"""Locks that one thread in the whole cluster holds at a time.

What holds them for this process, where the state is, does not exclude threads of the same process: for that each lock
has a lock of Python's in front.
"""

import threading
import time
import types
import weakref
from collections.abc import Callable
from typing import Protocol

from wsgicluster.cluster.errors import Deadlock, LockNotHeld


class Hold(Protocol):
    """One lock that is held."""

    recovered: bool
    """Whether the last holder was killed, or lost the lock, while it held it."""

    def token(self) -> int:
        """A number that is higher than that of any earlier holder. Raises LockLost."""
        ...

    def release(self) -> None:
        """Give the lock to the next. Raises LockLost when it was not held any more."""
        ...


class LockBackend(Protocol):
    """Where locks are."""

    def take_lock(self, name: str, deadline: float | None) -> Hold | None:
        """Wait for a lock, without a limit where there is no deadline; None when it cannot be had by then."""
        ...

    def is_locked(self, name: str) -> bool:
        """Whether any process holds it."""
        ...


class Lock:
    """A named lock with the methods of ``threading.Lock``; see `wsgicluster.cluster.lock`. It is not reentrant.

    ``prefix`` is what its name begins with for the backend, so that ours and the application's never meet.
    """

    def __init__(self, prefix: str, name: str, backend: Callable[[], LockBackend]) -> None:
        self.name = name
        self._full_name = prefix + name
        self._backend = backend
        self._gate = threading.Lock()
        self._owner: int | None = None
        self._hold: Hold | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; False if it was not to be had without waiting, or within ``timeout`` seconds.

        Raises Deadlock when this thread holds it already or when the kernel sees that the wait would never end,
        NotInCluster, and over Redis BusDown; ValueError as ``threading.Lock`` does.
        """
        if timeout != -1 and (not blocking or timeout < 0):
            raise ValueError("a timeout is for blocking calls, and at least 0")
        backend = self._backend()
        if blocking and timeout == -1 and self._owner == threading.get_ident():
            raise Deadlock(f"this thread holds the lock {self.name!r} already")
        deadline = None if timeout == -1 else time.monotonic() + timeout
        if not self._gate.acquire(blocking, timeout):
            return False
        try:
            hold = backend.take_lock(self._full_name, deadline if blocking else 0.0)
        except BaseException:
            self._gate.release()
            raise
        if hold is None:
            self._gate.release()
            return False
        self._hold, self._owner = hold, threading.get_ident()
        _held.add(self)
        return True

    def release(self) -> None:
        """Give the lock to the next; any thread of this process may. Raises LockNotHeld, and over Redis LockLost."""
        self._backend()  # a process that was forked while its parent holds the lock does not hold it
        hold = self._held()
        self._hold = self._owner = None
        _held.discard(self)
        try:
            hold.release()
        finally:
            self._gate.release()

    def locked(self) -> bool:
        """Whether any process holds it now."""
        backend = self._backend()
        return self._hold is not None or backend.is_locked(self._full_name)

    @property
    def recovered(self) -> bool:
        """Whether the last holder ended while it held the lock, so that its work may be half done."""
        return self._held().recovered

    @property
    def token(self) -> int:
        """A number for what the lock protects: higher than that of every earlier holder, so that late writes show.

        Raises LockNotHeld, and over Redis LockLost.
        """
        return self._held().token()

    def _held(self) -> Hold:
        if self._hold is None:
            raise LockNotHeld(f"this process does not hold the lock {self.name!r}")
        return self._hold

    def forget(self) -> None:
        """Begin anew, as a lock that this process does not hold."""
        self._gate = threading.Lock()
        self._hold = self._owner = None

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"lock({self.name!r})"


_held: set[Lock] = set()
"""What is held lives, even if the caller keeps no reference to it."""

_named: "weakref.WeakValueDictionary[str, Lock]" = weakref.WeakValueDictionary()
_naming = threading.RLock()
"""For one that makes a new entry: two threads at a time would each get a lock of their own."""


def named_lock(prefix: str, name: str, backend: Callable[[], LockBackend]) -> Lock:
    """The lock of this name, the same object everywhere in this process: another one would not exclude its threads."""
    full_name = prefix + name
    found = _named.get(full_name)
    if found is None:
        made = Lock(prefix, name, backend)
        with _naming:
            found = _named.setdefault(full_name, made)
    return found


def forget_locks() -> None:
    """In a forked process: none is held here, and threads that are not here may hold what is in front of each."""
    global _naming
    _naming = threading.RLock()
    for each in list(_named.values()):
        each.forget()
    _held.clear()
