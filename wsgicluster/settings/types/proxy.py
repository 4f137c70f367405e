"""The types of settings about proxies and gateways in front of the server, and what they send.

As in `wsgicluster.settings.types.general`: text or a Python value in, the value out.
"""

from wsgicluster.pattern import pattern
from wsgicluster.settings.types.general import SettingType, WrongEntry, choice, read_list, read_text, whole_number

_HEADER_NAME = pattern(r"[!#$%&'*+.^`|~0-9A-Z_-]+")
_OWN_NAMES = ("connection", "content-length", "date", "host", "server", "transfer-encoding")

PROXY_MODES = ("off", "v1", "v2", "auto")
FORWARDED_FIELDS = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix", "forwarded")
ALL_TRUSTED = -1
"""As a number of hops: as many as there are trusted proxies."""


def _read_proxy_mode(value: object) -> str:
    if isinstance(value, bool):
        return "auto" if value else "off"
    word = read_text(value).strip().lower()
    word = {"true": "auto", "on": "auto", "false": "off", "none": "off"}.get(word, word)
    if word not in PROXY_MODES:
        raise ValueError
    return word


def _read_hops(value: object) -> int:
    if value == ALL_TRUSTED or (isinstance(value, str) and value.strip().lower() == "auto"):
        return ALL_TRUSTED
    number = whole_number(value)
    if number < 0:
        raise ValueError
    return number


def _read_forwarded_fields(value: object) -> tuple[str, ...]:
    names = tuple(entry.strip().lower() for entry in read_list(value))
    for name in names:
        if name not in FORWARDED_FIELDS:
            raise WrongEntry(name)
    return names


def _read_header_names(value: object) -> tuple[str, ...]:
    names = tuple(entry.strip().upper() for entry in read_list(value))
    for name in names:
        if name != "*" and not _HEADER_NAME.fullmatch(name):
            raise WrongEntry(name)
    return names


def _read_header_name(value: object) -> str:
    name = read_text(value).strip()
    # A name with an underscore would never arrive: such fields are dropped.
    if not _HEADER_NAME.fullmatch(name.upper()) or "_" in name or name.lower() in _OWN_NAMES:
        raise ValueError
    return name


PROXY_MODE = SettingType(_read_proxy_mode, "off, v1, v2 or auto", "MODE", choices=PROXY_MODES, unset=(None,))
HOPS = SettingType(
    _read_hops,
    "a whole number from 0, or auto",
    "N",
    lambda hops: "auto" if hops == ALL_TRUSTED else str(hops),
    choices=("auto",),
)
FORWARDED = SettingType(
    _read_forwarded_fields,
    ", ".join(FORWARDED_FIELDS[:-1]) + " or " + FORWARDED_FIELDS[-1],
    "NAMES",
    ",".join,
    choices=FORWARDED_FIELDS,
)
PROTOCOL = choice(("http", "uwsgi"), "http or uwsgi", "NAME")
HEADER_MAP = choice(("drop", "refuse", "dangerous"), "drop, refuse or dangerous", "HOW")
HEADER_NAMES = SettingType(_read_header_names, "names of header fields separated by commas, or *", "NAMES", ",".join)
HEADER_NAME = SettingType(_read_header_name, "the name of a header field that the server itself does not use", "NAME")
REQUEST_ID = choice(("off", "accept", "make"), "off, accept or make", "HOW")
TRACE = choice(("off", "accept", "make"), "off, accept or make", "HOW")
OPTIONAL_HEADER_NAME: SettingType[str | None] = SettingType(
    lambda value: None if value is None or value == "" else _read_header_name(value),
    "the name of a header field that the server itself does not use",
    "NAME",
    lambda value: value or "",
)
