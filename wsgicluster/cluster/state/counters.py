"""Counters: exact sums of what all processes have added, whenever they end.

To add is one store to a cell of this process's own, with nothing to wait for; over Redis it is one command.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Protocol


class CounterBackend(Protocol):
    """Where counters are. Without ``counter_cell`` each ``add`` is a call of ``add_to_counter``."""

    def counter_cell(self, name: str) -> tuple[memoryview, int] | None:
        """Numbers in memory and the index of this process's own; None where there are none."""
        ...

    def add_to_counter(self, name: str, n: int) -> None:
        """Add where there is no cell."""
        ...

    def counter_value(self, name: str) -> int:
        """The sum."""
        ...


# Held for no longer than one addition. Reentrant, since a signal's handler may count as well.
_mutex = threading.RLock()


class Counter:
    """A named number that all processes add to; made by `wsgicluster.cluster.counter`."""

    __slots__ = ("_backend", "_cells", "_index", "name")

    def __init__(self, name: str, backend: Callable[[], CounterBackend]) -> None:
        self.name = name
        self._backend = backend
        self._cells: memoryview | None = None
        self._index = 0

    def add(self, n: int = 1) -> None:
        """Add a whole number, which may be negative. What was added when this returns is never lost.

        Raises TypeError for what is not an int, OverflowError beyond 64 bits, StoreFull for one name too many,
        MessageTooLarge for a name that is too long, NotInCluster, and over Redis BusDown.
        """
        with _mutex:
            cells = self._cells
            if cells is None:
                self._add_first(n)
                return
            try:
                cells[self._index] += n
            except (TypeError, ValueError) as error:
                raise _refusal(n, error) from None

    def _add_first(self, n: int) -> None:
        if not isinstance(n, int):
            raise _refusal(n, TypeError())
        backend = self._backend()
        cell = backend.counter_cell(self.name)
        if cell is None:
            backend.add_to_counter(self.name, n)
            return
        self._cells, self._index = cell
        self.add(n)

    @property
    def value(self) -> int:
        """The sum of all that was added, by processes that have ended as well. Raises as `add` does."""
        return self._backend().counter_value(self.name)

    def __repr__(self) -> str:
        return f"counter({self.name!r})"

    def forget(self) -> None:
        """Find the cell anew at the next use, in a process that has another one or none."""
        self._cells = None


def _refusal(n: object, error: Exception) -> Exception:
    if isinstance(error, TypeError):
        return TypeError(f"a counter adds whole numbers, not {type(n).__name__}")
    return OverflowError("a counter has 64 bits for what one process adds")


def forget_cells(counters: Iterable[Counter]) -> None:
    """In a forked process: the cells are its parent's, and the mutex may be held by a thread that is not here."""
    global _mutex
    _mutex = threading.RLock()
    for counter in counters:
        counter.forget()
