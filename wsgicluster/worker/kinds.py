"""Which class a worker is of: one of ours, or one of the user's own that is derived from them.

A class of the user's own is imported only by processes that will import the application, and as that is: in its
folder, and without privileges.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

from wsgicluster.errors import AppLoadError, UsageError
from wsgicluster.settings.worker_kinds import ENTRY_POINTS, WorkerClass, split_dotted
from wsgicluster.worker.concurrent import ConcurrentWorker
from wsgicluster.worker.server import LoopWorker
from wsgicluster.worker.sync import SyncWorker
from wsgicluster.worker.thread import ThreadWorker
from wsgicluster.wsgi.loader import failed, load_object


def _gevent_worker() -> type[LoopWorker]:
    # Late: it is an extra, and only processes that are of this kind shall import it.
    from wsgicluster.worker.gevent import GeventWorker

    return GeventWorker


KINDS: dict[str, Callable[[], type[LoopWorker]]] = {
    "sync": lambda: SyncWorker,
    "gthread": lambda: ThreadWorker,
    "gevent": _gevent_worker,
}


def check_kind(wanted: WorkerClass) -> None:
    """Raise UsageError for a ``worker_class`` that cannot be had here, as far as that shows without an import."""
    if wanted == "gevent" and importlib.util.find_spec("gevent") is None:
        raise UsageError("worker_class: gevent needs the package gevent; pip install 'wsgicluster[gevent]'")
    if isinstance(wanted, type):
        _checked(f"worker_class: {wanted.__qualname__}", wanted)


def worker_kind(wanted: WorkerClass) -> type[LoopWorker]:
    """The class of a ``worker_class``, imported if need be. Raises UsageError as `check_kind` does, or AppLoadError."""
    check_kind(wanted)
    if not isinstance(wanted, str):
        kind: type[LoopWorker] = wanted
        return kind
    if wanted in KINDS:
        return KINDS[wanted]()
    dotted = split_dotted(wanted)
    if dotted is not None:
        text = f"worker_class: {wanted}"
        return _checked(text, load_object(text, *dotted))
    return _offered(wanted)


def _offered(name: str) -> type[LoopWorker]:
    """The class that an installed package offers under a name."""
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group=ENTRY_POINTS, name=name)), None)
    if found is None:
        raise UsageError(
            f"worker_class: {name}: no installed package has an entry point of this name in {ENTRY_POINTS}"
        )
    package = f" of {found.dist.name}" if found.dist is not None else ""
    text = f"worker_class: {name} (entry point {found.value}{package})"
    return _checked(text, load_object(text, found.module, found.attr))


def _checked(text: str, found: Any) -> type[LoopWorker]:
    remedy = "derive it from SyncWorker, ThreadWorker or GeventWorker of wsgicluster.worker"
    if not isinstance(found, type):
        raise AppLoadError(f"{text}: is no class; {remedy}")
    if not issubclass(found, LoopWorker):
        gunicorns = any(base.__module__.startswith("gunicorn.") for base in found.__mro__)
        whose = "is a worker of Gunicorn's" if gunicorns else "is no worker"
        raise AppLoadError(f"{text}: {whose}; {remedy}")
    if found.run is LoopWorker.run or (issubclass(found, ConcurrentWorker) and found.submit is ConcurrentWorker.submit):
        raise AppLoadError(f"{text}: does not say how requests are run; {remedy}")
    return found


def call_hook(wanted: WorkerClass, hook: Callable[[], object]) -> None:
    """Call what a class of the user's own may have made anew. Raises AppLoadError, whatever that raises."""
    try:
        hook()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        name = wanted if isinstance(wanted, str) else wanted.__qualname__
        raise failed(f"worker_class: {name}: {hook.__name__} failed", error) from error
