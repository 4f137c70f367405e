"""The kinds of settings about how a generation of workers takes over from another one.

As in `wsgicluster.settings.kinds`, whose kinds these are: text or a Python value in, the value out.
"""

import re

from wsgicluster.settings.kinds import MOST_WORKERS, Kind, WrongEntry, each, read_list, whole
from wsgicluster.settings.values import Portion, read_portion

ALL_WORKERS = 0
"""As a number that must be ready: as many as are wanted."""

QUARTER = Portion(25, percent=True)

_TARGET = re.compile(r"(?:https?://[^\s/?#]+)?/[!\"$-~]*", re.ASCII)

_BETWEEN = re.compile(r",(?=\s*(?:/|https?://))")
"""Other commas belong to a path or a query."""


def _read_portion(value: object) -> Portion:
    return value if isinstance(value, Portion) else read_portion(value if isinstance(value, str) else str(whole(value)))


def _read_min_ready(value: object) -> int:
    """A number of workers, or 0 for all of them."""
    if isinstance(value, str) and value.strip().lower() == "all":
        return ALL_WORKERS
    number = whole(value)
    if not 0 <= number <= MOST_WORKERS:
        raise ValueError
    return number


def _read_smoke(value: object) -> tuple[str, ...]:
    entries = read_list([value] if isinstance(value, str) and value else value)
    return tuple(each(_read_target, [part.strip() for entry in entries for part in _BETWEEN.split(entry)]))


def _read_target(text: str) -> str:
    # Exactly what can stand in a request line; the host of a URL, in a field behind it.
    if not _TARGET.fullmatch(text):
        raise WrongEntry(text, f"/{text}" if _TARGET.fullmatch(f"/{text}") else "")
    return text


SURGE = Kind(_read_portion, "a number from 0, or a part such as 25%", "N")
MIN_READY = Kind(
    _read_min_ready,
    f"a number from 1 to {MOST_WORKERS}, or all",
    "N",
    lambda number: "all" if number == ALL_WORKERS else str(number),
    choices=("all",),
)
SMOKE = Kind(
    _read_smoke, "paths such as /,/login, or URLs of such, or a list of these", "PATHS", ",".join, repeats=True
)
