"""The time for which the application of one response waits for its client; a pure rule over times."""

import math

from wsgicluster.worker.transport.timeouts import Timing


class WriteWait:
    """The waits of one response, and until when the present one may last.

    All times are monotonic, ``sent_bytes`` is what has been sent of what had to wait. A client must take something
    within ``write_timeout``, and on the whole as much as `Timing` asks for; between waits its time stands still.
    """

    __slots__ = ("_moment", "_sent_bytes", "_since", "_taken_bytes", "_timing", "_waited_s")

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._moment = 0.0
        self._sent_bytes = 0
        self._since = math.inf
        self._taken_bytes = 0
        self._waited_s = 0.0

    def begin(self, now: float, sent_bytes: int) -> None:
        """A wait begins."""
        self._since = self._moment = now
        self._sent_bytes = sent_bytes

    def deadline(self, now: float, sent_bytes: int) -> float:
        """Until when the client must take more; so much it has taken by now."""
        if sent_bytes > self._sent_bytes:
            self._taken_bytes += sent_bytes - self._sent_bytes
            self._sent_bytes = sent_bytes
            self._moment = now
        return self._timing.write_deadline(self._moment, self._since - self._waited_s, self._taken_bytes)

    def end(self, now: float, sent_bytes: int) -> None:
        """The wait is over."""
        self._taken_bytes += max(0, sent_bytes - self._sent_bytes)
        self._waited_s += now - self._since
        self._since = math.inf

    def total_s(self, now: float) -> float:
        """How long the application has waited, up to now."""
        return self._waited_s + max(0.0, now - self._since)
