"""How long a client may take for each part of an exchange; a pure rule over times."""

import dataclasses
import math

LEAST_RATE = 500
"""Bytes a second that a body or a response must reach on the whole: drops of one byte are not progress."""


def _seconds(setting_s: float) -> float:
    return setting_s if setting_s > 0 else math.inf


@dataclasses.dataclass(frozen=True, slots=True)
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
