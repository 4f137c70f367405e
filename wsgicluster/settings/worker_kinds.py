"""The kind of the setting that says which workers there are: ours, or a class of the user's own.

Nothing is imported for it here: a class is loaded by the worker that is to be of it.
"""

import re
from typing import Any, TypeAlias

from wsgicluster.settings.kinds import Kind, WrongEntry, read_text
from wsgicluster.settings.wording import nearest

WorkerClass: TypeAlias = str | type[Any]
"""A name, or the class itself; what it is derived from is not known here."""

WORKER_CLASSES = ("sync", "gthread", "gevent")
ENTRY_POINTS = "wsgicluster.workers"
"""The group of entry points under which packages offer kinds of workers."""

_DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*[.:][^\W\d]\w*")
_GUNICORNS = {"ggevent": "gevent", "gevent_wsgi": "gevent", "gevent_pywsgi": "gevent", "eventlet": "gevent",
              "geventlet": "gevent"}  # fmt: skip
"""Names that Gunicorn has for a kind of worker, or for its module, where we have another one that does the same."""


def split_dotted(name: str) -> tuple[str, str] | None:
    """Module and class of ``package.module.Class`` or ``package.module:Class``; None if it is neither."""
    if not _DOTTED_NAME.fullmatch(name):
        return None
    module, _, attribute = name.rpartition(":" if ":" in name else ".")
    return module, attribute


def _read(value: object) -> WorkerClass:
    if isinstance(value, type):
        return value
    name = read_text(value).strip()
    if name in WORKER_CLASSES:
        return name
    ours = _our_name(name)
    if ours is not None:
        raise WrongEntry(name, ours)
    if split_dotted(name) is None and not _is_offered(name):
        raise WrongEntry(name, nearest(name, WORKER_CLASSES))
    return name


def _our_name(name: str) -> str | None:
    """What Gunicorn's name for a kind of worker is here, empty where there is nothing like it; None for other names."""
    package, _, rest = name.partition("#")
    if package == "egg:gunicorn":
        word = rest
    elif name.startswith("gunicorn.workers."):
        word = name.split(".")[2].partition(":")[0]
    elif name in _GUNICORNS:
        word = name
    else:
        return None
    word = _GUNICORNS.get(word, word)
    return word if word in WORKER_CLASSES else ""


def _is_offered(name: str) -> bool:
    # Late: it takes memory, and is needed for such names only.
    from importlib.metadata import entry_points

    return bool(entry_points(group=ENTRY_POINTS, name=name))


def _show(value: WorkerClass) -> str:
    return value if isinstance(value, str) else f"{value.__module__}.{value.__qualname__}"


WORKER_CLASS = Kind(
    _read,
    f"sync, gthread, gevent, a class as package.module.Class, or the name of an entry point in {ENTRY_POINTS}",
    "KIND",
    _show,
    choices=WORKER_CLASSES,
)
