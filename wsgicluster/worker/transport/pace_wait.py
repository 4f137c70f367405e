"""How long a response waits for a client that reads, before it is stored instead; a pure rule over times.

To store it costs as much as to send it twice, but a client that reads slowly must not keep a worker.
"""

PACE_S = 0.001, 0.008
"""How long one wait may last, at least and at most."""

SPARE_S = 0.05
"""How much longer, at most: on a busy machine a client that reads on may have to wait for a processor."""

SPARE_SHARE = 0.05
"""The part of a process's time that may be spent in this way."""


class PaceWait:
    """How long this process waits for a client now: less after each one that was slow, more after each that was not.

    However many slow clients there are, they soon cost the worker no more than the least time each, and `SPARE_SHARE`
    of its time in all. Times are monotonic.
    """

    __slots__ = ("_began", "_seconds", "_spare_s")

    def __init__(self) -> None:
        self._seconds = PACE_S[1]
        self._spare_s = SPARE_S
        self._began = 0.0

    def begin(self, now: float) -> float:
        """A wait begins; how many seconds it may last."""
        self._spare_s = min(SPARE_S, self._spare_s + (now - self._began) * SPARE_SHARE)
        self._began = now
        return self._seconds + self._spare_s

    def end(self, now: float, room: bool) -> None:
        """It is over, and the client has made room or not."""
        longer_s = max(0.0, now - self._began - self._seconds)
        self._spare_s = max(0.0, self._spare_s - longer_s)
        self._seconds = min(PACE_S[1], self._seconds * 2) if room else max(PACE_S[0], self._seconds / 2)
