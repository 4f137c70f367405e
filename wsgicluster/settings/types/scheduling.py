"""The types of settings that say which worker serves a client: the policy, weights, and what a client is known by."""

from wsgicluster.dataclass import dataclass
from wsgicluster.pattern import pattern
from wsgicluster.settings.types.general import SettingType, WrongEntry, read_list, read_text, whole_number
from wsgicluster.settings.wording import nearest

SHARED = "shared"
STICKY_POLICY = "sticky"
POLICIES = (SHARED, "round-robin", "weighted", "least-connections", STICKY_POLICY)
STICKY_FORMS = ("address", "header", "cookie")
HIGHEST_WEIGHT = 1000
"""The cycle of all turns has as many steps as the sum of the weights."""
MOST_NAME_CHARACTERS = 200
"""Longest name of a header field or cookie: it stands on a page of memory that all processes share."""

_TOKEN = pattern(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.6.2, without the underscore: fields with one are dropped, see ``header_map``."""
_COOKIE_NAME = pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Sticky:
    """What a client is known by: its ``address``, a ``header`` or a ``cookie`` with this name."""

    form: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.form}:{self.name}" if self.name else self.form


def _read_policy(value: object) -> str:
    word = read_text(value).strip().lower().replace("_", "-")
    if word not in POLICIES:
        raise WrongEntry(word, nearest(word, POLICIES))
    return word


def _read_weights(value: object) -> tuple[int, ...]:
    if isinstance(value, int):
        value = str(value)
    entries = read_list([str(entry) for entry in value] if isinstance(value, list | tuple) else value)
    weights = []
    for entry in entries:
        try:
            weight = whole_number(entry)
        except (TypeError, ValueError):
            raise WrongEntry(entry) from None
        if not 0 <= weight <= HIGHEST_WEIGHT:
            raise WrongEntry(entry)
        weights.append(weight)
    if weights and not any(weights):
        raise ValueError
    return tuple(weights)


def _show_weights(weights: tuple[int, ...]) -> str:
    return ",".join(map(str, weights)) or "none"


def _read_sticky(value: object) -> Sticky:
    if isinstance(value, Sticky):
        return value
    form, colon, name = (part.strip() for part in read_text(value).partition(":"))
    form = form.lower()
    if form not in STICKY_FORMS:
        raise WrongEntry(form, nearest(form, STICKY_FORMS))
    if form == "address" and colon:
        raise ValueError
    if form == "header" and not _TOKEN.fullmatch(name):
        raise ValueError
    if form == "cookie" and colon and not _COOKIE_NAME.fullmatch(name):
        raise ValueError
    if len(name) > MOST_NAME_CHARACTERS:
        raise ValueError
    return Sticky(form, name)


SCHEDULING = SettingType(_read_policy, "one of " + ", ".join(POLICIES), "POLICY", choices=POLICIES)
WEIGHTS = SettingType(
    _read_weights,
    f"whole numbers from 0 to {HIGHEST_WEIGHT} separated by commas, one for each worker, and one of them above 0",
    "WEIGHTS",
    _show_weights,
)
STICKY = SettingType(_read_sticky, "address, header:NAME, cookie or cookie:NAME", "FORM", str)
