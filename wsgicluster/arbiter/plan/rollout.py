"""Which code is trusted: generations, and how a new one takes over from an old one.

Pure: inputs and times in, values out. Which process runs what is not known here.
"""

import dataclasses
import enum
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsgicluster.arbiter.plan.canary import Bounds
from wsgicluster.arbiter.plan.memory_rule import MemoryRule
from wsgicluster.arbiter.plan.requester import OPERATOR
from wsgicluster.dataclass import dataclass
from wsgicluster.settings import Settings
from wsgicluster.settings.types.general import MOST_WORKERS
from wsgicluster.settings.types.rollout import ALL_WORKERS

if TYPE_CHECKING:
    from wsgicluster.settings.tls_context import ContextBase

PROBATION_S = 0.25
"""The first worker of a new generation must live this long once ready before the first old one is stopped, unless a
longer time is asked for; what it has served is compared with the old ones only then."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One reading of settings and code, the numbers of its workers' listeners, and what is known of their memory."""

    number: int
    settings: Settings
    listeners: tuple[int, ...] = ()
    registered: object | None = dataclasses.field(default=None, compare=False)
    """What the configuration file has registered for the steward, None for nothing; not looked into here."""
    by: str = OPERATOR
    """Who has requested it, as events name it."""
    tls: "ContextBase | None" = dataclasses.field(default=None, compare=False)
    """What its workers make their TLS contexts of, None without TLS; not looked into here."""
    canary_s: float = 0.0
    """How long its first worker is to be on probation, if that was asked for this reload alone; else 0.0."""
    memory: MemoryRule = dataclasses.field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", MemoryRule(self.settings.max_memory))

    @property
    def has_smoke_test(self) -> bool:
        """Does its first worker have something to try before it serves, and before any other one boots?"""
        return bool(self.settings.smoke)

    @property
    def probation_s(self) -> float:
        """How long its first worker serves beside the old ones before it is trusted."""
        return self.canary_s or self.settings.reload_probation

    @property
    def bounds(self) -> Bounds | None:
        """How much worse its first worker may do meanwhile; None where that is not asked for."""
        settings = self.settings
        if self.probation_s <= PROBATION_S:
            return None
        return Bounds(settings.reload_error_share, settings.reload_latency_factor, settings.reload_least_requests)


class Result(enum.Enum):
    """How the attempt to load a generation went."""

    UNDER_WAY = "under way"
    TOOK_OVER = "took over"
    SUPERSEDED = "superseded"
    ABORTED = "aborted"
    REFUSED = "refused"
    """Its settings were wrong, or an address could not be had: there was no generation to try."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How the last reload went.

    ``number`` is 0 where there was none to try, ``reason`` one line (empty if all is well), ``trace`` the
    application's traceback if it has failed with one, ``at`` in seconds since the epoch.
    """

    number: int
    result: Result
    at: float
    reason: str = ""
    trace: str = ""


class Stage(enum.Enum):
    """How far the newest generation is."""

    EMPTY = "empty"
    FIRST = "first"
    """All workers of the first generation boot at once."""
    TRIAL = "trial"
    """One worker of the new generation boots; the old one serves."""
    PROBATION = "probation"
    """That worker is ready and has to show that it stays alive."""
    SERVING = "serving"
    """The newest generation is the one that serves, or takes slot after slot."""
    HALTED = "halted"
    """Nothing has ever worked."""


class Step(enum.Enum):
    """What happens to the newest generation."""

    BEGIN = "begin"
    READY = "ready"
    SETTLE = "settle"
    BREAK = "break"


