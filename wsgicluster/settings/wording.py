"""The one form of complaint about a setting: where, which, what was given, what was expected, what may be meant."""

import difflib
from collections.abc import Iterable

from wsgicluster.errors import UsageError

_SHOWN = 80
_LIKENESS = 0.6


def complaint(where: str, name: str, given: str, expected: str = "", near: str = "") -> UsageError:
    """An error of one line, whatever the parts hold."""
    text = f"{where}: {name}: {given}"
    if expected:
        text += f"; expected {expected}"
    if near:
        text += f"; did you mean {near}?"
    return UsageError(" ".join(text.split()))


def quoted(value: object) -> str:
    """A value as it was given, in quotes if it is a text, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like this one, or nothing."""
    found = difflib.get_close_matches(word, list(known), 1, _LIKENESS)
    return found[0] if found else ""
