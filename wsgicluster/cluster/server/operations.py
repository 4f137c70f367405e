"""What the configuration file may ask of the server: scale, reload, restart, drain, another scheduling policy.

Each asks the arbiter and returns at once; what comes of it is an event.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from wsgicluster.cluster.errors import ClusterError, QueueFull, WorkerGone
from wsgicluster.cluster.server.standing import standing
from wsgicluster.errors import UsageError
from wsgicluster.ipc.membership import Membership
from wsgicluster.ipc.messages import ChannelClosed, OperationWanted
from wsgicluster.ipc.scheduling import load_scheduling
from wsgicluster.ipc.scoreboard import Cell, ChildRole
from wsgicluster.settings import SETTINGS, Settings
from wsgicluster.settings.live import with_scheduling
from wsgicluster.settings.types.scheduling import Sticky

MOST_WORKERS = 500


def scale(workers: int) -> None:
    """Want so many workers; the outcome is an event ``scale``.

    Raises ValueError unless it is a number from 1 to 500, and what all of these functions raise: ClusterError in any
    process but the steward, WorkerGone when the arbiter has exited, QueueFull when it takes nothing more now.
    """
    if not isinstance(workers, int) or not 1 <= workers <= MOST_WORKERS:
        raise ValueError(f"{workers!r} is not a number of workers from 1 to {MOST_WORKERS}")
    _ask("scale", workers)


def reload() -> None:
    """Read settings and code again, as SIGHUP does; the outcome is an event ``reload``. Raises as `scale` does."""
    _ask("reload")


def restart(slot: int) -> None:
    """Replace the worker of a slot, once another one is ready. Raises WorkerGone without one, else as `scale` does."""
    _ask("restart", _known(slot))


def drain(slot: int) -> None:
    """Have the worker of a slot finish and exit, once another one takes its connections. Raises as `restart` does."""
    _ask("drain", _known(slot))


def set_scheduling(
    scheduling: str | None = None, *, weights: str | Sequence[int] | None = None, sticky: str | None = None
) -> None:
    """Have all workers follow another scheduling policy from now on, without replacing them.

    What is given is as in the settings of these names: ``weights`` or ``sticky`` alone choose their policy. It holds
    for workers that come later, too, until a reload takes the settings' own again. Raises ValueError, with the text
    that there is at start, for values that are not valid, else as `scale` does.
    """
    given = {"scheduling": scheduling, "weights": weights, "sticky": sticky}
    values = {name: value for name, value in given.items() if value is not None}
    page = _steward("set_scheduling").board.server
    present = load_scheduling(page)
    before = Settings(
        workers=page.cells[Cell.WANTED], weights=present.weights, sticky=Sticky(present.form, present.name)
    )
    try:
        wanted = with_scheduling(before, values, "cluster.set_scheduling")
    except UsageError as error:
        raise ValueError(str(error)) from error
    _ask("set_scheduling", settings={name: SETTINGS[name].about.type.show(getattr(wanted, name)) for name in values})


def _known(slot: int) -> int:
    if not isinstance(slot, int) or slot < 1:
        raise ValueError(f"{slot!r} is not a slot; they are numbered from 1")
    member = standing().member
    rows = member.board.children(Cell.SLOT, Cell.ROLE) if member is not None else []
    if member is not None and (slot, ChildRole.WORKER) not in [(found, role) for _, found, role in rows]:
        raise WorkerGone(f"there is no worker in slot {slot}")
    return slot


def _steward(operation: str) -> Membership:
    member = standing().member
    if member is None or member.role != "steward":
        raise ClusterError(
            f"cluster.{operation} may only be called by handlers of the configuration file; "
            "an application may send them a message"
        )
    return member


def _ask(operation: str, number: int = 0, settings: Mapping[str, str] = MappingProxyType({})) -> None:
    member = _steward(operation)
    try:
        if not member.channel.send(OperationWanted(operation, number, dict(settings))):
            raise QueueFull("the arbiter takes nothing more now")
    except ChannelClosed as error:
        raise WorkerGone("the arbiter has exited") from error
