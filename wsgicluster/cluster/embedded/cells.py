"""The cells of counters and locks: one file in memory that all processes of the cluster map.

A row is the name of a counter, a column belongs to one process: only it writes there, so that to add is one store of
eight aligned bytes, which a KILL does either before or after. Columns are never cleared; the value of a counter is the
sum of its row. A process has its column by a record lock on the byte of that number in the file of locks, which the
kernel gives up with the process: two servers that share the files during an upgrade need not know each other's numbers.

Three more regions belong to the columns and serve locks: which locks the column's process holds, the last token that
it has given, and how many of its threads use locks.
"""

import contextlib
import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator

from wsgicluster.cluster.errors import MessageTooLarge, StoreFull
from wsgicluster.ipc.shared_files import SharedFiles

ROWS = 1024
"""Most names of counters."""

COLUMNS = 1024
"""Most processes at a time, as many as a scoreboard has pages."""

NAME_BYTES = 254
HELD_A_COLUMN = 32
"""Locks that one process may hold at a time and have known as left behind by it if it is killed."""

_WORD = 8
_PAGE = 4096
_NAME_ENTRY = 256
_NAMES = _PAGE
_HELD = _NAMES + ROWS * _NAME_ENTRY
_TOKENS = _HELD + COLUMNS * HELD_A_COLUMN * _WORD
_USERS = _TOKENS + COLUMNS * _WORD
_CELLS = _USERS + COLUMNS * _WORD
SIZE = _CELLS + COLUMNS * ROWS * _WORD
"""Bytes of the file; pages of it that were never touched take no memory."""

_FIRST_USERS = _USERS // _WORD
_NAMES_USED, _COLUMNS_USED = 0, 1
_ENTRY = struct.Struct(f"H{NAME_BYTES}s")
_MARK = struct.Struct("q")

TABLE_OFFSET = COLUMNS
"""The byte of the file of locks that is held while a name or a column is added."""

_RETRY_S = 0.0005


