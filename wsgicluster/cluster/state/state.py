"""The shared state as applications use it: `counter`, `store`, `lock`, `once` and `every`."""

import atexit
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from wsgicluster.cluster.errors import MessageTooLarge
from wsgicluster.cluster.state.backend import after_fork, backend
from wsgicluster.cluster.state.counters import Counter, forget_cells
from wsgicluster.cluster.state.locks import Lock, forget_locks, named_lock
from wsgicluster.cluster.values.payload import Value
from wsgicluster.cluster.values.stored_values import decode, encode
from wsgicluster.ipc import membership

if TYPE_CHECKING:
    from wsgicluster.cluster.state.schedule import Jobs

KEY_BYTES = 1024
VALUE_BYTES = 1 << 20
"""The largest value, as it is stored."""

_USERS = "u:"
"""What the application's keys begin with; see `wsgicluster.cluster.state.schedule.INTERNAL`."""

F = TypeVar("F", bound=Callable[[], object])

_counters: dict[str, Counter] = {}


def counter(name: str) -> Counter:
    """The counter of this name, made by the first use of it in any process. There may be 1,024.

    Raises ValueError for an empty name.
    """
    found = _counters.get(name)
    if found is None:
        found = _counters.setdefault(_checked_name(name), Counter(name, backend))
    return found


def lock(name: str) -> Lock:
    """The lock of this name; the same object everywhere in this process. Raises ValueError for an empty name."""
    return named_lock(_USERS, _checked_name(name), backend)


class Store:
    """Values by key, shared by all processes: JSON values or bytes, of which each call gives and takes copies.

    All methods raise ValueError for an empty key, MessageTooLarge for a key of more than 1,024 or a value of more than
    1,048,576 bytes, NotInCluster, and over Redis BusDown. Those that write raise StoreFull when there is no room.
    ``ttl`` is a time to live in seconds, above 0; without it a value stays until it is removed.
    """

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or ``default`` where there is none or it has expired."""
        stored = backend().get(_key(key))
        return default if stored is None else decode(stored)

    def set(self, key: str, value: Value, ttl: float | None = None) -> None:
        """Store a value. Raises TypeError, with the path into the value, for what is neither bytes nor JSON."""
        backend().set(_key(key), _encoded(value), _ttl(ttl))

    def pop(self, key: str, default: Any = None) -> Any:
        """Remove a value and return it, or ``default`` where there is none."""
        stored = backend().pop(_key(key))
        return default if stored is None else decode(stored)

    def add(self, key: str, n: int = 1, ttl: float | None = None) -> int:
        """Add to a whole number, which begins at 0, and return its new value; the ``ttl`` counts from the first add.

        Raises TypeError when there is something else under the key, OverflowError beyond 64 bits.
        """
        if not isinstance(n, int):
            raise TypeError(f"add takes a whole number, not {type(n).__name__}")
        return backend().add(_key(key), int(n), _ttl(ttl))

    def compare_and_set(self, key: str, old: Value, new: Value, ttl: float | None = None) -> bool:
        """Store ``new`` if the value is ``old``, None standing for no value; whether it was."""
        return backend().compare_and_set(
            _key(key), None if old is None else _encoded(old), _encoded(new), _ttl(ttl)
        )  # fmt: skip


store = Store()


def once(key: str, function: Callable[[], object], wait: bool = False) -> bool:
    """Run a function in one process of each generation of workers; True in the process that has run it.

    With ``wait`` this returns when it has been run to its end, here or elsewhere; without it at once if another process
    runs it. If it raises, or its process ends, another call may run it. Raises what the function raises.
    """
    from wsgicluster.cluster.state.schedule import run_once

    return run_once(_checked_name(key), function, wait)


def every(seconds: float, name: str | None = None, jitter: float = 0.0) -> Callable[[F], F]:
    """Decorate a function without parameters that one process is to call every so many seconds.

    It is called first after that time, in a thread, never twice at once; ticks that were missed are one. ``name`` is by
    default that of the function with its module; ``jitter`` delays each tick by up to so many seconds, at random.
    Raises ValueError for times that are not above 0, a jitter that is not below ``seconds``, and a name that is taken.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"every: {seconds!r} is not a time in seconds above 0")
    if not 0 <= jitter < seconds:
        raise ValueError(f"every: the jitter is {jitter!r}, and must be from 0 to below {seconds!r}, the interval")

    def register(function: F) -> F:
        from wsgicluster.cluster.state.schedule import PeriodicJob

        default = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
        _jobs().add(PeriodicJob(_checked_name(name if name is not None else default), seconds, jitter, function))
        return function

    return register


def take_jobs() -> tuple[str, ...]:
    """The names of the jobs that were registered where none is started, which are forgotten."""
    return _jobs().take()


@functools.cache
def _jobs() -> "Jobs":
    from wsgicluster.cluster.state.schedule import Jobs

    jobs = Jobs()
    membership.on_join(jobs.start_all)
    atexit.register(jobs.finish)
    return jobs


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a name is a text, not {type(name).__name__}")
    if not name:
        raise ValueError("a name must not be empty")
    return name


def _key(key: str) -> str:
    if len(_checked_name(key).encode()) > KEY_BYTES:
        raise MessageTooLarge(f"a key has more than {KEY_BYTES} bytes: {key[:40]!r}...")
    return _USERS + key


def _encoded(value: Value) -> Any:
    stored = encode(value)
    if not isinstance(stored, int) and len(stored) > VALUE_BYTES:
        raise MessageTooLarge(f"a value has {len(stored)} bytes as it is stored, more than {VALUE_BYTES}")
    return stored


def _ttl(ttl: float | None) -> float | None:
    if ttl is not None and not (math.isfinite(ttl) and ttl > 0):
        raise ValueError(f"a ttl of {ttl!r} is not a time in seconds above 0")
    return ttl


def _forget() -> None:
    forget_cells(_counters.values())
    forget_locks()


after_fork(_forget)
