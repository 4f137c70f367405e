"""Functions of the configuration file that the server calls at certain moments, as Gunicorn does."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from wsgicluster.settings.types.general import SettingType

Hook = Callable[..., Any]


def takes(function: Hook, count: int) -> bool:
    """Whether a function can be called with so many arguments; one of C may not tell, and then is taken to."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # of a function in C
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def imported(name: str) -> object:
    """What a dotted name such as ``package.module.function`` means; an empty one means none.

    Raises ValueError for one without a dot, and whatever the import raises.
    """
    if not name:
        return None
    module, dot, attribute = name.strip().replace(":", ".").rpartition(".")
    if not dot:
        raise ValueError(name)
    return getattr(importlib.import_module(module), attribute)


def _show(value: object) -> str:
    return "none" if value is None else str(getattr(value, "__name__", "a function"))


def hook(*names: str, least: int = 0) -> SettingType[Hook | None]:
    """The type of a hook that is called with these arguments; with ``least``, also one that takes only the first."""

    def read(value: object) -> Hook | None:
        if value is None:
            return None
        if not callable(value):
            raise TypeError
        if inspect.iscoroutinefunction(value):
            raise ValueError  # nothing would await it, so that it would never run
        if not any(takes(value, count) for count in range(least or len(names), len(names) + 1)):
            raise ValueError
        return value

    words = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return SettingType(read, f"a function of {words}, in the configuration file", "", _show)


def most_taken(function: Hook, least: int, most: int) -> int:
    """How many arguments a hook takes, within these bounds."""
    return next((count for count in range(most, least, -1) if takes(function, count)), least)


SERVER = hook("server")
SERVER_AND_WORKER = hook("server", "worker")
WORKER = hook("worker")
NUMBER_OF_WORKERS = hook("server", "new_value", "old_value")
REQUEST = hook("worker", "req")
RESPONSE = hook("worker", "req", "environ", "resp", least=2)

NAMES = (
    "on_starting", "on_reload", "when_ready", "pre_fork", "post_fork", "post_worker_init", "worker_int", "worker_abort",
    "pre_exec", "pre_request", "post_request", "child_exit", "worker_exit", "before_mold_fork", "after_mold_fork",
    "nworkers_changed", "on_exit",
)  # fmt: skip
"""All of them but ``ssl_context``, which is a setting of its own kind."""
