"""Why children ended: evidence in, one record for each death out.

Decides from what is known already: what the child was asked, how its process ended, what its page,
its stacks and the kernel say. How a record reads is the business of `wsgicluster.arbiter.postmortem.report`.
"""

import collections
import signal

from wsgicluster.arbiter.plan.child import Child, End, Role, State, title_of
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.scoreboard import PageSnapshot
from wsgicluster.pattern import pattern

KEPT = 50
"""So many of the last records are kept."""

VICTIM_S = 30.0
"""The kernel counts a victim before it has ended, and freeing much memory takes time: so long it explains a death."""

_FORK = "wsgicluster/arbiter/children/fork.py"
_FATAL = "Fatal Python error: "
_THREAD = pattern(r"(?:Current thread|Thread) (0x[0-9a-f]+)")
_MODULES = "Extension modules: "


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: exit code, or signal number when it is not 0; ``peak_bytes`` of resident memory,
    ``processor_s`` of user and system time, of which ``system_s`` in the kernel.
    """

    code: int
    signal_number: int
    peak_bytes: int
    processor_s: float = 0.0
    system_s: float = 0.0
    core_dumped: bool = False

    def __str__(self) -> str:
        if not self.signal_number:
            return f"exit code {self.code}"
        return f"signal {signal_name(self.signal_number)}{' (core dumped)' if self.core_dumped else ''}"


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request that was in progress for ``seconds``; texts as the client sent them, cut but not escaped."""

    method: str
    path: str
    protocol: str
    client: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Hang:
    """What was seen of a child when it was past its deadline: the letter is its state in ``/proc``, if known."""

    timeout_s: float
    facts: PageSnapshot | None
    since: float
    state_letter: str = ""


@dataclass(frozen=True, slots=True)
class Death:
    """One end that the arbiter has not caused.

    ``at`` is in seconds since the epoch, for people; all durations are taken with the monotonic clock. ``requests`` is
    None where the page was invalid. ``detail`` is the Python exception or the reason that a boot failed,
    ``stacks`` its traceback or else where the process was, ``kernel`` what the kernel's own log says; each empty when
    there is none.
    """

    slot: int
    pid: int
    generation: int
    role: Role
    end: End
    exit: Exit
    at: float
    up_s: float
    was_ready: bool
    requests: int | None
    request: InFlight | None
    detail: str = ""
    stacks: str = ""
    kernel: str = ""
    timeout_s: float = 0.0
    state_letter: str = ""
    kernel_counts: bool = False
    """The kernel tells how many it has killed for want of memory: others are another process's doing."""

    @property
    def name(self) -> str:
        """The identity of the process, as in every line about it."""
        return f"{title_of(self.role, self.slot)} (pid {self.pid}, generation {self.generation})"


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def in_flight(facts: PageSnapshot | None, now: float) -> InFlight | None:
    """The request that is in progress, if there is one."""
    if facts is None or not facts.started:
        return None
    method, _, rest = facts.request_line.partition(" ")
    path, _, protocol = rest.partition(" ")
    return InFlight(method, path, protocol, facts.client, max(0.0, now - facts.started))


def in_service(end: End, facts: PageSnapshot | None) -> bool:
    """Is the boot of a child that has been ready not to blame for its end? It has had a request, which may be over."""
    return end is End.KILLED_FROM_OUTSIDE or (facts is not None and bool(facts.started or facts.requests))


def why(child: Child, ended: Exit, oom_killed: bool, is_stopping: bool = False) -> End:
    """Why a child ended, from what it was asked, how it ended, and whether the kernel counts one more victim.

    When the server stops, the signal may have been sent to all processes of a group or a service.
    """
    if child.end is not None:
        return child.end
    ours = ended.signal_number in (0, signal.SIGTERM, signal.SIGQUIT) and not ended.code
    if is_stopping and ours:
        return child.recycle or End.ASKED
    if child.asked:
        if ours or child.state is State.KILLED or child.ready_at is None:
            return child.recycle or End.ASKED
    if ended.signal_number == signal.SIGKILL:
        return End.OUT_OF_MEMORY if oom_killed else End.KILLED_FROM_OUTSIDE
    if ended.signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        return End.KILLED_FROM_OUTSIDE
    return End.CRASHED if ended.signal_number or ended.code else End.LEFT


def own_frames(stacks: str) -> str:
    """Stacks without the frames that a child inherited at the fork: they are the arbiter's."""
    kept, inherited = [], False
    for line in stacks.strip("\n").splitlines():
        if not line.startswith("  "):
            inherited = False
        inherited = inherited or _FORK in line
        if not inherited:
            kept.append(line)
    return "\n".join(kept)


def hang_stacks(stacks: str) -> str:
    """Where a process was when it hung, of all that ``faulthandler`` has written."""
    return own_frames(_each_thread_once(stacks.partition(_FATAL)[0]))


def _each_thread_once(stacks: str) -> str:
    """The stacks as they were written last, where a profile has had them written at the same moment.

    What a signal writes may be in the middle of what a fault writes, even of a line. Frames in front of the first
    thread are the rest of what was being written when the file was emptied.
    """
    threads: dict[str, list[str]] = {"": []}
    name, is_torn = "", False
    for line in stacks.splitlines():
        found = _THREAD.search(line)
        if found is not None:
            name, is_torn = found[1], found.start() > 0
            threads.pop(name, None)
            threads[name] = [line[found.start() :]]
        elif is_torn and line and not line.startswith("  "):
            is_torn = False  # the rest of the line that was interrupted
        elif name or not line.startswith("  "):
            threads[name].append(line)
    return "\n".join(line for lines in threads.values() for line in lines)


def crash_stacks(stacks: str) -> str:
    """Where a process was when a signal ended it, of all that ``faulthandler`` has written; else empty."""
    _, found, text = stacks.rpartition(_FATAL)
    # The loaded extension modules are many, and the same each time.
    kept = [line for line in text.splitlines() if not line.startswith(_MODULES)]
    return own_frames(_each_thread_once(found + "\n".join(kept))) if found else ""


class OomKillCounter:
    """Kills for want of memory that the kernel has counted and no death has been explained with yet."""

    def __init__(self, kills: int | None) -> None:
        self._kills = kills
        self._seen: collections.deque[float] = collections.deque(maxlen=KEPT)

    @property
    def told(self) -> bool:
        """Does the kernel count them?"""
        return self._kills is not None

    def counted(self, kills: int | None, now: float) -> None:
        """The kernel's count as it is now; None when it does not tell."""
        if kills is not None and self._kills is not None:
            self._seen.extend([now] * min(KEPT, max(0, kills - self._kills)))
        self._kills = kills if kills is not None else self._kills

    def claim(self, now: float) -> bool:
        """Whether the kernel has counted one more victim, lately; it then explains no other death."""
        while self._seen and now - self._seen[0] > VICTIM_S:
            self._seen.popleft()
        if not self._seen:
            return False
        self._seen.popleft()
        return True


class FailureDeduplicator:
    """How often each failure has been logged, so that the same traceback is shown once."""

    def __init__(self) -> None:
        self._logged: collections.Counter[tuple[str, str]] = collections.Counter()

    def another(self, summary: str, trace: str) -> int:
        """How often this failure has been logged before."""
        if len(self._logged) > KEPT:
            self._logged.clear()
        self._logged[summary, trace] += 1
        return self._logged[summary, trace] - 1

    def forget(self) -> None:
        """New code follows."""
        self._logged.clear()