class SharedCells:
    """This process's view of the file. It has no column before it asks for one."""

    def __init__(self, files: SharedFiles) -> None:
        self._locks_fd = files.locks_fd
        if os.fstat(files.counters_fd).st_size < SIZE:
            os.ftruncate(files.counters_fd, SIZE)
        self._map = mmap.mmap(files.counters_fd, SIZE)
        self.words = memoryview(self._map).cast("q")
        """All of it as signed numbers of 64 bits."""
        self._rows: dict[str, int] = {}
        self._column = -1
        self._free_marks: list[int] = []
        self._mutex = threading.RLock()

    # Names and columns

    def cell(self, name: str) -> int:
        """The index in ``words`` of this process's cell of a counter. Raises StoreFull, MessageTooLarge."""
        return (_CELLS // _WORD) + self.column() * ROWS + self._row(name)

    def total(self, name: str) -> int:
        """The sum of a counter's row. Raises StoreFull, MessageTooLarge."""
        first = _CELLS // _WORD + self._row(name)
        return sum(self.words[first : first + self.words[_COLUMNS_USED] * ROWS : ROWS])

    def _row(self, name: str) -> int:
        row = self._rows.get(name)
        if row is None:
            with self._mutex, self._table():
                row = self._find_row(name)
        return row

    def _find_row(self, name: str) -> int:
        encoded = name.encode()
        if len(encoded) > NAME_BYTES:
            raise MessageTooLarge(f"the name of a counter has {len(encoded)} bytes, more than {NAME_BYTES}")
        used = self.words[_NAMES_USED]
        for row in range(len(self._rows), used):
            length, text = _ENTRY.unpack_from(self._map, _NAMES + row * _NAME_ENTRY)
            self._rows[text[:length].decode()] = row
        if name not in self._rows:
            if used == ROWS:
                raise StoreFull(f"there are {ROWS} counters already, and no room for {name!r}")
            _ENTRY.pack_into(self._map, _NAMES + used * _NAME_ENTRY, len(encoded), encoded)
            self.words[_NAMES_USED] = used + 1
            self._rows[name] = used
        return self._rows[name]

    def column(self) -> int:
        """This process's column. Raises StoreFull when there are too many processes."""
        if self._column < 0:
            with self._mutex, self._table():
                if self._column < 0:
                    self._column = self._claim()
        return self._column

    def _claim(self) -> int:
        for column in range(COLUMNS):
            try:
                fcntl.lockf(self._locks_fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, column)
            except (BlockingIOError, PermissionError):  # another process's
                continue
            self.words[_COLUMNS_USED] = max(self.words[_COLUMNS_USED], column + 1)
            self.words[_USERS // _WORD + column] = 0
            first = _HELD // _WORD + column * HELD_A_COLUMN
            # What the last process of this column held is noted until the next holder has seen it.
            self._free_marks = [index for index in range(first, first + HELD_A_COLUMN) if self.words[index] == 0]
            return column
        raise StoreFull(f"more than {COLUMNS} processes use the shared state at a time")

    @contextlib.contextmanager
    def _table(self) -> Iterator[None]:
        while True:
            try:
                fcntl.lockf(self._locks_fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, TABLE_OFFSET)
                break
            except (BlockingIOError, PermissionError):
                time.sleep(_RETRY_S)
        try:
            yield
        finally:
            fcntl.lockf(self._locks_fd, fcntl.LOCK_UN, 1, TABLE_OFFSET)

    # Locks that are held

    def mark_held(self, offset: int) -> tuple[int, bool]:
        """Note that this process holds the lock at ``offset``.

        Returns where, for `unmark_held`, and whether the last holder was killed while it held the lock.
        """
        if self._column < 0:
            self.column()
        words = self.words
        end = _HELD + words[_COLUMNS_USED] * HELD_A_COLUMN * _WORD
        # The caller holds the lock: a note of it is from a process that has ended with it.
        found = self._map.find(_MARK.pack(offset), _HELD, end)
        left_behind = found >= 0 and found % _WORD == 0
        if left_behind:
            words[found // _WORD] = 0
        try:
            index = self._free_marks.pop()
        except IndexError:  # too many at a time
            return -1, left_behind
        words[index] = offset
        return index, left_behind

    def unmark_held(self, index: int) -> None:
        """Note that this process is about to release the lock that is noted there."""
        if index >= 0:
            self.words[index] = 0
            self._free_marks.append(index)

    def next_token(self) -> int:
        """A number higher than any that was given in this cluster before, by a process that holds a lock.

        Nanoseconds since the epoch, so that it is also higher than those of a cluster that ended before this one began.
        """
        column, words = self.column(), self.words
        first = _TOKENS // _WORD
        with self._mutex:
            token = max(time.time_ns(), max(words[first : first + words[_COLUMNS_USED]]) + 1)
            words[first + column] = token
        return token

    def tell_users(self, threads: int) -> None:
        """Show the others how many threads of this process hold locks or wait for one."""
        self.words[_FIRST_USERS + (self._column if self._column >= 0 else self.column())] = threads

    def one_user_each(self) -> bool:
        """Whether no living process has more than one such thread."""
        first, mine = _USERS // _WORD, self.column()
        for column in range(self.words[_COLUMNS_USED]):
            if self.words[first + column] > 1 and (column == mine or not self._is_left(column)):
                return False
        return True

    def _is_left(self, column: int) -> bool:
        """Whether the process of another column has ended."""
        with self._mutex, self._table():
            try:
                fcntl.lockf(self._locks_fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, column)
            except (BlockingIOError, PermissionError):
                return False
            self.words[_USERS // _WORD + column] = 0
            fcntl.lockf(self._locks_fd, fcntl.LOCK_UN, 1, column)
            return True

    def close(self) -> None:
        """Free the column, and the mapping with its descriptor."""
        if self._column >= 0:
            fcntl.lockf(self._locks_fd, fcntl.LOCK_UN, 1, self._column)
        self.abandon()

    def abandon(self) -> None:
        """Give the mapping and its descriptor back, in a process that was forked by the application."""
        with contextlib.suppress(BufferError):  # a thread was reading when this process was forked
            self.words.release()
            self._map.close()
