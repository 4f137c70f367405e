"""The type of the setting that chooses the kind of worker: one of ours, or a class of the user's.

Here is the table of the kinds. Nothing is imported for any of them: that is left to the worker.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from wsgicluster.dataclass import dataclass
from wsgicluster.pattern import pattern
from wsgicluster.settings.types.general import SettingType, WrongEntry, read_text
from wsgicluster.settings.wording import nearest

WorkerClass: TypeAlias = str | type[Any]
"""A name, or the class itself; its base class is not checked here."""


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """One kind of worker, as far as that is known without importing it.

    ``module`` of ``wsgicluster.worker.kinds`` has its loop, its runner and its class of connections as ``PARTS``;
    ``compiled`` are modules of ``wsgicluster.worker`` that it imports when a worker begins, where they were built.
    ``package`` is what has to be installed for it, by the extra of the same name.
    """

    name: str
    module: str
    package: str = ""
    compiled: tuple[str, ...] = ()
    with_threads: str = ""
    """The kind that is meant where ``threads`` is more than one."""
    limits_connections: bool = True
    """Whether ``worker_connections`` is a limit for it."""
    descriptors_each: int = 1
    """How many descriptors a connection takes, with what its request opens."""
    loop_in_each_worker: bool = False
    """Whether it makes its event loop anew behind a fork, however far the application had got with another one."""
    cooperative: bool = False
    """Whether requests take turns where they wait, and what waits in C holds up all of them."""


KINDS: Mapping[str, WorkerKind] = {
    row.name: row
    for row in (
        WorkerKind(
            "sync",
            "sync.worker",
            compiled=("kinds.sync._fast_path", "request._coalesce"),
            with_threads="gthread",
            limits_connections=False,
        ),
        WorkerKind("gthread", "gthread"),
        WorkerKind(
            "gevent",
            "gevent.worker",
            package="gevent",
            # A greenlet that waits for a database holds a connection to that as well.
            descriptors_each=2,
            loop_in_each_worker=True,
            cooperative=True,
        ),
    )
}
"""The kinds of workers, in the order in which they are named to users."""

WORKER_CLASSES = tuple(KINDS)
ENTRY_POINTS = "wsgicluster.workers"
"""The group of entry points under which packages offer kinds of workers."""

_DOTTED_NAME = pattern(r"[^\W\d]\w*(\.[^\W\d]\w*)*[.:][^\W\d]\w*")
_GUNICORNS = {"ggevent": "gevent", "gevent_wsgi": "gevent", "gevent_pywsgi": "gevent", "ggthread": "gthread"}
"""Gunicorn's names for a kind of worker, or for its module, to ours."""

_ASGI = (
    "sync, gthread or gevent for a WSGI application; one for ASGI or asyncio needs a server for that, such as uvicorn"
)
_OTHERS = {
    "eventlet": "gevent: there are no workers for eventlet",
    "tornado": "gthread: there are no workers for tornado",
    "meinheld": "gevent or gthread: there are no workers for meinheld",
    "asgi": _ASGI,
    "uvicorn": _ASGI,
    "uvicorn_worker": _ASGI,
    "aiohttp": _ASGI,
    "sanic": _ASGI,
}
"""Packages, and Gunicorn's names without their g, whose workers cannot be had; and what to use instead."""


def instead_of(module: str) -> str:
    """What to use instead of the workers of a module of another framework, empty for any other module."""
    return _OTHERS.get(module.partition(".")[0], "")


OF_USER = WorkerKind("", "")
"""What is known of a class of the user's own that has not been imported: nothing."""


def kind_row(wanted: WorkerClass) -> WorkerKind:
    """The row of a kind of ours, or `OF_USER` for any other value of the setting."""
    return KINDS.get(wanted, OF_USER) if isinstance(wanted, str) else OF_USER


def kind_name(wanted: WorkerClass) -> str:
    """The name of a kind for people: ours, or that of the user's class."""
    return wanted if isinstance(wanted, str) else f"{wanted.__module__}.{wanted.__qualname__}"


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
    if ours in WORKER_CLASSES:
        return ours
    instead = _OTHERS.get(ours) or _OTHERS.get(ours.removeprefix("g"), "")
    if instead or (ours and ours != name):
        raise WrongEntry(name, expected=instead)
    if split_dotted(name) is None and not _is_offered(name):
        raise WrongEntry(name, nearest(name, WORKER_CLASSES))
    return name


def _our_name(name: str) -> str:
    """The word for a kind in one of Gunicorn's names, ours where there is one; for others the package or the name."""
    package, _, rest = name.partition("#")
    if package == "egg:gunicorn":
        word = rest
    elif name.startswith("gunicorn.workers."):
        word = name.split(".")[2].partition(":")[0]
    elif package.startswith("egg:"):
        word = package.removeprefix("egg:")
    else:
        word = name.partition(".")[0].partition(":")[0]
        return _GUNICORNS.get(name) or (word if word in _OTHERS else name)
    return _GUNICORNS.get(word, word)


def _is_offered(name: str) -> bool:
    # Late: it takes memory, and only names of other packages need it.
    from importlib.metadata import entry_points

    return bool(entry_points(group=ENTRY_POINTS, name=name))


def _show(value: WorkerClass) -> str:
    return value if isinstance(value, str) else f"{value.__module__}.{value.__qualname__}"


WORKER_CLASS = SettingType(
    _read,
    f"{', '.join(WORKER_CLASSES)}, a class as package.module.Class, or the name of an entry point in {ENTRY_POINTS}",
    "KIND",
    _show,
    choices=WORKER_CLASSES,
    unset=(None,),
)
