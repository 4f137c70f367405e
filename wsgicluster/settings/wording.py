"""The one form of an error in a setting: source, name, value, what was expected, and the nearest known name."""

from collections.abc import Iterable, Sequence

from wsgicluster.errors import UsageError

_SHOWN = 80
_LIKENESS = 0.6


def complaint(where: str, name: str, given: str, expected: str = "", near: str = "") -> UsageError:
    """An error of one line, also where a part has several."""
    text = f"{where}: {name}: {given}"
    if expected:
        text += f"; expected {expected}"
    if near:
        text += f"; did you mean {near}?"
    return UsageError(" ".join(text.split()))


def raise_all(complaints: Sequence[UsageError]) -> None:
    """Raise one UsageError with a line for each of them, if there are any."""
    if len(complaints) == 1:
        raise complaints[0]
    if complaints:
        raise UsageError("\n".join(str(each) for each in complaints))


def quoted(value: object) -> str:
    """A value as it was written, in quotes if it is a text, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most similar to this one, or empty."""
    # Late: only what is misspelt needs it.
    import difflib

    found = difflib.get_close_matches(word, list(known), 1, _LIKENESS)
    return found[0] if found else ""
