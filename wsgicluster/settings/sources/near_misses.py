"""Which names of a configuration file are probably misspelt settings; all others are the file's own business."""

from collections.abc import Collection

from wsgicluster.settings.fields import SETTINGS

_LIKENESS = 0.85
_LEAST_LETTERS = 6
"""A shorter name is similar to many: ``users``, ``binds``, ``group_``."""

_WORDS = frozenset(("env", "name", "pid", "config"))
"""Flags that are usual names for variables, too."""


def _joined(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


_NAMES = {_joined(name): name for name in SETTINGS}
_FLAGS = {
    _joined(flag): setting.name
    for setting in SETTINGS.values()
    for flag in setting.about.flags
    if flag.startswith("--") and _joined(flag) not in _WORDS
}


def near_miss(name: str, value: object, given: Collection[str]) -> str:
    """The setting that is probably meant by a name which is none, else an empty text.

    A setting that is among those ``given``, or that could not have the value, was not meant.
    """
    if name in SETTINGS:
        return ""
    joined = _joined(name)
    found = _NAMES.get(joined) or _FLAGS.get(joined, "")
    if not found and name.islower() and len(joined) >= _LEAST_LETTERS:
        # Late: only an unknown name needs it.
        import difflib

        # Few misspell the first letter.
        similar = difflib.get_close_matches(joined, [each for each in _NAMES if each[0] == joined[0]], 1, _LIKENESS)
        found = _NAMES[similar[0]] if similar else ""
    return found if found and found not in given and _may_have(found, value) else ""


def _may_have(name: str, value: object) -> bool:
    try:
        SETTINGS[name].about.type.read(value)
    except (ValueError, TypeError):
        return False
    return True
