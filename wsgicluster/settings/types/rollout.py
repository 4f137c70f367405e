"""The types of settings about reloads: how one generation of workers replaces another.

As in `wsgicluster.settings.types.general`: text or a Python value in, the value out.
"""

import math
import re

from wsgicluster.pattern import pattern
from wsgicluster.settings.types.general import MOST_WORKERS, SettingType, WrongEntry, read_each, read_list, whole_number
from wsgicluster.settings.types.values import Portion, read_portion

ALL_WORKERS = 0
"""As a number that must be ready: as many as are wanted."""

QUARTER = Portion(25, percent=True)

_SHARE = pattern(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(%?)\s*", re.ASCII)

_TARGET = pattern(r"(?:https?://[^\s/?#]+)?/[!\"$-~]*", re.ASCII)

_BETWEEN = pattern(r",(?=\s*(?:/|https?://))")
"""Other commas belong to a path or a query."""


def _read_portion(value: object) -> Portion:
    if isinstance(value, Portion):
        return value
    return read_portion(value if isinstance(value, str) else str(whole_number(value)))


def _read_min_ready(value: object) -> int:
    """A number of workers, or 0 for all of them."""
    if isinstance(value, str) and value.strip().lower() == "all":
        return ALL_WORKERS
    number = whole_number(value)
    if not 0 <= number <= MOST_WORKERS:
        raise ValueError
    return number


def _read_smoke(value: object) -> tuple[str, ...]:
    entries = read_list([value] if isinstance(value, str) and value else value)
    return tuple(read_each(_read_target, [part.strip() for entry in entries for part in _BETWEEN.split(entry)]))


def _read_target(text: str) -> str:
    # Only characters that are valid in a request line; the host of a URL becomes the field Host.
    if not _TARGET.fullmatch(text):
        raise WrongEntry(text, f"/{text}" if _TARGET.fullmatch(f"/{text}") else "")
    return text


def _read_error_share(value: object) -> float:
    """From 0.0 to 1.0, of a percentage or of the share itself."""
    if isinstance(value, str):
        found = _SHARE.fullmatch(value)
        if found is None:
            raise ValueError
        value = float(found[1]) / (100 if found[2] else 1)
    share = _number(value)
    if not 0 <= share <= 1:
        raise ValueError
    return share


def _read_latency_factor(value: object) -> float:
    """A number from 1, or 0 for no limit."""
    factor = _number(float(value) if isinstance(value, str) else value)
    if factor and factor < 1:
        raise ValueError
    return factor


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not math.isfinite(value) or value < 0:
        raise ValueError
    return float(value)


ERROR_SHARE = SettingType(
    _read_error_share, "a percentage such as 5%, or a share from 0 to 1", "SHARE", lambda share: f"{share * 100:.10g}%"
)
LATENCY_FACTOR = SettingType(
    _read_latency_factor, "a number from 1, or 0 for no limit", "FACTOR", lambda factor: f"{factor:.10g}"
)
SURGE = SettingType(_read_portion, "a number from 0, or a percentage such as 25%", "N")
MIN_READY = SettingType(
    _read_min_ready,
    f"a number from 1 to {MOST_WORKERS}, or all",
    "N",
    lambda number: "all" if number == ALL_WORKERS else str(number),
    choices=("all",),
)
SMOKE = SettingType(
    _read_smoke, "paths such as /,/login, or http URLs, or a list of them", "PATHS", ",".join, repeats=True
)
