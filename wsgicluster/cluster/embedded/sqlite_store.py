"""The built-in store: an SQLite database in a private folder, best in memory.

A write-ahead log without syncing: it outlives the death of any process at any moment, and not that of the machine,
which nothing else here outlives either. Writers queue on a file lock (flock(2)), where the kernel wakes the next one;
SQLite itself would have them sleep and try again.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from wsgicluster.cluster.errors import ClusterError, StoreFull
from wsgicluster.cluster.values.stored_values import Stored, same
from wsgicluster.cluster.waiting import has_greenlets, poll

_T = TypeVar("_T")

_DATABASE, _LOCK = "store.db", "store.lock"
_PAGE_BYTES = 4096
_CHECKPOINT_PAGES = 256
"""The log is written back at 1 MiB: it is beside the size limit, and most of it is old versions of the same pages."""

_PURGE_EVERY_S = 1.0
_PURGE_ROWS = 500
_FULL = "full"
"""What SQLite's message says where there is no room, on disk or within its limit; error codes came with Python 3.11."""

_BUSY_S = 10.0
_EXIT_S = 1.0
_GET = "SELECT value, expires FROM store WHERE key = ?"
_SET = "INSERT OR REPLACE INTO store (key, value, expires) VALUES (?, ?, ?)"
_CHANGE = "UPDATE store SET value = ? WHERE key = ?"
_POP = "DELETE FROM store WHERE key = ?"
_PURGE = "DELETE FROM store WHERE key IN (SELECT key FROM store WHERE expires <= ? LIMIT ?)"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS store (key TEXT PRIMARY KEY, value NOT NULL, expires REAL)",
    "CREATE INDEX IF NOT EXISTS expiring ON store (expires) WHERE expires IS NOT NULL",
)


class SqliteStore:
    """One process's connection. Times are those of ``clock``, in seconds, which all processes have to share."""

    def __init__(self, folder: str, size_bytes: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._mutex = threading.RLock()
        self._purge_at = 0.0
        lock_fd = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock_fd = lock_fd
        try:
            with self._writers_lock():
                self._connection = _connect(os.path.join(folder, _DATABASE), size_bytes)
        except sqlite3.Error as error:
            os.close(lock_fd)
            raise _meaning(error) from error

    def get(self, key: str) -> Stored | None:
        """The value, or None where there is none or it has expired."""
        try:
            with self._mutex:
                return self._read(key)
        except sqlite3.Error as error:
            raise _meaning(error) from error

    def set(self, key: str, value: Stored, ttl_s: float | None) -> None:
        """Store a value, for ``ttl_s`` seconds or for good. Raises StoreFull."""

        def write() -> None:
            self._write(key, value, ttl_s)

        self._change(write)

    def pop(self, key: str) -> Stored | None:
        """Remove a value and return it, None where there is none."""

        def write() -> Stored | None:
            found = self._read(key)
            self._connection.execute(_POP, (key,))
            return found

        return self._change(write)

    def add(self, key: str, n: int, ttl_s: float | None) -> int:
        """Add to a number, which begins as 0 and expires ``ttl_s`` after that; its new value.

        Raises TypeError when what is there is not a whole number, OverflowError beyond 64 bits, StoreFull.
        """

        def write() -> int:
            found = self._read(key)
            if found is None:
                self._write(key, n, ttl_s)
                return n
            if not isinstance(found, int):
                raise TypeError(f"{key!r} is not a whole number of 64 bits: nothing can be added to it")
            self._connection.execute(_CHANGE, (found + n, key))
            return found + n

        return self._change(write)

    def compare_and_set(self, key: str, old: Stored | None, new: Stored, ttl_s: float | None) -> bool:
        """Store a value where ``old`` is, or where there is none for None; whether it was so. Raises StoreFull."""

        def write() -> bool:
            found = self._read(key)
            fits = found is None if old is None else found is not None and same(found, old)
            if fits:
                self._write(key, new, ttl_s)
            return fits

        return self._change(write)

    def close(self) -> None:
        """Close the connection and its lock, once no thread uses them."""
        with self._mutex:
            self._connection.close()
            self.abandon()

    def close_at_exit(self) -> None:
        """The same at the exit of the process: threads that still run wait for that, and get no error.

        SQLite crashes where a connection is closed while another thread is in it.
        """
        if self._mutex.acquire(timeout=_EXIT_S):
            self._connection.close()

    def abandon(self) -> None:
        """In a process that was forked by the application: the connection is the parent's, and is not to be closed."""
        os.close(self._lock_fd)

    def _read(self, key: str) -> Stored | None:
        row = self._connection.execute(_GET, (key,)).fetchone()
        if row is None or (row[1] is not None and row[1] <= self._clock()):
            return None
        value: Stored = row[0]
        return value

    def _write(self, key: str, value: Stored, ttl_s: float | None) -> None:
        self._connection.execute(_SET, (key, value, None if ttl_s is None else self._clock() + ttl_s))

    def _change(self, write: Callable[[], _T]) -> _T:
        try:
            with self._mutex, self._writers_lock():
                if self._clock() >= self._purge_at:
                    self._purge_at = self._clock() + _PURGE_EVERY_S
                    self._purge()
                try:
                    return self._in_transaction(write)
                except sqlite3.Error as error:
                    # What has expired may make room.
                    if _FULL not in str(error) or not self._purge():
                        raise
                    while self._purge() == _PURGE_ROWS:
                        pass
                    return self._in_transaction(write)
        except sqlite3.Error as error:
            raise _meaning(error) from error

    def _in_transaction(self, write: Callable[[], _T]) -> _T:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = write()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite itself rolls back for want of room
                connection.execute("ROLLBACK")
            raise
        return result

    def _purge(self) -> int:
        """Remove some of what has expired; how many rows."""
        return self._connection.execute(_PURGE, (self._clock(), _PURGE_ROWS)).rowcount

    @contextlib.contextmanager
    def _writers_lock(self) -> Iterator[None]:
        if not self._try_lock():
            if has_greenlets():
                poll(self._try_lock, None, longest_s=0.001)
            else:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _connect(path: str, size_bytes: int) -> sqlite3.Connection:
    # Statements begin and end transactions themselves; threads take turns.
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    for statement in _SCHEMA:
        connection.execute(statement)
    # After the tables are there: they are part of the limit, and not to be refused.
    connection.execute(f"PRAGMA max_page_count = {max(1, size_bytes // _PAGE_BYTES)}")
    return connection


def _meaning(error: sqlite3.Error) -> ClusterError:
    if _FULL in str(error):
        return StoreFull("the store has no room for this: remove something, or raise store_size")
    return ClusterError(f"the store cannot be used: {error}")
