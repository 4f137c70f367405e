"""What becomes of a connection when a response on it has been made."""

import enum


class Outcome(enum.Enum):
    """What becomes of the connection behind a response."""

    KEEP = enum.auto()
    CLOSE = enum.auto()
    ABORT = enum.auto()
