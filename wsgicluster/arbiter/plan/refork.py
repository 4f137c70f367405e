"""When the workers of a generation are forked anew, from one of them that has served: a table, and who is chosen.

Pure: what is known of the workers goes in. One worker that has served enough and is idle is asked whether a mold can be
forked from it. Then it is replaced, drains, and forks the mold; once that is ready the others are replaced from it.
"""

import enum
from collections.abc import Iterable

from wsgicluster.dataclass import dataclass

LOOK_S = 0.5
"""How often workers are looked at, where one is to be promoted."""

ANSWER_S = 10.0
"""How long a worker may take to say whether a mold can be forked from it: it may have begun a request meanwhile."""

MOST_ATTEMPTS = 3
"""So many molds or workers of a generation may be lost; then its workers stay as they are."""


class ReforkStage(enum.Enum):
    """How far a generation is."""

    WATCHING = "watching"
    """No worker has served enough, or none of those is idle."""
    ASKED = "asked"
    REPLACING = "replacing"
    """The worker is replaced, and forks the mold when it has drained."""
    FORKED = "forked"
    """There is a mold that was forked from a worker."""
    ENDED = "ended"
    """No worker is promoted any more."""


class ReforkStep(enum.Enum):
    """What happens."""

    ASK = "ask"
    ACCEPT = "accept"
    REFUSE = "refuse"
    READY = "ready"
    LOSE = "lose"
    """The worker, or the mold, has exited, or has not answered."""
    GIVE_UP = "give up"


_S, _T = ReforkStage, ReforkStep
STAGES: dict[tuple[ReforkStage, ReforkStep], ReforkStage] = {
    (_S.WATCHING, _T.ASK): _S.ASKED,
    (_S.ASKED, _T.ACCEPT): _S.REPLACING,
    (_S.ASKED, _T.REFUSE): _S.ENDED,
    (_S.ASKED, _T.LOSE): _S.WATCHING,
    (_S.ASKED, _T.GIVE_UP): _S.ENDED,
    (_S.REPLACING, _T.READY): _S.FORKED,
    (_S.REPLACING, _T.LOSE): _S.WATCHING,
    (_S.REPLACING, _T.GIVE_UP): _S.ENDED,
    (_S.FORKED, _T.LOSE): _S.WATCHING,
    (_S.FORKED, _T.GIVE_UP): _S.ENDED,
}
"""Stage and step to the next stage; a pair that is not here is a fault of the arbiter."""


class Refork:
    """That of one generation; keys are those of children."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.stage = ReforkStage.WATCHING
        self.source = 0
        """The worker that was asked, or has become the mold; 0 before."""
        self.mold = 0
        """The mold that it was ordered to fork; 0 before."""
        self.asked_at = 0.0
        self._attempts = 0

    def take(self, step: ReforkStep) -> None:
        """Move on; raises LookupError for a pair that the table does not have."""
        try:
            self.stage = STAGES[self.stage, step]
        except KeyError:
            raise LookupError(f"refork: {step.value} is impossible when {self.stage.value}") from None

    def ask(self, source: int, now: float) -> None:
        """This worker is asked."""
        self.take(ReforkStep.ASK)
        self.source, self.mold, self.asked_at = source, 0, now

    def lose(self) -> bool:
        """What was asked or made is lost; True when it is tried again."""
        self._attempts += 1
        again = self._attempts < MOST_ATTEMPTS
        self.take(ReforkStep.LOSE if again else ReforkStep.GIVE_UP)
        return again


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What is known of one worker that serves: its key, how many requests it has served, and whether it runs none."""

    key: int
    requests: int
    idle: bool


def choose(candidates: Iterable[WorkerLoad], least: int) -> int:
    """The key of the worker to promote, the one that has served most; 0 where none has served so many and is idle."""
    found = [each for each in candidates if each.requests >= least and each.idle]
    return max(found, key=lambda each: each.requests).key if found else 0
