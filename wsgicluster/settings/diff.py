"""The differences between two readings of the settings, as text for the log. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from wsgicluster.settings.fields import SETTINGS, Settings
from wsgicluster.settings.types.general import without_passwords

SHOWN_CHARACTERS = 80
_NAMES_ONLY = frozenset({"raw_env"})
"""Settings of which only names are logged: their values are often secrets."""


def changed(old: Settings, new: Settings) -> dict[str, str]:
    """The names of the settings that differ, each with its old and its new value as ``old -> new``."""
    found = {}
    for name in SETTINGS:
        before, after = getattr(old, name), getattr(new, name)
        if before != after and not _is_same_function(before, after):
            found[name] = _shown_change(name, before, after)
    return found


def _is_same_function(before: object, after: object) -> bool:
    """A configuration file that is executed again makes new function objects, even where nothing was edited."""
    code = getattr(before, "__code__", None)
    return code is not None and code == getattr(after, "__code__", None)


def _shown_change(name: str, before: Any, after: Any) -> str:
    if name in _NAMES_ONLY:
        return _names(before, after)
    show: Callable[[Any], str] = SETTINGS[name].about.type.show
    texts = [_short("a dictionary" if isinstance(value, Mapping) else show(value)) for value in (before, after)]
    # Two functions of one name, or two dictionaries, differ in what does not fit a line.
    return f"{texts[0]} -> {texts[1]}" if texts[0] != texts[1] else f"{texts[1]}, changed"


def _names(before: tuple[str, ...], after: tuple[str, ...]) -> str:
    old, new = (dict(entry.partition("=")[::2] for entry in entries) for entries in (before, after))
    parts = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name in new if name in old and new[name] != old[name]],
    }
    return _short(", ".join(f"{what} {' '.join(names)}" for what, names in parts.items() if names) or "other order")


def shown(name: str, settings: Settings) -> str:
    """A setting's value as text for people: of environment variables the names, of URLs no password."""
    value = getattr(settings, name)
    if name in _NAMES_ONLY:
        return " ".join(entry.partition("=")[0] for entry in value)
    return without_passwords(SETTINGS[name].about.type.show(value))


def _short(text: str) -> str:
    line = " ".join(text.split()) or "nothing"
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."
