"""How long a client may take for each part of an exchange; pure rules over times, by the monotonic clock."""

import math

from wsgicluster.dataclass import dataclass

LEAST_RATE = 500
"""Bytes a second that a body or a response must reach on the whole: drops of one byte are not progress."""


def _seconds(setting_s: float) -> float:
    return setting_s if setting_s > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Timing:
    """Limits in seconds; `of` takes settings, where 0 means no limit."""

    keepalive_s: float
    head_s: float
    body_s: float
    write_s: float

    @classmethod
    def of(cls, keepalive_s: float, head_s: float, body_s: float, write_s: float) -> "Timing":
        """From settings; a keep-alive of 0 stays 0 and means that no connection is kept."""
        return cls(keepalive_s, _seconds(head_s), _seconds(body_s), _seconds(write_s))

    def body_deadline(self, now: float, began: float, received_bytes: int) -> float:
        """Until when the next bytes of a body must come."""
        return _deadline(self.body_s, now, began, received_bytes)

    def write_deadline(self, now: float, began: float, sent_bytes: int) -> float:
        """Until when a client must take the next bytes of a response."""
        return _deadline(self.write_s, now, began, sent_bytes)


def _deadline(limit_s: float, now: float, began: float, moved_bytes: int) -> float:
    return min(now + limit_s, began + limit_s + moved_bytes / LEAST_RATE)


class ReceiveLimit:
    """The time of what one client sends: of the head or the body that it is in.

    ``began`` is when the first bytes of that came. The first head has no more time than is left of ``first_by``, since
    what comes before it, a preamble, is a part of its time.
    """

    __slots__ = ("_first_by", "_timing", "began")

    def __init__(self, timing: Timing, now: float, first_by: float = math.inf) -> None:
        self._timing = timing
        self._first_by = first_by
        self.began = now

    def head_deadline(self, now: float, first: bool) -> float:
        """Until when a head that begins now must be there; ``first`` says that it is the connection's first."""
        deadline = now + self._timing.head_s
        return min(deadline, self._first_by) if first else deadline

    def body_deadline(self, now: float, received_bytes: int) -> float:
        """Until when the next bytes of the body must come; so many have come."""
        return self._timing.body_deadline(now, self.began, received_bytes)


class SendLimit:
    """The time of what one client has not taken yet, from the moment on when it first had to wait."""

    __slots__ = ("_began", "_taken_at", "_taken_bytes", "_timing")

    def __init__(self, timing: Timing, now: float) -> None:
        self._timing = timing
        self._began = self._taken_at = now
        self._taken_bytes = 0

    def restart(self, now: float) -> None:
        """The response is complete: from now on only the client is waited for."""
        self._began = now

    def deadline(self, now: float, sent_bytes: int) -> float:
        """Until when the client must take more; ``sent_bytes`` is all that it has taken of what had to wait."""
        return self._timing.write_deadline(now, self._began, sent_bytes)

    def is_over(self, now: float, sent_bytes: int) -> bool:
        """Whether it has taken nothing for too long, or too little; asked whenever more has to wait."""
        if sent_bytes > self._taken_bytes:
            self._taken_bytes = sent_bytes
            self._taken_at = now
            return False
        return now >= self._timing.write_deadline(self._taken_at, self._began, self._taken_bytes)
