"""What children run: given to the arbiter as values, so that it need not know it."""

import dataclasses
from collections.abc import Callable
from typing import NoReturn

from wsgicluster.cluster.assignment import Assignment
from wsgicluster.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True)
class Roles:
    """The entries of child processes.

    ``boot_worker`` gets the application where it is loaded already, else None; it unblocks the signals
    that `wsgicluster.arbiter.spawn.HELD` names once it has handlers for them, and ends the process itself.
    ``load_application`` answers the application or raises AppLoadError.
    """

    boot_worker: Callable[[Settings, Assignment, object | None], NoReturn]
    load_application: Callable[[Settings], object]
