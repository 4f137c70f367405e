"""How a server that stops lets go of its addresses, so that no client who was let in meets a reset.

First nobody new is let in, and those who had begun to connect are waited for; then the workers empty the queues and
close the listeners, one after the other; last this process does.
"""

import math
from collections.abc import Collection

from wsgicluster.arbiter.addresses import Addresses
from wsgicluster.arbiter.holders import handshakes

WAIT_S = 1.0
"""How long clients are waited for who had begun to connect when the server was told to stop; most take no time."""

LET_GO_S = 0.25
"""How long newcomers are kept out while workers let go of the addresses; one that is busy may take longer."""

LOOK_S = 0.01


class Door:
    """The addresses of a server that stops; times are monotonic, ``look_at`` is when `look` wants to be called."""

    def __init__(self, addresses: Addresses) -> None:
        self.look_at = math.inf
        self._addresses = addresses
        self._shut: dict[int, int] | None = None
        self._until = math.inf

    def is_clear(self, family: Collection[int], now: float) -> bool:
        """Shut it, unless it is; is nobody left who had begun to connect, or has that taken too long?"""
        if self._shut is None:
            self._shut = self._addresses.shut(family)
            self._until = now + WAIT_S
        return now >= self._until or not handshakes(self._shut.values())

    def leave(self, now: float) -> None:
        """The workers are told to leave, in this moment."""
        self._addresses.keep(self._shut or ())
        self._until = now + LET_GO_S
        self.look_at = now

    def look(self, now: float) -> None:
        """Close what is left, as soon as workers have. One may be busy for long: newcomers may wait for it again."""
        if now < self.look_at:
            return
        held = self._addresses.held()
        if held and now < self._until:
            self.look_at = now + LOOK_S
            return
        self.look_at = math.inf
        self._addresses.open_again(held)
        self._addresses.keep(())
