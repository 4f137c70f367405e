"""Deadlines of many connections, cheap to move and cheap to forget.

Connections stand in buckets of half a second. A later deadline only changes a
number: the connection is put into its new bucket when its old one comes up.
Most connections therefore cost nothing between accept and close, and none is
kept alive by a deadline it has outlived, as it would be in a heap.
"""

import heapq
import math
from typing import Protocol

BUCKETS_A_SECOND = 2


class Watched(Protocol):
    """What has a deadline: seconds of the monotonic clock, and the bucket it stands in (-1: none)."""

    deadline: float
    bucket: int


class Deadlines:
    """Who is due when."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[Watched]] = {}
        self._order: list[int] = []

    def set(self, item: Watched, deadline: float) -> None:
        """Give an item a deadline, or another one; ``math.inf`` is none at all."""
        item.deadline = deadline
        bucket = item.bucket
        if bucket < 0 or deadline * BUCKETS_A_SECOND < bucket:
            self.drop(item)
            self._put(item)

    def drop(self, item: Watched) -> None:
        """Forget an item."""
        if item.bucket >= 0:
            self._buckets[item.bucket].discard(item)
            item.bucket = -1

    def due(self, now: float) -> list[Watched]:
        """The items whose deadline has passed; each is given once and then forgotten."""
        found: list[Watched] = []
        reached = now * BUCKETS_A_SECOND
        while self._order and self._order[0] <= reached:
            for item in self._buckets.pop(heapq.heappop(self._order)):
                item.bucket = -1
                if item.deadline <= now:
                    found.append(item)
                else:
                    self._put(item)
        return found

    def next(self) -> float | None:
        """When `due` may find something, in seconds of the monotonic clock; None for never."""
        while self._order:
            first = self._order[0]
            if self._buckets[first]:
                return first / BUCKETS_A_SECOND
            heapq.heappop(self._order)
            del self._buckets[first]
        return None

    def _put(self, item: Watched) -> None:
        if item.deadline == math.inf:
            return
        bucket = math.ceil(item.deadline * BUCKETS_A_SECOND)
        item.bucket = bucket
        items = self._buckets.get(bucket)
        if items is None:
            items = self._buckets[bucket] = set()
            heapq.heappush(self._order, bucket)
        items.add(item)
