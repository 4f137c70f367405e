"""Finds locks that are held, and names them by the modules and objects that have them.

A lock that is held during a fork stays held in the child: the thread that would release it does not exist there.
"""

import gc
import sys
import threading
import time
import types
from collections.abc import Iterator

from wsgicluster.doctor.facts import Trace, Traces

# Bound now: gevent replaces them.
_KINDS = (type(threading.Lock()), type(threading.RLock()))
_THREAD = threading.Thread
_HEAP_TYPE = 1 << 9
"""Set in the flags of classes that were written in Python (and of some that were not)."""

_NOT_THE_APPLICATION_S = frozenset({"threading", "importlib._bootstrap", "_frozen_importlib"})
_BETWEEN_LOOKS_S = 0.05


def held_locks() -> Traces:
    """The locks of modules and objects that are held now and still a moment later."""
    found = _held()
    if found:
        # A thread that logs a line holds one as well, but only briefly.
        time.sleep(_BETWEEN_LOOKS_S)
        found = {number: name for number, name in _held().items() if number in found}
    return tuple(sorted((Trace(name) for name in found.values()), key=str))


def _held() -> dict[int, str]:
    names: dict[int, str] = {}
    for name, lock in _named():
        # Only plain locks have locked() in all versions of Python, and trying to acquire would change the others.
        if id(lock) not in names and repr(lock).startswith("<locked"):
            names[id(lock)] = name
    return names


def _named() -> Iterator[tuple[str, object]]:
    """Name and lock; modules first, because their names say most."""
    for module in list(sys.modules.values()):
        if isinstance(module, types.ModuleType):
            yield from _members(f"{module.__name__}.", vars(module))
    for owner in gc.get_objects():
        kind = type(owner)
        # A running thread holds locks of its own, and so does one that waits.
        if not kind.__flags__ & _HEAP_TYPE or issubclass(kind, _THREAD | type | types.ModuleType):
            continue
        if kind.__module__ in _NOT_THE_APPLICATION_S:
            continue
        prefix = f"{kind.__module__}.{kind.__qualname__}()."
        for value in gc.get_referents(owner):
            if type(value) is dict:
                yield from _members(prefix, value)
            elif isinstance(value, _KINDS):
                yield _attribute(prefix, owner, value), value


def _members(prefix: str, members: dict[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in list(members.items()):
        if isinstance(value, _KINDS):
            yield f"{prefix}{name}", value


def _attribute(prefix: str, owner: object, lock: object) -> str:
    # Objects without a dictionary have other ways to store attributes.
    for kind in type(owner).__mro__:
        for name in [*vars(kind).get("__slots__", ()), *_instance_names(owner)]:
            if getattr(owner, name, None) is lock:
                return f"{prefix}{name}"
    return f"{prefix[:-1]} (a lock)"


def _instance_names(owner: object) -> list[str]:
    try:
        return list(vars(owner))
    except (TypeError, RuntimeError):  # there is no dictionary, or a proxy without its object
        return []
