"""How a server that stops closes its listeners, so that no client whose connection was accepted sees a reset.

First it may keep serving for a while, in which load balancers stop sending clients. Then the kernel drops new
connections, and those that had begun are waited for; then the workers empty the queues and close the listeners, one
after the other; last this process does.
"""

import math
from collections.abc import Callable, Collection

from wsgicluster.arbiter.listeners.registry import Addresses
from wsgicluster.system.network.listen_queues import handshakes

WAIT_S = 1.0
"""How long connections are waited for that had begun when the stop was requested; most take no time."""

CLOSE_S = 0.25
"""How long new connections are dropped while workers close the listeners; one that is busy may take longer."""

POLL_S = 0.01


class ListenerShutdown:
    """The listeners of a server that stops; times in seconds of the monotonic clock."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._begins_at = math.inf
        self._poll_at = math.inf
        self._shut: dict[int, int] | None = None
        self._until = math.inf

    @property
    def next_due(self) -> float:
        """When `is_due` and `poll` have to be called next; infinite if never."""
        return min(self._begins_at, self._poll_at)

    @property
    def is_leaving(self) -> bool:
        """Has a graceful stop been requested that has not begun yet?"""
        return self._begins_at < math.inf

    def plan(self, begins_at: float) -> None:
        """A graceful stop is to begin then; infinite for one that has begun, or was cancelled."""
        self._begins_at = begins_at

    def bring_forward(self, begins_at: float) -> None:
        """A graceful stop that has been requested begins then at the latest."""
        if self.is_leaving:
            self._begins_at = min(self._begins_at, begins_at)

    def is_due(self, pids: Callable[[], Collection[int]], now: float) -> bool:
        """Is it time for the stop, and are all connections in the queues that had begun? The others would be reset."""
        if now < self._begins_at:
            return False
        if not self._is_clear(pids, now):
            self._begins_at = now + POLL_S
            return False
        self._begins_at = math.inf
        return True

    def _is_clear(self, pids: Callable[[], Collection[int]], now: float) -> bool:
        """Drop new connections, if not yet; have all that had begun reached the queues, or has that taken too long?"""
        if self._shut is None:
            self._shut = self._addresses.shut(pids())
            self._until = now + WAIT_S
        return now >= self._until or not handshakes(self._shut.values())

    def begin(self, now: float) -> None:
        """The stop of the workers is requested in this moment."""
        self._addresses.keep(self._shut or ())
        self._until = now + CLOSE_S
        self._poll_at = now

    def poll(self, now: float) -> None:
        """Close what is left, once workers have. While one is busy for long, new connections wait for it again."""
        if now < self._poll_at:
            return
        held = self._addresses.held()
        if held and now < self._until:
            self._poll_at = now + POLL_S
            return
        self._poll_at = math.inf
        self._addresses.open_again(held)
        self._addresses.keep(())
