"""What hooks of the arbiter change besides their arguments, for workers that are not forked from the arbiter itself.

With ``preload_app`` another process forks them, which was forked when the settings were read. Variables of the
environment and of the configuration file that hooks have changed since then are sent to each worker.
"""

import os
import pickle
from collections.abc import Callable, MutableMapping
from typing import Any

PLAIN = (bool, int, float, str, bytes, list, dict, set, tuple, frozenset, type(None))
"""Values of variables that are sent; objects of other types, such as locks and clients, are a process's own."""

Variables = dict[str, Any]


def _plain(variables: MutableMapping[str, Any]) -> dict[str, bytes]:
    """The variables with plain values, pickled, so that what was changed within a list is noticed as well."""
    found = {}
    for name, value in list(variables.items()):
        if isinstance(value, PLAIN) and not name.startswith("__"):
            try:
                found[name] = pickle.dumps(value)
            except Exception:  # noqa: BLE001
                # It holds an object that is a process's own; whatever that raises, the variable stays as it is.
                found[name] = b""
    return found


class Changes:
    """What has changed since the settings were read that have this hook."""

    def __init__(self, hook: Callable[..., Any] | None) -> None:
        self._variables = variables_of(hook)
        self._before = _plain(self._variables)
        self._environ = dict(os.environ)

    def environ(self) -> Variables:
        """Variables of the environment, None for one that was removed."""
        now = dict(os.environ)
        changed: Variables = {name: value for name, value in now.items() if self._environ.get(name) != value}
        return changed | dict.fromkeys(self._environ.keys() - now.keys())

    def variables(self) -> Variables:
        """Variables of the file."""
        now = _plain(self._variables)
        return {name: self._variables[name] for name, text in now.items() if self._before.get(name) != text}


def variables_of(hook: Callable[..., Any] | None) -> MutableMapping[str, Any]:
    """Those of the file in which a hook is; none for an object that has no file of its own."""
    found: MutableMapping[str, Any] = getattr(hook, "__globals__", {})
    return found


def apply_environ(changed: Variables) -> None:
    """In a worker: the environment as hooks have made it."""
    for name, value in changed.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
