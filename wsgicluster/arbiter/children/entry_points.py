"""What children run: passed to the arbiter as values, so that it need not know it."""

from collections.abc import Callable
from typing import NoReturn

from wsgicluster.arbiter.hooks import ArbiterHooks, no_hooks
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.settings import Settings


def _nothing() -> None:
    return None


def _no_role(_settings: Settings, _assignment: Assignment, _registered: object | None = None) -> NoReturn:
    raise NotImplementedError("this role is not part of the server")


@dataclass(frozen=True, slots=True)
class PreparedWorker:
    """A worker whose parts were made before its process: ``boot`` is called there, and never returns.

    ``descriptors`` are what it keeps open for its parts, and ``close`` closes them where the parts were made.
    """

    boot: Callable[[], NoReturn]
    descriptors: frozenset[int]
    close: Callable[[], object]


def _prepare_nothing(
    _settings: Settings, _assignment: Assignment, _application: object | None
) -> PreparedWorker | None:
    return None


@dataclass(frozen=True, slots=True)
class Roles:
    """The entries of child processes.

    ``boot_worker`` gets the application where it is loaded already, else None; it unblocks the signals
    that `wsgicluster.system.signals.HELD` names once it has handlers for them, and ends the process itself.
    ``boot_jobs``, ``boot_steward`` and ``boot_admin`` do the same for these roles; the steward gets what the
    configuration file has registered. ``registered`` returns that of the newest reading, None for nothing.
    ``hooks`` returns what calls the hooks of the configuration file, with the newest settings.
    ``prepare_worker`` makes what of a worker can be made before its process, None for nothing; it gets the
    application as ``boot_worker`` does.
    ``load_application`` returns the application or raises AppLoadError. ``core`` says what the children run on.
    """

    boot_worker: Callable[[Settings, Assignment, object | None], NoReturn]
    load_application: Callable[[Settings], object]
    core: str = "plain Python"
    boot_jobs: Callable[[Settings, Assignment], NoReturn] = _no_role
    boot_steward: Callable[[Settings, Assignment, object | None], NoReturn] = _no_role
    boot_admin: Callable[[Settings, Assignment], NoReturn] = _no_role
    registered: Callable[[], object | None] = _nothing
    hooks: Callable[[Settings], ArbiterHooks] = no_hooks
    prepare_worker: Callable[[Settings, Assignment, object | None], PreparedWorker | None] = _prepare_nothing
