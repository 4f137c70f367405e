"""An application's iterable that is asked for a block before the cycle gets it."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any


class BegunIterable:
    """Gives what ``result`` gives, and raises what that has raised meanwhile where the cycle expects it.

    ``first`` is its first block, or None when there is none; what takes that sets it to None.
    """

    __slots__ = ("_blocks", "_close", "_failure", "first")

    def __init__(self, result: Any) -> None:
        self._close: Callable[[], object] | None = getattr(result, "close", None)
        self._failure: BaseException | None = None
        self._blocks: Iterator[Any] = iter(())
        self.first: Any = None
        try:
            blocks = iter(result)
            self.first = next(blocks)
            self._blocks = blocks
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001
            # The application's: the cycle is the boundary.
            self._failure = error

    def __iter__(self) -> Iterator[Any]:
        if self.first is not None:
            yield self.first
        if self._failure is not None:
            raise self._failure
        yield from self._blocks

    def is_over(self) -> bool:
        """Whether nothing follows the first block, and the iterable has closed; else the cycle has to see the rest."""
        try:
            self._blocks = chain((next(self._blocks),), self._blocks)
            return False
        except StopIteration:
            self._blocks = iter(())
        except BaseException as error:  # noqa: BLE001
            self._failure = error
            return False
        close, self._close = self._close, None
        try:
            if close is not None:
                close()
        except BaseException as error:  # noqa: BLE001
            self._close = _Raise(error)
            return False
        return True

    def fail(self, error: BaseException) -> None:
        """Raise this instead of giving more."""
        self._failure = error

    def close(self) -> None:
        """As PEP 3333 has it."""
        if self._close is not None:
            self._close()


CALLS_APPLICATION = frozenset(
    function.__code__
    for function in (BegunIterable.__init__, BegunIterable.__iter__, BegunIterable.is_over, BegunIterable.close)
)
"""The functions that call the application, and catch what it raises or are called by the cycle, which does."""


class _Raise:
    """Raises again what a ``close`` has raised."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self) -> None:
        raise self._error
