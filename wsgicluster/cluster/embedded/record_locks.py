"""Locks of one machine: record locks (fcntl(2)), each on one byte of a file in memory.

The kernel gives a record lock up with the process that holds it. Unlike a lock of flock(2) it is not inherited by
children. It does not exclude threads of the same process, which is left to the caller.
"""

import errno
import fcntl
import functools
import hashlib
import struct
import sys
import threading
import time

from wsgicluster.cluster.embedded.cells import SharedCells
from wsgicluster.cluster.errors import Deadlock
from wsgicluster.cluster.waiting import has_greenlets, poll

_FIRST_OFFSET = 1 << 32
"""Below are the bytes of columns and of the table of names."""

_DEADLOCK_LOOK_S = 0.05
_GETLK = struct.Struct("hhqqi")
"""``struct flock`` of Linux on machines of 64 bits."""


class RecordLocks:
    """Locks of this machine."""

    def __init__(self, descriptor: int, cells: SharedCells) -> None:
        self._descriptor = descriptor
        self._cells = cells
        self._mutex = threading.RLock()
        self._uses: dict[int, int] = {}
        """Thread to the number of locks that it holds or waits for."""

    def take(self, name: str, deadline: float | None) -> "RecordHold | None":
        """As `LockBackend.take_lock`. Raises Deadlock."""
        offset, thread = offset_of(name), threading.get_ident()
        if not self._try(offset) and not self._wait(name, offset, deadline, thread):
            return None
        self._count(thread, +1)
        return RecordHold(self, offset, thread, self._cells.mark_held(offset))

    def _count(self, thread: int, more: int) -> None:
        uses = self._uses
        with self._mutex:
            count = uses.get(thread, 0) + more
            if count:
                uses[thread] = count
            else:
                del uses[thread]
            self._cells.tell_users(len(uses))

    def _try(self, offset: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _wait(self, name: str, offset: int, deadline: float | None, thread: int) -> bool:
        self._count(thread, +1)
        try:
            if deadline is not None or has_greenlets():
                return poll(lambda: self._try(offset), deadline)
            return self._wait_in_kernel(name, offset, thread)
        finally:
            self._count(thread, -1)

    def _wait_in_kernel(self, name: str, offset: int, thread: int) -> bool:
        times_certain = 0
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, offset)
            except OSError as error:
                if error.errno != errno.EDEADLK:
                    raise
            else:
                return True
            # The kernel looks at processes. A circle of them is not a deadlock as long as one of their locks is held by
            # another thread than the one that waits; a thread that has taken one just now may not be counted yet.
            is_certain = self._uses[thread] > 1 and self._cells.one_user_each()
            times_certain = times_certain + 1 if is_certain else 0
            if times_certain > 1:
                raise Deadlock(f"the holder of the lock {name!r} waits for one that this thread holds")
            if poll(lambda: self._try(offset), time.monotonic() + _DEADLOCK_LOOK_S):
                return True

    def release(self, offset: int, thread: int, mark: int) -> None:
        """Release what that thread has taken."""
        self._cells.unmark_held(mark)
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)
        self._count(thread, -1)

    def token(self) -> int:
        """The next one."""
        return self._cells.next_token()

    def is_locked(self, name: str) -> bool:
        """Whether another process holds the lock."""
        offset = offset_of(name)
        if sys.platform == "linux":
            asked = _GETLK.pack(fcntl.F_WRLCK, 0, offset, 1, 0)
            kind, *_ = _GETLK.unpack(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, asked))
            return bool(kind != fcntl.F_UNLCK)
        taken = self._try(offset)
        if taken:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)
        return not taken


class RecordHold:
    """One record lock that is held."""

    __slots__ = ("_locks", "_mark", "_offset", "_thread", "_token", "recovered")

    def __init__(self, locks: RecordLocks, offset: int, thread: int, noted: tuple[int, bool]) -> None:
        self._locks = locks
        self._offset = offset
        self._thread = thread
        self._token = 0
        self._mark, self.recovered = noted

    def token(self) -> int:
        """Given when it is first asked for: any later holder asks later."""
        if not self._token:
            self._token = self._locks.token()
        return self._token

    def release(self) -> None:
        """Give the lock to the next."""
        self._locks.release(self._offset, self._thread, self._mark)


@functools.lru_cache(maxsize=1024)
def offset_of(name: str) -> int:
    """The byte that stands for a lock; two of a million names share one with a probability of one in ten million."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return _FIRST_OFFSET + (int.from_bytes(digest, "little") >> 2)
