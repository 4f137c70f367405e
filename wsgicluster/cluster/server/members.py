"""Who is in the cluster: this process, and the workers that run, read from the scoreboard they share."""

from typing import Literal, TypeAlias

from wsgicluster.cluster.errors import QueueFull, WorkerGone
from wsgicluster.cluster.server.standing import standing
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc import membership
from wsgicluster.ipc.membership import Membership
from wsgicluster.ipc.messages import ChannelClosed, RecycleWanted
from wsgicluster.ipc.scoreboard import Cell, ChildRole, WorkerState

MemberState: TypeAlias = Literal["booting", "ready", "draining", "held"]
"""``held``: it serves what it has, and leaves what is new to others, since it is far beyond a limit."""

_STATES: dict[int, MemberState] = {
    WorkerState.BOOTING: "booting",
    WorkerState.READY: "ready",
    WorkerState.DRAINING: "draining",
    WorkerState.HELD: "held",
}


@dataclass(frozen=True, slots=True)
class MemberSnapshot:
    """A worker at one moment. Two of them may have the same slot, while one replaces the other, but never a seat."""

    slot: int
    seat: int
    generation: int
    pid: int
    state: MemberState
    requests: int

    @property
    def is_accepting(self) -> bool:
        """Whether it takes new connections."""
        return self.state == "ready"


class CurrentWorker:
    """The worker that this process is."""

    __slots__ = ("_member",)

    def __init__(self, member: Membership) -> None:
        self._member = member

    def __repr__(self) -> str:
        return f"<worker {self.slot} (pid {self.pid}, generation {self.generation}): {self.state}>"

    @property
    def slot(self) -> int:
        """Its stable small number, from 1; that of the worker which replaces it, too."""
        return self._member.slot

    @property
    def seat(self) -> int:
        """A number that no other process of the server has as long as this one runs."""
        return self._member.seat

    @property
    def generation(self) -> int:
        """How many times the server had been loaded, reloads included, when it was started."""
        return self._member.generation

    @property
    def pid(self) -> int:
        """Its process."""
        return self._member.pid

    @property
    def state(self) -> MemberState:
        """What it does now."""
        return _STATES[self._member.page.cells[Cell.STATE]]

    def recycle(self, reason: str = "") -> None:
        """Have it replaced: it ends after the requests in progress, as soon as its replacement is ready.

        Returns at once. Raises WorkerGone when the arbiter has exited, and QueueFull when it takes nothing more now.
        """
        detail = f"its application asks for it: {reason}" if reason else "its application asks for it"
        try:
            if not self._member.channel.send(RecycleWanted("application", detail)):
                raise QueueFull("nothing more can be sent to the arbiter now")
        except ChannelClosed as error:
            raise WorkerGone("arbiter") from error


def worker() -> CurrentWorker | None:
    """The worker that this process is; None in any other process."""
    found = membership.current()
    return CurrentWorker(found) if found is not None and found.role == "worker" else None


def workers() -> list[MemberSnapshot]:
    """All workers that run, those that accept first, then by slot; empty in a process that is alone.

    Raises NotInCluster in a process that the application has forked.
    """
    member = standing().member
    if member is None:
        return []
    rows = member.board.children(Cell.SLOT, Cell.GENERATION, Cell.PID, Cell.STATE, Cell.REQUESTS, Cell.ROLE)
    found = [
        MemberSnapshot(slot, seat, generation, pid, _STATES[state], requests)
        for seat, slot, generation, pid, state, requests, child_role in rows
        # One that has just been made has no role yet, and none that has ended has a state.
        if child_role == ChildRole.WORKER and state in _STATES
    ]
    return sorted(found, key=lambda each: (not each.is_accepting, each.slot, each.seat))
