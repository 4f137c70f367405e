"""What a row of the table of differences is made of, and what it asks of a configuration.

The rows themselves are in `wsgicluster.migrate.table`.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from wsgicluster.dataclass import dataclass


class Agreement(enum.Enum):
    """What a setting of Gunicorn is here, in the words of the table."""

    SAME = "same"
    BETTER = "better"
    DIFFERENT = "different"
    NOT_FOR_WSGI = "not for WSGI"


class Weight(enum.Enum):
    """How much one difference matters to a deployment: `LOST` is what Gunicorn does and this server does not."""

    BETTER = "better"
    DIFFERENT = "different"
    LOST = "lost"


@dataclass(frozen=True)
class Deployment:
    """What a configuration of Gunicorn says: the last value of each setting that is given, as it was written."""

    given: Mapping[str, Any]
    sources: Mapping[str, str] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether a setting is given a value that counts."""
        return self.given.get(name) not in (None, "", False, (), [], {})

    def text(self, name: str) -> str:
        """The value of a setting as a text in lower case; an empty one where it is not given."""
        return str(self.given.get(name) or "").strip().lower()

    def number(self, name: str, default: int) -> int:
        """The value of a setting as a number, the default where it is none."""
        try:
            return int(self.given.get(name, default))
        except (TypeError, ValueError):
            return default


When = Callable[[Deployment], bool]


@dataclass(frozen=True)
class Note:
    """One difference: the text, and what to do about it, for those deployments that it concerns.

    ``when`` is None where it concerns each deployment that gives the setting a value that counts. ``needs_hand`` marks
    one that ought to be looked at before the move; what is lost always has to.
    """

    weight: Weight
    text: str
    remedy: str = ""
    when: When | None = None
    needs_hand: bool = False


@dataclass(frozen=True)
class Row:
    """One setting of Gunicorn. ``remark`` explains a verdict that no note explains; ``page`` has more about it."""

    name: str
    notes: tuple[Note, ...] = ()
    remark: str = ""
    page: str = ""
    is_for_wsgi: bool = True

    @property
    def agreement(self) -> Agreement:
        """The word for the whole row."""
        if not self.is_for_wsgi:
            return Agreement.NOT_FOR_WSGI
        weights = {note.weight for note in self.notes}
        if weights - {Weight.BETTER}:
            return Agreement.DIFFERENT
        return Agreement.BETTER if weights else Agreement.SAME

    @property
    def explained(self) -> str:
        """All that is to be said of it, in sentences; nothing where it is simply the same."""
        parts = [f"{note.text}: {note.remedy}" if note.remedy else note.text for note in self.notes]
        return " ".join(f"{part[0].upper()}{part[1:]}." for part in (*parts, self.remark) if part)

    def concerning(self, deployment: Deployment) -> tuple[Note, ...]:
        """The notes that concern a deployment."""
        return tuple(
            note
            for note in self.notes
            if (note.when(deployment) if note.when is not None else deployment.has(self.name))
        )
