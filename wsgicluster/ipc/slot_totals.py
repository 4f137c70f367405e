"""What each slot has counted since the server was started, read from the scoreboard by whatever process has it mapped.

The arbiter and the admin worker read it while workers count, exit and are replaced. None of the numbers ever goes back
from one reading to the next, and none is counted twice: see `wsgicluster.ipc.scoreboard`, which says why. They are
read one after the other, so that a request that ends meanwhile may be in one of them and not yet in another.
"""

import enum
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from wsgicluster.ipc.reasons import BadRequest, CloseReason, HandOffResult, ShedReason
from wsgicluster.ipc.scoreboard import BUCKETS, COUNTERS, FIRST_COUNTER, STATUS_CLASSES, Cell, Scoreboard

RESPONSE_KEYS = ("none", *(f"{digit}xx" for digit in range(1, STATUS_CLASSES)))
"""The classes of statuses, in the order of the cells of `Cell.RESPONSES`."""


class SlotCounters:
    """The counters of one slot, or of several together."""

    def __init__(self) -> None:
        self._values = [0] * COUNTERS

    def add(self, values: Sequence[int]) -> None:
        """Those of one page, as `Scoreboard.counters` has them."""
        self._values = list(map(operator.add, self._values, values))

    def of(self, cell: int) -> int:
        """One of them."""
        return self._values[cell - FIRST_COUNTER]

    def several(self, cell: int, count: int) -> list[int]:
        """So many of them, from this one on."""
        return self._values[cell - FIRST_COUNTER : cell - FIRST_COUNTER + count]

    @property
    def requests(self) -> int:
        """How many requests are over."""
        return sum(self.several(Cell.RESPONSES, STATUS_CLASSES))

    def as_json(self) -> dict[str, Any]:
        """As the control protocol documents it; seconds are those of the monotonic clock, or of the processor."""
        return {
            "requests": self.requests,
            "responses": dict(zip(RESPONSE_KEYS, self.several(Cell.RESPONSES, STATUS_CLASSES), strict=True)),
            "failures": {
                "exception": self.of(Cell.FAILED),
                "bad_iterable": self.of(Cell.BAD_ITERABLES),
                "client_left": self.of(Cell.CLIENT_LEFT),
                "cut": self.of(Cell.CUT),
            },
            "shed": sum(self.several(Cell.SHED, len(ShedReason))),
            "sheds": self._by_word(Cell.SHED, ShedReason),
            "bad_requests": self._by_word(Cell.BAD_REQUESTS, BadRequest),
            "accepted": self.of(Cell.ACCEPTED),
            "closed": self._by_word(Cell.CLOSED, CloseReason),
            "hand_offs": {
                "given": self.of(Cell.CLOSED + CloseReason.HANDED_OVER),
                **self._by_word(Cell.HAND_OFFS, HandOffResult),
            },
            "bytes_in": self.of(Cell.BYTES_IN),
            "bytes_out": self.of(Cell.BYTES_OUT),
            "evicted": self.of(Cell.EVICTED),
            "probes": self.of(Cell.PROBES),
            "messages": {
                "received": self.of(Cell.MESSAGES_RECEIVED),
                "dropped": self.of(Cell.MESSAGES_DROPPED),
                "late_replies": self.of(Cell.LATE_REPLIES),
            },
            "forged_cookies": self.of(Cell.FORGED_COOKIES),
            "duration": self._times(Cell.DURATION_NS, Cell.HISTOGRAM),
            "application": self._times(Cell.APPLICATION_NS, Cell.APPLICATION_HISTOGRAM),
            "queue": self._times(Cell.QUEUE_NS, Cell.QUEUE_HISTOGRAM),
            "cpu_seconds": {
                "user": self.of(Cell.CPU_USER_NS) / 1e9,
                "system": self.of(Cell.CPU_SYSTEM_NS) / 1e9,
            },
        }

    def _by_word(self, cell: int, words: type[enum.IntEnum]) -> dict[str, int]:
        return {word.name.lower(): value for word, value in zip(words, self.several(cell, len(words)), strict=True)}

    def _times(self, total_ns: int, histogram: int) -> dict[str, Any]:
        return {"seconds": self.of(total_ns) / 1e9, "buckets": self.several(histogram, BUCKETS)}


def read_slots(board: Scoreboard) -> dict[int, SlotCounters]:
    """Of each slot that ever had a worker, in the order of their numbers; 0 is that of all other children."""
    found: dict[int, SlotCounters] = {}
    for slot, values in board.counters():
        found.setdefault(slot, SlotCounters()).add(values)
    return dict(sorted(found.items()))


def together(slots: Mapping[int, SlotCounters]) -> SlotCounters:
    """The counters of the whole server."""
    total = SlotCounters()
    for each in slots.values():
        total.add(each.several(FIRST_COUNTER, COUNTERS))
    return total
