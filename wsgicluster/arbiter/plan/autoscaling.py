"""How many workers there are to be within a range, by how busy they are: more at once, fewer only after a long time.

Pure: readings, numbers and times in, a step out. Steady load leads to no step back and forth: workers are added above a
load that they would not be removed at, since before one is removed the load of the whole time has to fit the others.
"""

import collections
import math

from wsgicluster.counting import count_of
from wsgicluster.dataclass import dataclass

LOOK_S = 1.0
"""How often the arbiter asks."""

BUSY, SATURATED = 0.8, 0.95
"""The workers are busy from this share of their time on; from the second one on, how much more there is to do cannot be
seen."""

HALF_BUSY = 0.5
"""Below this share more workers would not help clients that wait: what they wait for is something else."""

AIM = 0.6
"""So many workers are added that this would be their share, as far as the load is known."""

IDLE = 0.4
"""A worker is removed when the highest load of the whole time is below this share of the others' time."""

LONG_WAIT_S = 0.1
"""Requests that a worker has found complete wait for too long from this average on."""

LOOKS = 3
"""So many looks in a row have to find the workers overloaded."""


@dataclass(frozen=True, slots=True)
class WorkerSample:
    """One worker at one moment; times in seconds of the monotonic clock.

    ``requests`` are over, have taken ``busy_s`` and had waited for ``queue_s``; ``running`` are not, of which the
    oldest began at ``oldest_at`` (0.0: none). ``processor_s`` is the processor time that it has taken.
    """

    at: float
    requests: int = 0
    busy_s: float = 0.0
    queue_s: float = 0.0
    processor_s: float = 0.0
    running: int = 0
    oldest_at: float = 0.0


def busy_share(before: WorkerSample, now: WorkerSample, threads: int) -> float:
    """How much of what a worker can do it has done between two readings, from 0.0 to 1.0.

    ``threads`` is how many requests it runs at a time, 0 where there is no limit: then only its processor time counts,
    as it does where more of its time goes into that than into requests.
    """
    passed_s = now.at - before.at
    if passed_s <= 0:
        return 0.0
    at_a_time = _at_a_time(before, now, threads) / threads if threads else 0.0
    return min(1.0, max(0.0, at_a_time, (now.processor_s - before.processor_s) / passed_s))


def _at_a_time(before: WorkerSample, now: WorkerSample, threads: int) -> float:
    """How many requests have run on the average."""
    passed_s, took_s, over = now.at - before.at, now.busy_s - before.busy_s, now.requests - before.requests
    if threads == 1:
        # Exact: what is over, with the part of the present request that lies in this time.
        return (took_s + _age_s(now) - _age_s(before)) / passed_s
    if over and took_s / over <= passed_s:
        return took_s / passed_s + (_age_s(now) > passed_s)
    # They take longer than the time between two looks: those that run now are the best guess.
    return float(now.running)


def _age_s(reading: WorkerSample) -> float:
    return reading.at - reading.oldest_at if reading.oldest_at else 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """The server at one moment: how many workers are wanted, and how many of them serve.

    ``load`` is the sum of their `busy_share`, ``waiting`` how many connections wait to be accepted, ``wait_s`` how long
    requests have waited for their run since the last look, on the average.
    """

    at: float
    wanted: int
    ready: int
    load: float
    waiting: int = 0
    wait_s: float = 0.0

    @property
    def share(self) -> float:
        """The share of their time for which the workers are busy."""
        return self.load / self.ready if self.ready else 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The range, and for how long workers have to be idle before one is removed."""

    least: int
    most: int
    idle_s: float


class Reason:
    """Why a step is made, in a word."""

    BUSY = "busy"
    QUEUE = "queue"
    WAIT = "wait"
    IDLE = "idle"


REASONS = (Reason.BUSY, Reason.QUEUE, Reason.WAIT, Reason.IDLE)


@dataclass(frozen=True, slots=True)
class ScalingStep:
    """Another number of workers; ``reason`` is one of `REASONS`, ``numbers`` what it is made of."""

    workers: int
    reason: str
    numbers: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.numbers}"


class Autoscaling:
    """The policy for one server; times in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._wanted = 0
        self._since = math.inf
        """When the present windows began: with the start, or with a number that another one has asked for."""
        self._overloaded = 0
        """How many looks in a row have found the workers overloaded."""
        self._peaks: collections.deque[tuple[float, float]] = collections.deque()
        """Times and loads, each load higher than all later ones: the first is the highest."""

    def pause(self) -> None:
        """Nothing can be decided now: begin anew with the next look."""
        self._wanted = 0

    def took(self, step: ScalingStep) -> None:
        """The step was made."""
        self._wanted, self._overloaded = step.workers, 0

    def decide(self, look: Look, limits: Limits) -> ScalingStep | None:
        """The step that is due now, if any; `took` says that it was made."""
        if look.wanted != self._wanted:
            self._wanted, self._since, self._overloaded = look.wanted, look.at, 0
            self._peaks.clear()
        if look.ready < look.wanted:
            self._overloaded = 0
            return None
        reason = _overload(look)
        self._overloaded = self._overloaded + 1 if reason else 0
        self._note(look.at, math.inf if reason else look.load, limits.idle_s)
        if reason:
            return self._more(look, limits, reason) if self._overloaded >= LOOKS else None
        return self._fewer(look, limits)

    def _note(self, at: float, load: float, idle_s: float) -> None:
        peaks = self._peaks
        while peaks and peaks[-1][1] <= load:
            peaks.pop()
        peaks.append((at, load))
        while peaks[0][0] < at - idle_s:
            peaks.popleft()

    def _more(self, look: Look, limits: Limits, reason: str) -> ScalingStep | None:
        if look.wanted >= limits.most:
            return None
        known = math.ceil(look.load / AIM)
        wanted = 2 * look.wanted if look.share >= SATURATED else max(look.wanted + 1, known)
        # One that was scaled below the range comes back to it with the first step.
        wanted = min(max(wanted, limits.least), 2 * look.wanted, limits.most)
        return ScalingStep(wanted, reason, _numbers(look))

    def _fewer(self, look: Look, limits: Limits) -> ScalingStep | None:
        left, peak = look.wanted - 1, self._peaks[0][1]
        if left < limits.least or look.at - self._since < limits.idle_s or peak >= IDLE * left:
            return None
        share = peak / look.wanted * 100
        numbers = f"at most {share:.0f} % of {look.wanted} workers' time in {limits.idle_s:g} s"
        return ScalingStep(left, Reason.IDLE, numbers)


def _overload(look: Look) -> str:
    """Why the workers are too few now; empty if they are not."""
    if look.share >= BUSY:
        return Reason.BUSY
    if look.share < HALF_BUSY:
        return ""
    if look.waiting >= look.ready:
        return Reason.QUEUE
    return Reason.WAIT if look.wait_s >= LONG_WAIT_S else ""


def _numbers(look: Look) -> str:
    workers = "1 worker's" if look.ready == 1 else f"{look.ready} workers'"
    parts = [f"{look.share * 100:.0f} % of {workers} time"]
    if look.waiting:
        parts.append(f"{count_of(look.waiting, 'connection')} waiting")
    if look.wait_s >= 0.001:
        parts.append(f"requests waited {look.wait_s * 1e3:.0f} ms")
    return ", ".join(parts)


def room_for(available_bytes: int, largest_bytes: int) -> int:
    """How many more workers as large as the largest one fit the memory that is available."""
    return available_bytes // largest_bytes if largest_bytes > 0 else available_bytes
