"""What the plan orders: to start a child, or to stop one. Values only."""

import enum
from typing import TypeAlias

from wsgicluster.arbiter.plan.child import Ask, Role
from wsgicluster.dataclass import dataclass

MOLD_SLOT = 0


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a child; with ``smoke_test`` it tries its application before it serves.

    ``is_judged`` says that it is on probation then, and is compared with others.
    """

    slot: int
    generation: int
    role: Role = Role.WORKER
    smoke_test: bool = False
    is_judged: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Request a child's stop, or end it; ``cut`` says that its time to drain is over."""

    key: int
    ask: Ask
    cut: bool = False


Order: TypeAlias = Spawn | Stop


class Stopping(enum.IntEnum):
    """Whether the whole server is to end, and how fast."""

    NO = 0
    GRACEFUL = 1
    QUICK = 2
    FORCED = 3
