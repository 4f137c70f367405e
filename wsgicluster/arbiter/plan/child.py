"""One child as the arbiter sees it: its life as a table, and how it is to stop.

A child is a record, moved by inputs. How signals reach its process is not known here, so that every life can be tested
without one.
"""

import enum

from wsgicluster.dataclass import dataclass


class Role(enum.Enum):
    """What a child is for."""

    WORKER = "worker"
    MOLD = "mold"
    JOBS = "jobs"
    """Boots the application, serves no connection: runs its jobs and message handlers."""
    STEWARD = "steward"
    """Runs the handlers of the configuration file."""
    ADMIN = "admin"
    """Responds to operators and monitoring over HTTP."""


class State(enum.Enum):
    """Where a child is in its life."""

    FORKED = "forked"
    """Ordered; with a mold its process is not known yet."""
    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"
    """Its stop was requested; it finishes what it runs."""
    KILLED = "killed"
    """Being ended by force."""
    EXITED = "exited"


class Input(enum.Enum):
    """What happens to a child."""

    STARTED = "started"
    READY = "ready"
    BEAT_MISSED = "beat missed"
    STOP_WANTED = "stop wanted"
    DEADLINE_PASSED = "deadline passed"
    EXITED = "exited"


class Ask(enum.IntEnum):
    """How urgently the stop of a child has been requested."""

    NOTHING = 0
    DRAIN = 1
    QUICK = 2
    KILL = 3


class End(enum.Enum):
    """Why a child ended."""

    ASKED = "stop requested"
    RECYCLED_MEMORY = "recycled for its memory"
    RECYCLED_REQUESTS = "recycled after its number of requests"
    RECYCLED_HANG = "recycled for its hanging requests"
    RECYCLED_APPLICATION = "recycled at the application's request"
    RECYCLED_REFORK = "recycled after a refork"
    PROMOTED = "promoted to be the mold"
    RECYCLED_CHANNEL = "recycled because it had closed its channel"
    CUT = "cut off at the end of graceful_timeout"
    TIMED_OUT = "timed out"
    BOOT_FAILED = "boot failed"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out of memory"
    KILLED_FROM_OUTSIDE = "killed from outside"
    LEFT = "exited without a stop request"


UNEXPECTED_ENDS = frozenset({End.CRASHED, End.OUT_OF_MEMORY, End.KILLED_FROM_OUTSIDE, End.LEFT})
"""Ends that the arbiter has not caused: each is logged with all that is known about it."""

_S, _I = State, Input
LIFE: dict[tuple[State, Input], State] = {
    (_S.FORKED, _I.STARTED): _S.BOOTING,
    (_S.FORKED, _I.STOP_WANTED): _S.DRAINING,
    (_S.FORKED, _I.EXITED): _S.EXITED,
    (_S.BOOTING, _I.READY): _S.READY,
    (_S.BOOTING, _I.BEAT_MISSED): _S.KILLED,
    (_S.BOOTING, _I.STOP_WANTED): _S.DRAINING,
    (_S.BOOTING, _I.EXITED): _S.EXITED,
    (_S.READY, _I.BEAT_MISSED): _S.KILLED,
    (_S.READY, _I.STOP_WANTED): _S.DRAINING,
    (_S.READY, _I.EXITED): _S.EXITED,
    # A stop requested before its process was known, before it was ready, or once more and quicker.
    (_S.DRAINING, _I.STARTED): _S.DRAINING,
    (_S.DRAINING, _I.READY): _S.DRAINING,
    (_S.DRAINING, _I.STOP_WANTED): _S.DRAINING,
    (_S.DRAINING, _I.BEAT_MISSED): _S.KILLED,
    (_S.DRAINING, _I.DEADLINE_PASSED): _S.KILLED,
    (_S.DRAINING, _I.EXITED): _S.EXITED,
    # Messages of one that is being killed may still arrive; a kill may have to be repeated.
    (_S.KILLED, _I.STARTED): _S.KILLED,
    (_S.KILLED, _I.READY): _S.KILLED,
    (_S.KILLED, _I.STOP_WANTED): _S.KILLED,
    (_S.KILLED, _I.DEADLINE_PASSED): _S.KILLED,
    (_S.KILLED, _I.EXITED): _S.EXITED,
}
"""State and input to the next state; a pair that is not here is a fault of the arbiter."""


@dataclass(slots=True)
class Child:
    """One child; times in seconds of the monotonic clock. ``key`` is never used twice."""

    key: int
    slot: int
    generation: int
    forked_at: float
    role: Role = Role.WORKER
    state: State = State.FORKED
    pid: int = 0
    mold: int = 0
    """The key of the child that is to fork it, a mold, or of a mold a worker; 0 for one that the arbiter forks."""
    takes_requests: bool = False
    """It listens, according to its page: known before its message is read that it is ready."""
    ready_at: float | None = None
    boot_failed: bool = False
    """It has reported that it cannot boot; it may or may not have exited."""
    resident_bytes: int = 0
    """Its resident memory when it was ready, 0 if that is not known."""
    recycle: End | None = None
    """Why it wants to be replaced, if it does."""
    recycle_at: float = 0.0
    """Not before this moment."""
    asked: Ask = Ask.NOTHING
    by: str = ""
    """Who has requested its stop or replacement, as events name it; empty where that is not known yet."""
    kills: int = 0
    """How often it has been killed; more than once if its process does not end."""
    deadline: float | None = None
    """When the next step of its end is due."""
    end: End | None = None
    """Why it is about to end, where that is known before it does."""

    def take(self, given: Input) -> None:
        """Move on; raises LookupError for a pair that the table does not have."""
        try:
            self.state = LIFE[self.state, given]
        except KeyError:
            raise LookupError(f"{self}: {given.value} is impossible when {self.state.value}") from None

    @property
    def alive(self) -> bool:
        """Is there, or will be, a process?"""
        return self.state is not State.EXITED

    @property
    def coming(self) -> bool:
        """Will it be ready, as far as is known?"""
        return self.state in (State.FORKED, State.BOOTING) and not self.boot_failed

    @property
    def ready(self) -> bool:
        """Does it serve, and is it meant to?"""
        return self.state is State.READY

    @property
    def unborn(self) -> bool:
        """Was it ordered from a mold, and has not reported its pid yet?"""
        return self.pid == 0 and self.mold != 0

    @property
    def promoted(self) -> bool:
        """Is it a mold that was forked from a worker?"""
        return self.role is Role.MOLD and self.mold != 0

    @property
    def may_hold_requests(self) -> bool:
        """Might a client lose a request if it exited at once?"""
        return self.ready_at is not None or self.takes_requests

    @property
    def rank(self) -> tuple[int, int]:
        """Of two ready children of a slot the one with the higher rank stays."""
        return self.generation, self.key

    def __str__(self) -> str:
        return f"{title_of(self.role, self.slot)} (pid {self.pid}, generation {self.generation})"


_TITLES = {Role.MOLD: "Mold", Role.JOBS: "Jobs worker", Role.STEWARD: "Steward", Role.ADMIN: "Admin worker"}


def title_of(role: Role, slot: int) -> str:
    """What a process is called in the log."""
    return _TITLES.get(role) or f"Worker {slot}"
