"""How a server that stops lets go of its addresses, so that no client who was let in meets a reset.

First it may serve on for a while, while nobody is sent to it any more. Then nobody new is let in, and those who had
begun to connect are waited for; then the workers empty the queues and close the listeners, one after the other; last
this process does.
"""

import math
from collections.abc import Callable, Collection

from wsgicluster.arbiter.addresses import Addresses
from wsgicluster.arbiter.holders import handshakes

WAIT_S = 1.0
"""How long clients are waited for who had begun to connect when the server was told to stop; most take no time."""

LET_GO_S = 0.25
"""How long newcomers are kept out while workers let go of the addresses; one that is busy may take longer."""

LOOK_S = 0.01


class Door:
    """The addresses of a server that stops; times are monotonic."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._leaves_at = math.inf
        self._look_at = math.inf
        self._shut: dict[int, int] | None = None
        self._until = math.inf

    @property
    def next_due(self) -> float:
        """When `may_leave` and `look` want to be called next; infinite if never."""
        return min(self._leaves_at, self._look_at)

    @property
    def is_leaving(self) -> bool:
        """Has a graceful stop been asked for, that is not begun yet?"""
        return self._leaves_at < math.inf

    def plan(self, leaves_at: float) -> None:
        """A graceful stop is to begin then; infinite for one that has begun, or is none any more."""
        self._leaves_at = leaves_at

    def hasten(self, leaves_at: float) -> None:
        """A graceful stop that has been asked for begins then at the latest."""
        if self.is_leaving:
            self._leaves_at = min(self._leaves_at, leaves_at)

    def may_leave(self, family: Callable[[], Collection[int]], now: float) -> bool:
        """Is it time for the stop, and is everybody in who was at the door? Who came later would meet a reset."""
        if now < self._leaves_at:
            return False
        if not self._is_clear(family, now):
            self._leaves_at = now + LOOK_S
            return False
        self._leaves_at = math.inf
        return True

    def _is_clear(self, family: Callable[[], Collection[int]], now: float) -> bool:
        """Shut it, unless it is; is nobody left who had begun to connect, or has that taken too long?"""
        if self._shut is None:
            self._shut = self._addresses.shut(family())
            self._until = now + WAIT_S
        return now >= self._until or not handshakes(self._shut.values())

    def leave(self, now: float) -> None:
        """The workers are told to leave, in this moment."""
        self._addresses.keep(self._shut or ())
        self._until = now + LET_GO_S
        self._look_at = now

    def look(self, now: float) -> None:
        """Close what is left, as soon as workers have. One may be busy for long: newcomers may wait for it again."""
        if now < self._look_at:
            return
        held = self._addresses.held()
        if held and now < self._until:
            self._look_at = now + LOOK_S
            return
        self._look_at = math.inf
        self._addresses.open_again(held)
        self._addresses.keep(())
