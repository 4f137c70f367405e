"""The shared state of one machine: cells, record locks and the database, in the files that the arbiter has made."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from wsgicluster.cluster.embedded.cells import SharedCells
from wsgicluster.cluster.embedded.record_locks import RecordHold, RecordLocks
from wsgicluster.cluster.values.stored_values import Stored
from wsgicluster.ipc.shared_files import SharedFiles

if TYPE_CHECKING:
    from wsgicluster.cluster.embedded.sqlite_store import SqliteStore


class EmbeddedBackend:
    """One process's view of the files; each part is opened when it is first used."""

    def __init__(self, files: SharedFiles, store_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.scope = files.instance
        self._files = files
        self._store_size = store_size
        self._mutex = threading.RLock()
        self._opened_cells: SharedCells | None = None
        self._opened_locks: RecordLocks | None = None
        self._opened_store: "SqliteStore | None" = None

    def clock(self) -> float:
        """As `Backend`'s: that of the machine, which cannot be set."""
        return self._clock()

    # One lock for all parts, since one part needs another: a second one, such as functools.cached_property has before
    # Python 3.12, would be taken in both orders by threads that begin with different parts.

    @property
    def _cells(self) -> SharedCells:
        if self._opened_cells is None:
            with self._mutex:
                if self._opened_cells is None:
                    self._opened_cells = SharedCells(self._files)
        return self._opened_cells

    @property
    def _locks(self) -> RecordLocks:
        if self._opened_locks is None:
            with self._mutex:
                if self._opened_locks is None:
                    self._opened_locks = RecordLocks(self._files.locks_fd, self._cells)
        return self._opened_locks

    @property
    def store(self) -> "SqliteStore":
        """The store, opened at its first use."""
        if self._opened_store is None:
            # Late: SQLite is a megabyte that only applications with a store should carry.
            from wsgicluster.cluster.embedded.sqlite_store import SqliteStore

            with self._mutex:
                if self._opened_store is None:
                    self._opened_store = SqliteStore(self._files.folder, self._store_size, self._clock)
        return self._opened_store

    def counter_cell(self, name: str) -> tuple[memoryview, int] | None:
        """As `CounterBackend`'s."""
        return self._cells.words, self._cells.cell(name)

    def add_to_counter(self, name: str, n: int) -> None:
        """As `CounterBackend`'s."""
        self._cells.words[self._cells.cell(name)] += n

    def counter_value(self, name: str) -> int:
        """As `CounterBackend`'s."""
        return self._cells.total(name)

    def take_lock(self, name: str, deadline: float | None) -> RecordHold | None:
        """As `LockBackend`'s."""
        return self._locks.take(name, deadline)

    def is_locked(self, name: str) -> bool:
        """As `LockBackend`'s."""
        return self._locks.is_locked(name)

    def get(self, key: str) -> Stored | None:
        """As `StoreBackend`'s."""
        return self.store.get(key)

    def set(self, key: str, value: Stored, ttl_s: float | None) -> None:
        """As `StoreBackend`'s."""
        self.store.set(key, value, ttl_s)

    def pop(self, key: str) -> Stored | None:
        """As `StoreBackend`'s."""
        return self.store.pop(key)

    def add(self, key: str, n: int, ttl_s: float | None) -> int:
        """As `StoreBackend`'s."""
        return self.store.add(key, n, ttl_s)

    def compare_and_set(self, key: str, old: Stored | None, new: Stored, ttl_s: float | None) -> bool:
        """As `StoreBackend`'s."""
        return self.store.compare_and_set(key, old, new, ttl_s)

    def close(self) -> None:
        """Close all that was opened; the files stay."""
        if self._opened_cells is not None:
            self._opened_cells.close()
        if self._opened_store is not None:
            self._opened_store.close()

    def close_at_exit(self) -> None:
        """At the exit of the process: daemon threads may still run."""
        if self._opened_store is not None:
            self._opened_store.close_at_exit()

    def abandon(self) -> None:
        """In a process that was forked by the application: free what that may free."""
        if self._opened_cells is not None:
            self._opened_cells.abandon()
        if self._opened_store is not None:
            with contextlib.suppress(OSError):  # closed by the application
                self._opened_store.abandon()
