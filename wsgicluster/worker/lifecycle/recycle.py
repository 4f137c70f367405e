"""When a worker has served enough or grown too large: a rule over counts, samples and times.

The worker only asks. It serves on until its replacement is ready.
"""

import random
import sys
from collections.abc import Callable

from wsgicluster.counting import count_of
from wsgicluster.ipc.messages import RecycleWanted

SAMPLES = 3
"""Samples in a row above the limit before a worker is called too large: one alone may be a large upload."""

SAMPLE_S = 0.02
IDLE_SAMPLE_S = 1.0
_RATE_S = 0.25
_LEAST_RATE_S = 0.05
"""What a rate is measured over; and the least, where a worker has not served for longer."""

EARLIEST = 0.1
"""A worker serves at least this part of ``max_requests`` before it asks, however fast requests come."""

FIRST_REQUESTS = 10
FIRST_S = 0.25
"""A worker that is too large after so many requests, or so long after its first one, has been so since its first ones:
many may pass before it is checked."""

ANY = sys.maxsize
CEILING = 1.1
"""Beyond this multiple of a limit a worker that waits for its replacement leaves new work to its siblings."""


class Recycling:
    """The limits of one worker, with their jitter already drawn.

    ``resident`` reads the resident memory in bytes. ``boot_s`` is how long this worker took to boot.
    """

    def __init__(self, max_requests: int, max_memory_bytes: int, boot_s: float, resident: Callable[[], int]) -> None:
        self.resident_bytes = 0
        self.max_requests = max_requests
        self._max_memory_bytes = max_memory_bytes
        self._boot_s = boot_s
        self._resident = resident
        self._asked = False
        self._over = 0
        self._first_at = 0.0
        """When the first request had been served."""
        self._over_admitted = False
        self._next_sample = 0.0
        self._rate = 0.0
        self._rate_from = (0.0, 0)

    def begin(self, boot_s: float, resident: Callable[[], int]) -> None:
        """Say how long the boot took, and what reads the memory: where that was not known when this was made."""
        self._boot_s = boot_s
        self._resident = resident

    def measure(self) -> int:
        """The resident memory now, in bytes."""
        self.resident_bytes = self._resident()
        return self.resident_bytes

    def yields_to(self, requests: int) -> int:
        """A worker far beyond a limit leaves new work to siblings that have served fewer than so many; 0: to none."""
        if not self._asked:
            return 0
        if self._max_memory_bytes and self.resident_bytes > self._max_memory_bytes * CEILING:
            return ANY
        # Of several that are beyond it none takes more than the others.
        return requests if self.max_requests and requests > self.max_requests * CEILING else 0

    def raise_memory_limit(self, limit_bytes: int) -> None:
        """A replacement would be as large: ask only beyond this, which is above what was asked for."""
        self._max_memory_bytes = limit_bytes
        self._asked = False
        self._over = 0

    @property
    def look_again_at(self) -> float | None:
        """When to call `check` although no work was done, so that a large worker is found out between two requests."""
        return self._next_sample if self._over and not self._asked else None

    def check(self, now: float, requests: int) -> RecycleWanted | None:
        """Called after work was done; says once why the worker should be replaced."""
        if requests and not self._first_at:
            self._first_at = now
        large = now >= self._next_sample and self._is_large(now, requests)
        if self._asked:
            return None
        if large:
            self._asked = True
            return RecycleWanted(
                "memory",
                f"{self.resident_bytes >> 20} MiB resident, max_memory is {self._max_memory_bytes >> 20} MiB",
                self._over_admitted,
            )
        if self.max_requests and self._is_due(now, requests):
            self._asked = True
            served = count_of(requests, "request")
            return RecycleWanted("requests", f"{served} served, max_requests is {self.max_requests}")
        return None

    def _is_large(self, now: float, requests: int) -> bool:
        self.measure()
        if not self._max_memory_bytes:
            self._next_sample = now + IDLE_SAMPLE_S
            return False
        self._next_sample = now + SAMPLE_S
        self._over = self._over + 1 if self.resident_bytes > self._max_memory_bytes else 0
        if self._over == 1:
            self._over_admitted = requests <= FIRST_REQUESTS or now - self._first_at <= FIRST_S
        return self._over >= SAMPLES

    def _is_due(self, now: float, requests: int) -> bool:
        # Asking as much earlier as a replacement takes to boot lets the worker leave close to its limit,
        # not one boot's worth of requests behind it.
        since, counted = self._rate_from
        rate, passed_s = self._rate, now - since
        if not since:
            self._rate_from = (now, requests)
        elif passed_s >= _LEAST_RATE_S:
            # A sibling may have left its clients to this worker a moment ago: the faster rate counts.
            present = (requests - counted) / passed_s
            rate = max(rate, present)
            if passed_s >= _RATE_S:
                self._rate, self._rate_from = present, (now, requests)
        ahead = min(rate * self._boot_s, self.max_requests * (1 - EARLIEST))
        return requests + ahead >= self.max_requests


def with_jitter(limit: int, jitter: int) -> int:
    """A limit moved up at random, so that workers that started together do not leave together; 0 stays off."""
    return limit + random.randint(0, jitter) if limit and jitter > 0 else limit
