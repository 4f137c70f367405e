"""Server-sent events (WHATWG HTML, section 9.2): the last events of the server, and those that come."""

import collections
import json
import threading
from collections.abc import Iterator
from typing import Any

KEPT = 1000
"""A client that falls behind by more than these misses some."""
SHOWN = 15
"""How many of the past a client gets that does not say."""
SILENCE_S = 10.0
"""So often something is sent at least, which shows whether the client is still there."""


class EventStreams:
    """The events of one admin worker; ``epoch`` tells its numbers from those of the one before it."""

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._events: collections.deque[tuple[int, dict[str, Any]]] = collections.deque(maxlen=KEPT)
        self._changed = threading.Condition()
        self._number = 0
        self._is_over = False

    def add(self, event: dict[str, Any]) -> None:
        """One has happened."""
        with self._changed:
            self._number += 1
            self._events.append((self._number, event))
            self._changed.notify_all()

    def close(self) -> None:
        """End all streams."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def stream(self, last_id: str = "", last: int = SHOWN, silence_s: float = SILENCE_S) -> Iterator[bytes]:
        """Pieces for one client: events after the one with the id that it has seen last, or so many of the past."""
        with self._changed:
            seen = self._seen(last_id, last)
        yield b"retry: 1000\n\n"
        while True:
            with self._changed:
                if not self._is_over and self._number <= seen:
                    self._changed.wait(silence_s)
                found = [each for each in self._events if each[0] > seen]
                if self._is_over and not found:
                    return
            if not found:
                yield b":\n\n"
            for number, event in found:
                seen = number
                yield self._piece(number, event)

    def _seen(self, last_id: str, last: int) -> int:
        epoch, _, number = last_id.rpartition("-")
        if epoch == self._epoch and number.isdecimal() and number.isascii() and len(number) < 16:
            return int(number)
        return max(0, self._number - max(0, last))

    def _piece(self, number: int, event: dict[str, Any]) -> bytes:
        # Without a type of its own, so that one handler gets all: the object names the event.
        return f"id: {self._epoch}-{number}\ndata: {json.dumps(event)}\n\n".encode()
