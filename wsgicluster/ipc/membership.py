"""A process's place in the cluster: set once when a child of the server boots, read by `wsgicluster.cluster`.

It is a few values and functions, so that an application that never uses the cluster pays for nothing, and so that what
boots a child and what applications import need not know each other.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.scoreboard import Cell, ChildRole

if TYPE_CHECKING:
    from wsgicluster.ipc.mailbox import Mailboxes
    from wsgicluster.ipc.messages import Channel
    from wsgicluster.ipc.scoreboard import Page, Scoreboard
    from wsgicluster.ipc.shared_files import SharedFiles


class Activity(Protocol):
    """Something that runs the application's code in a thread of its own, in a process that serves no connection.

    ``busy_since`` is when it began what it runs now, on the monotonic clock, 0.0 while it runs nothing.
    """

    busy_since: float

    def stop(self) -> None:
        """Begin nothing more."""


Role: TypeAlias = Literal["worker", "jobs", "steward"]


class ClusterSettings(Protocol):
    """The settings of the server that members of its cluster need, under the settings' own names."""

    @property
    def bus(self) -> str | None: ...
    @property
    def store(self) -> str | None: ...
    @property
    def store_size(self) -> int: ...
    @property
    def node_name(self) -> str: ...
    @property
    def timeout(self) -> float: ...
    @property
    def jobs_worker(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Membership:
    """What a child of the server needs to take part in its cluster.

    ``slot`` is 0 in the steward and the jobs worker. ``seat`` is the number of its page, unique among the living.
    ``bus`` and ``store`` are the URLs of the settings of that name, None for what is built in; ``node_name`` names
    this machine on a bus. ``timeout_s`` limits handlers and jobs, 0.0 for no limit; ``store_size`` is how many bytes
    the built-in store may have. ``channel`` leads to the arbiter. ``jobs_elsewhere`` says that another process is there
    for periodic jobs.
    """

    role: Role
    slot: int
    seat: int
    generation: int
    pid: int
    page: "Page"
    board: "Scoreboard"
    mailboxes: "Mailboxes"
    channel: "Channel"
    shared_files: "SharedFiles"
    bus: str | None = None
    store: str | None = None
    node_name: str = ""
    timeout_s: float = 0.0
    store_size: int = 32 << 20
    jobs_elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class SharedState:
    """What a process that loads the application for members to come needs to use their counters, store and locks."""

    files: "SharedFiles"
    store: str | None
    store_size: int


_ROLES = {"worker": ChildRole.WORKER, "jobs": ChildRole.JOBS, "steward": ChildRole.STEWARD}
_current: Membership | None = None
_expected = False
_lent: tuple[int, SharedState] | None = None
_on_join: list[Callable[[], object]] = []


def join(membership: Membership) -> None:
    """Make this process a member; it stays one to its end. Its page says which process it is, and what for."""
    global _current, _expected
    _current, _expected = membership, False
    cells = membership.page.cells
    cells[Cell.PID], cells[Cell.ROLE] = membership.pid, _ROLES[membership.role]
    for call in _on_join:
        call()


def leave() -> None:
    """This process, which was forked from a member, is none."""
    global _current
    _current = None
    _activities.clear()


def on_join(call: Callable[[], object]) -> None:
    """Have this called as soon as this process, or one that is forked from it to be a member, has joined."""
    _on_join.append(call)


def expect() -> None:
    """This process loads an application on behalf of members to come: what a member starts is not started here."""
    global _expected
    _expected = _current is None


def is_expected() -> bool:
    """Whether `expect` was called in this process, and it is not a member itself."""
    return _expected


def lend(state: SharedState) -> None:
    """Let this process use the shared state of the members that it forks."""
    global _lent
    _lent = os.getpid(), state


def lent() -> SharedState | None:
    """What was lent to this process."""
    return _lent[1] if _lent is not None and is_lent() else None


def is_lent() -> bool:
    """Whether this process is one that uses the state of members without being one."""
    return _lent is not None and _lent[0] == os.getpid() and _current is None


def current() -> Membership | None:
    """This process's place; None outside the children of the server, and in children of an application."""
    if _current is not None and _current.pid == os.getpid():
        return _current
    return None


def inherited() -> bool:
    """Whether the application has forked this process, from a member or one that loads it for members."""
    if _current is not None:
        return _current.pid != os.getpid()
    return _lent is not None and _lent[0] != os.getpid()


_activities: list[Activity] = []


def add_activity(activity: Activity) -> None:
    """Have this process's beat depend on it, and the end of the process wait for it, where it serves no connection."""
    _activities.append(activity)


def busy_since() -> float:
    """When the oldest of what runs now was begun, 0.0 if nothing runs."""
    return min((since for each in _activities if (since := each.busy_since)), default=0.0)


def stop_activities() -> None:
    """Have nothing begun any more."""
    for each in _activities:
        each.stop()
