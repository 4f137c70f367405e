"""Which class a worker is of: one of ours, or one of the user's own that is derived from them.

A class of the user's own is imported only by processes that will import the application, and as that is: in its
folder, and without privileges.
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from wsgicluster.errors import AppLoadError, UsageError
from wsgicluster.gunicorn.imports import importable
from wsgicluster.http import core, response
from wsgicluster.settings.types.worker import ENTRY_POINTS, KINDS, WorkerClass, kind_row, split_dotted
from wsgicluster.worker.hooks import OF_KIND, WorkerHooks, kind_of
from wsgicluster.worker.kinds.parts import KindParts
from wsgicluster.wsgi.loader import failed, load_object


def check_kind(wanted: WorkerClass) -> None:
    """Raise UsageError for a ``worker_class`` that cannot be had here, as far as that shows without an import."""
    package = kind_row(wanted).package
    if package and importlib.util.find_spec(package) is None:
        raise UsageError(f"worker_class: {wanted} needs the package {package}; pip install 'wsgicluster[{package}]'")
    if isinstance(wanted, type):
        _checked(f"worker_class: {wanted.__qualname__}", wanted)


def import_kind(wanted: WorkerClass) -> None:
    """Import the modules of a kind that needs no other package, before workers are forked, which then share them.

    What their first requests would have to compile is compiled, too.

    A worker imports the rest of its modules as its user, who may not be allowed to enter the folder of this package.
    """
    row = kind_row(wanted)
    if row.module and not row.package:
        for module in (f"kinds.{row.module}", *(row.compiled if core.compiled else ())):
            importlib.import_module(f"wsgicluster.worker.{module}")
    response.prepare()


def hooks_class(wanted: WorkerClass) -> type[WorkerHooks]:
    """The class of a ``worker_class``, imported if need be. Raises UsageError as `check_kind` does, or AppLoadError."""
    check_kind(wanted)
    if not isinstance(wanted, str):
        hooks: type[WorkerHooks] = wanted
        return hooks
    if wanted in OF_KIND:
        return OF_KIND[wanted]
    dotted = split_dotted(wanted)
    if dotted is not None:
        text = f"worker_class: {wanted}"
        with importable():  # it may be derived from a class of Gunicorn's
            return _checked(text, load_object(text, *dotted))
    return _offered(wanted)


def worker_parts(hooks: type[WorkerHooks]) -> KindParts:
    """What workers of a class of hooks are made of; imported now, with what that needs."""
    parts: KindParts = importlib.import_module(f"wsgicluster.worker.kinds.{KINDS[kind_of(hooks)].module}").PARTS
    return parts


def _offered(name: str) -> type[WorkerHooks]:
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


def _checked(text: str, found: Any) -> type[WorkerHooks]:
    remedy = "derive it from SyncWorker, ThreadWorker or GeventWorker of wsgicluster.worker"
    if not isinstance(found, type):
        raise AppLoadError(f"{text}: is not a class; {remedy}")
    if not issubclass(found, WorkerHooks):
        # Where Gunicorn is installed.
        gunicorns = any(base.__module__.startswith("gunicorn.") for base in found.__mro__)
        whose = "is a worker of Gunicorn's" if gunicorns else "is not a worker class"
        raise AppLoadError(f"{text}: {whose}; {remedy}")
    if not kind_of(found):
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