_S, _T = Stage, Step
STAGES: dict[tuple[Stage, Step], Stage] = {
    (_S.EMPTY, _T.BEGIN): _S.FIRST,
    (_S.FIRST, _T.BEGIN): _S.FIRST,
    (_S.FIRST, _T.READY): _S.SERVING,
    (_S.FIRST, _T.BREAK): _S.HALTED,
    (_S.TRIAL, _T.BEGIN): _S.TRIAL,
    (_S.TRIAL, _T.READY): _S.PROBATION,
    (_S.TRIAL, _T.BREAK): _S.SERVING,
    (_S.PROBATION, _T.BEGIN): _S.TRIAL,
    (_S.PROBATION, _T.SETTLE): _S.SERVING,
    (_S.PROBATION, _T.BREAK): _S.SERVING,
    (_S.SERVING, _T.BEGIN): _S.TRIAL,
}
"""Stage and step to the next stage; a pair that is not here is a fault of the arbiter."""


class Rollout:
    """The generation that serves, the one on trial, and the number of workers wanted."""

    def __init__(self) -> None:
        self.stage = Stage.EMPTY
        self.serving: Generation | None = None
        self.trial: Generation | None = None
        self.aborted: Generation | None = None
        """The one on trial that was aborted last."""
        self.last: Attempt | None = None
        self.scaled_by = OPERATOR
        """Who has changed the wanted number of workers last, as events name it."""
        self.retired = False
        """No worker is wanted until a reload has succeeded, the server is scaled up, or they are resumed."""
        self._adjusted = 0
        self._vacated: set[int] = set()
        """Slots below others that are wanted, whose workers were stopped as the oldest ones."""
        self._adjusted_at_begin = 0
        self._retired_at_begin = False
        self._settles_at = math.inf

    def _step(self, step: Step) -> None:
        try:
            self.stage = STAGES[self.stage, step]
        except KeyError:
            raise LookupError(f"rollout: {step.value} is impossible at stage {self.stage.value}") from None

    @property
    def base(self) -> Generation | None:
        """The generation that empty slots are filled with."""
        return self.serving or self.trial

    @property
    def on_trial(self) -> Generation | None:
        """The generation of which one worker is tried while another generation serves."""
        return self.trial if self.serving is not None else None

    @property
    def workers(self) -> int:
        """How many workers are wanted now."""
        return 0 if self.retired else self.workers_unless_retired

    @property
    def workers_unless_retired(self) -> int:
        """How many workers are wanted now, or will be once they are resumed."""
        if self.base is None:
            return 0
        return min(self.most, max(0, self.base.settings.workers + self._adjusted))

    @property
    def slots(self) -> Sequence[int]:
        """The slots of the workers that are wanted, in ascending order: the first ones that are not vacated."""
        if not self._vacated:
            return range(1, self.workers + 1)
        kept = (slot for slot in itertools.count(1) if slot not in self._vacated)
        return tuple(itertools.islice(kept, self.workers))

    @property
    def most(self) -> int:
        """How many workers may be wanted at the most."""
        if self.base is not None and self.base.settings.has_worker_range:
            return self.base.settings.workers_most
        return MOST_WORKERS

    @property
    def least_ready(self) -> int:
        """How many workers have to serve for the server to count as started, and during a rollout."""
        least = self.base.settings.min_ready if self.base else ALL_WORKERS
        return self.workers if least == ALL_WORKERS else min(least, self.workers)

    @property
    def batch(self) -> int:
        """How many workers may boot at a time in order to take over from others.

        0 says that each boots in the place of one that has left; there is a way even if scaling left none to spare.
        """
        surge = self.base.settings.reload_surge.of(self.workers) if self.base else 0
        return surge if surge or self.least_ready < self.workers else 1

    @property
    def in_doubt(self) -> bool:
        """May new workers of `base` load code that has never worked?

        Replacements import from disk. Until the latest reload has succeeded, what is on disk may be the code that has
        failed, so that they run the smoke test, too, whatever generation they belong to.
        """
        failed_or_untried = self.last is not None and self.last.result is not Result.TOOK_OVER
        return self.stage is Stage.FIRST or failed_or_untried

    @property
    def settles_at(self) -> float:
        """When probation ends; infinite when there is none."""
        return self._settles_at if self.stage is Stage.PROBATION else math.inf

    @property
    def in_use(self) -> list[Generation]:
        """The generations that may get workers: that which serves, and that on trial."""
        return [generation for generation in (self.serving, self.trial) if generation]

    @property
    def listeners(self) -> set[int]:
        """The numbers of the listeners that these generations need."""
        return {number for generation in self.in_use for number in generation.listeners}

    def wanted(self, number: int) -> bool:
        """May this generation get workers?"""
        return number in {generation.number for generation in self.in_use}

    def scale(self, more: int, by: str = OPERATOR) -> int:
        """So many workers more, never below one nor above the most; returns how many are wanted then."""
        self.scaled_by = by
        if self.base is not None:
            before = self.workers
            wanted = min(self.most, max(min(1, before), before + more))
            if wanted:
                self._adjusted, self.retired = wanted - self.base.settings.workers, False
            self._vacated = set(sorted(self._vacated)[max(0, wanted - before) :])
        return self.workers

    def inherit(self, workers: int) -> None:
        """Of the first generation: want as many workers as the server before this one, as far as its range allows.

        Without a range the number of the settings counts: what signals have made of it was asked of that server.
        """
        if self.base is not None and self.base.settings.has_worker_range:
            least = self.base.settings.workers
            self._adjusted = min(self.most, max(least, workers)) - least

    def vacate(self, slot: int, by: str = OPERATOR) -> int:
        """One worker less, that of this slot, which stays free until more are wanted; returns how many are then."""
        before = self.workers
        if self.scale(-1, by) < before:
            self._vacated.add(slot)
            self._vacated = {each for each in self._vacated if each < self.slots[-1]}
        return self.workers

    def use_first_slots(self) -> None:
        """Want workers in the first slots again: something counts on that."""
        self._vacated.clear()

    def retire_all(self) -> None:
        """Want no worker, though a reload may be under way."""
        self.scaled_by = OPERATOR
        self.retired, self._retired_at_begin = True, False

    def resume(self) -> int:
        """Want the workers again that have retired; returns how many that are."""
        self.retired = False
        return self.workers

    def begin(self, generation: Generation) -> Generation | None:
        """Try this generation; returns the one on trial until now, which it supersedes."""
        self._step(Step.BEGIN)
        superseded, self.trial = self.trial, generation
        self._adjusted_at_begin = self._adjusted
        self._retired_at_begin = self.retired
        return superseded

    def first_ready(self, now: float) -> bool:
        """The first worker of the generation on trial is ready; True when the generation serves from now on."""
        self._step(Step.READY)
        self._settles_at = now + (self.trial.probation_s if self.trial is not None else 0.0)
        if self.stage is Stage.SERVING:
            self._promote()
        return self.stage is Stage.SERVING

    def settle(self, now: float) -> bool:
        """Probation may be over; True when it just was."""
        if now < self.settles_at:
            return False
        self._step(Step.SETTLE)
        self._promote()
        return True

    def _promote(self) -> None:
        before, self.serving, self.trial = self.serving, self.trial, None
        if self._retired_at_begin:
            self.retired = False
        self._adjusted = self._adjustment(before.settings if before is not None else None)

    def _adjustment(self, before: Settings | None) -> int:
        """How many workers more are wanted than the settings say that are in force now, instead of those before."""
        new = self.serving.settings if self.serving is not None else None
        if before is not None and new is not None and new.has_worker_range:
            # The number of now is what the load has asked for, and still does.
            wanted = before.workers + self._adjusted
            return min(new.workers_most, max(new.workers, wanted)) - new.workers
        if before is not None and before.has_worker_range:
            return 0
        # What TTIN and TTOU changed before the reload belonged to the old settings.
        return self._adjusted - self._adjusted_at_begin

    def abort(self) -> None:
        """The generation on trial does not work: all stays as it was."""
        self._step(Step.BREAK)
        self.aborted, self.trial = self.trial, None
