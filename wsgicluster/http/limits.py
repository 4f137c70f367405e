"""How large the parts of a request may be, and which of its field names are accepted.

Only values: where they come from (settings) and what happens to a client that
exceeds them (a response, a closed connection) is decided elsewhere.
"""

import enum
from dataclasses import field

from wsgicluster.dataclass import dataclass

HEAD_BYTES = 64 * 1024

EVERY_NAME = "*"
"""Among the names of a forwarder: each that has an underscore."""


class Underscores(enum.Enum):
    """How a field with an underscore in its name is treated: X_Name and X-Name are one variable to an application."""

    DROP = "drop"
    REFUSE = "refuse"
    DANGEROUS = "dangerous"


@dataclass(frozen=True, slots=True)
class Leniency:
    """What is accepted beyond the strict reading of a head; nothing of it occurs in what usual clients send.

    HTTP allows methods of any letters, so those are accepted unless ``methods`` is false.
    """

    methods: bool = True
    """Methods with lower-case letters or ``#``, of less than 3 or more than 20 characters."""
    capitalize_methods: bool = False
    versions: bool = False
    """Any version of HTTP in a request line: below 1.1 it is taken for 1.0, from there on for 1.1."""
    folding: bool = False
    """RFC 9112, section 5.2: a field that continues on the next line, joined with one space."""
    spaces: bool = False
    """RFC 9112, section 5.1: spaces and tabs between a field's name and its colon."""


STRICT = Leniency()


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """The limits of one request, in bytes without line ends, and in fields.

    ``head_bytes`` bounds request line and fields together. A value below ``line_bytes + field_bytes + 4``
    is raised to that sum: one request line and one field that are each within their own limit always fit.
    ``body_bytes`` 0 means no limit. ``forwarder_names`` are names with an underscore (in capitals, or EVERY_NAME) that
    are accepted whatever ``underscores`` is; only trusted peers have any.
    """

    line_bytes: int = 8190
    fields: int = 100
    field_bytes: int = 8190
    head_bytes: int = HEAD_BYTES
    body_bytes: int = 1 << 30
    underscores: Underscores = Underscores.DROP
    forwarder_names: frozenset[str] = frozenset()
    leniency: Leniency = STRICT
    plain_bytes: int = field(init=False, repr=False)
    """Derived: no line of a head that is at most this long can exceed the limit of its kind."""

    def __post_init__(self) -> None:
        least = self.line_bytes + self.field_bytes + 4
        object.__setattr__(self, "head_bytes", max(self.head_bytes, least))
        object.__setattr__(self, "plain_bytes", min(self.line_bytes, self.field_bytes))
