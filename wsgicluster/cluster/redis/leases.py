"""Locks over Redis: each is a lease that a thread of its holder renews, and that ends by itself if the holder does."""

import threading
import time
from collections.abc import Callable
from typing import Any

from wsgicluster.cluster.errors import ClusterError, LockLost

LEASE_S = 1.0
"""How long after the death of its holder a lock becomes free, and how long a holder may be kept from renewing it."""

RENEW_S = LEASE_S / 5
_IDLE_TURNS = 50


class Lease:
    """One lock that is held until ``ends_at``, by this process's clock, unless it is renewed before.

    ``order`` is the fencing number, and whether the last holder never released.
    """

    def __init__(
        self, name: str, ends_at: float, order: tuple[int, bool], extend: Callable[[], bool], end: Callable[[], bool]
    ) -> None:
        self._name = name
        self._ends_at = ends_at
        self._extend = extend
        self._end = end
        self._is_lost = False
        self._number, self.recovered = order

    def renew(self) -> None:
        """Extend it in Redis. Once it has ended it stays lost: another process may have had it. Raises BusDown."""
        asked_at = time.monotonic()
        # Whether it has ended is asked again after the response, which may have come late.
        self._is_lost = self.lost() or not self._extend() or self.lost()
        if not self._is_lost:
            self._ends_at = asked_at + LEASE_S

    def lost(self) -> bool:
        """Whether it is another process's, or may be."""
        return self._is_lost or time.monotonic() >= self._ends_at

    def token(self) -> int:
        """The fencing number: one higher with each holder. Raises LockLost."""
        if self.lost():
            raise self._loss()
        return self._number

    def release(self) -> None:
        """Give the lock to the next. Raises LockLost, BusDown."""
        # What is found to be this holder's still has not been another's, however late that is found.
        if not self._end():
            raise self._loss()

    def _loss(self) -> LockLost:
        return LockLost(
            f"the lock {self._name!r} was not renewed within {LEASE_S:g} s: another process may have held it"
        )


class Leases:
    """All leases of this process, and the thread that renews them; it ends when there are none."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._mutex = threading.Lock()
        self._leases: set[Lease] = set()
        self._runs = False

    def renew(self, lease: Lease) -> None:
        """Renew this one from now on."""
        with self._mutex:
            self._leases.add(lease)
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="wsgicluster-leases", daemon=True).start()

    def forget(self, lease: Lease) -> None:
        """Renew it no more."""
        with self._mutex:
            self._leases.discard(lease)

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(RENEW_S)
            with self._mutex:
                leases = list(self._leases)
                # A lock that is taken again soon, as most are, finds the thread still there.
                idle = 0 if leases else idle + 1
                if idle > _IDLE_TURNS:
                    self._runs = False
                    return
            for lease in leases:
                try:
                    lease.renew()
                except ClusterError:
                    # Tried again until the lease has ended, of which its holder learns.
                    continue
