"""Where events wait for the steward: a bounded queue, then a socket pair of which the arbiter keeps both ends.

What lies in the pair survives the steward that was to read it. A slow steward costs the arbiter nothing: what does not
fit is dropped, and counted. Nothing is queued while no steward is wanted.
"""

import collections
import logging
import math
import socket

from wsgicluster.counting import count_of
from wsgicluster.ipc.events import Event, encode_event

MOST_EVENTS = 1000
RETRY_S = 0.1


class EventOutbox:
    """That of one server; to be closed by its owner."""

    def __init__(self, log: logging.Logger) -> None:
        self.dropped = 0
        """Events that were dropped, since the steward did not take them in time."""
        self._log = log
        self._waiting: collections.deque[bytes] = collections.deque()
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._dropped_logged = 0

    def open(self) -> None:
        """A steward is wanted: keep events for it from now on. Raises OSError without descriptors."""
        if self._ends is None:
            self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for end in self._ends:
                end.setblocking(False)

    @property
    def is_open(self) -> bool:
        """Is any event wanted? If not, none needs to be made."""
        return self._ends is not None

    @property
    def waiting(self) -> int:
        """How many events wait here, and not yet in the socket."""
        return len(self._waiting)

    @property
    def receive_end(self) -> socket.socket:
        """What the steward reads."""
        assert self._ends is not None, "opened before a steward is started"
        return self._ends[0]

    def add(self, event: Event) -> None:
        """Queue an event, or drop it where too many wait."""
        if self._ends is None:
            return
        if len(self._waiting) >= MOST_EVENTS:
            self.dropped += 1
            return
        self._waiting.append(encode_event(event))
        self.send()

    def send(self) -> None:
        """Send what fits now."""
        if self._ends is None:
            return
        try:
            while self._waiting:
                self._ends[1].send(self._waiting[0])
                self._waiting.popleft()
        except BlockingIOError:
            return
        except OSError:
            # The system has no buffer to give now.
            return
        if self.dropped > self._dropped_logged:
            count = self.dropped - self._dropped_logged
            self._log.warning("%s dropped: the steward did not take them", count_of(count, "event was", "events were"))
            self._dropped_logged = self.dropped

    def next_due(self, now: float) -> float:
        """When to try again; infinite where nothing waits."""
        return now + RETRY_S if self._waiting else math.inf

    def close(self) -> None:
        """No steward is wanted any more: what waits is dropped. May be repeated."""
        if self._ends is not None:
            for end in self._ends:
                end.close()
        self._ends = None
        self._waiting.clear()
