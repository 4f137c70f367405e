"""The types of settings: how a value is read from any source, what is expected, and how it is shown.

A type takes text (command line, environment) or a Python value (configuration file)
and returns the value itself. It knows no setting, and reads nothing but the
system's users and groups.
"""

import grp
import ipaddress
import math
import pwd
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from wsgicluster.dataclass import dataclass
from wsgicluster.pattern import pattern
from wsgicluster.settings.types.values import (
    Address,
    Automatic,
    InvalidValue,
    MemoryShare,
    WorkerRange,
    read_address,
    read_duration,
    read_share,
    read_size,
    read_worker_range,
    show_duration,
    show_size,
    split_addresses,
)

T = TypeVar("T")


class WrongEntry(ValueError):
    """One entry of a list is invalid; ``near`` may be meant, ``expected`` describes this entry alone."""

    def __init__(self, entry: str, near: str = "", expected: str = "") -> None:
        super().__init__(entry)
        self.entry = entry
        self.near = near
        self.expected = expected


_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
MOST_WORKERS = 500
"""During a reload there may be twice as many, and each needs a page of the scoreboard."""
MOST_SERVER_NAME = 200
MASK = "***"
"""Replaces what may be a secret, wherever settings are shown."""
_SECRET_KEY = pattern("pass|secret|token|credential|auth|dsn|key$", re.IGNORECASE)
_URL_PASSWORD = pattern(r"(://[^/\s:@'\"]*:)[^@/\s'\"]+@")
_QUERY_PASSWORD = pattern(r"([?&](?:\w+_)?password=)[^&#\s'\"]+")
_HIGHEST_ID = (1 << 32) - 2


@dataclass(frozen=True)
class SettingType(Generic[T]):
    """``read`` raises ValueError or TypeError for what it does not accept; ``choices`` are for suggestions.

    A source that has one of ``unset`` counts as one that does not have the setting, as in Gunicorn.
    """

    read: Callable[[Any], T]
    expected: str
    metavar: str
    show: Callable[[T], str] = str
    unit: str = ""
    repeats: bool = False
    choices: tuple[str, ...] = ()
    unset: tuple[object, ...] = ()


def _read_switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError


def whole_number(value: object) -> int:
    """A whole number. Raises ValueError or TypeError, as all functions that read values do."""
    # True is an int for Python, but no configuration means 1 by it.
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    if isinstance(value, str) and not re.fullmatch(r"\s*-?\d+\s*", value, re.ASCII):
        raise ValueError
    return int(value)


def _count(least: int, expected: str, unit: str = "") -> SettingType[int]:
    def read(value: object) -> int:
        number = whole_number(value)
        if number < least:
            raise ValueError
        return number

    return SettingType(read, expected, "N", unit=unit)


def _read_workers(value: object) -> int:
    if isinstance(value, Automatic) or (isinstance(value, str) and value.strip().lower() == "auto"):
        return Automatic()
    if isinstance(value, str) and ".." in value:
        value = read_worker_range(value)
    number = value if isinstance(value, WorkerRange) else whole_number(value)
    most = number.most if isinstance(number, WorkerRange) else number
    if number < 0 or most > MOST_WORKERS:
        raise ValueError
    return number or 1


def _read_seconds(value: object) -> float:
    if isinstance(value, str):
        return read_duration(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not (math.isfinite(value) and value >= 0):
        raise ValueError
    return float(value)


def _read_bytes(value: object) -> int:
    if isinstance(value, str):
        return read_size(value)
    number = whole_number(value)
    if number < 0:
        raise ValueError
    return number


def _zero_means(read: Callable[[object], int], number: int) -> Callable[[object], int]:
    """A reader that replaces 0 by ``number``."""
    return lambda value: read(value) or number


def _read_memory(value: object) -> int:
    if isinstance(value, MemoryShare):
        return value
    if isinstance(value, str) and "%" in value:
        return read_share(value)
    return _read_bytes(value)


def _texts(value: object, split: Callable[[str], Sequence[str]]) -> list[str]:
    if isinstance(value, str):
        return [part for part in split(value) if part]
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
        raise TypeError
    return list(value)


def _split_commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _read_addresses(value: object) -> tuple[Address, ...]:
    # Each entry of a list may hold several addresses too, separated by commas.
    entries = [part for entry in _texts(value, lambda text: [text]) for part in split_addresses(entry)]
    if not entries:
        raise ValueError
    return tuple(read_each(read_address, entries))


def read_each(read: Callable[[str], T], entries: Sequence[str]) -> Iterator[T]:
    """Every entry of a list, read. Raises WrongEntry for the first that is invalid."""
    for entry in entries:
        try:
            yield read(entry)
        except WrongEntry:
            raise
        except InvalidValue as error:
            raise WrongEntry(entry, expected=str(error)) from None
        except ValueError:
            # A number alone is probably a port.
            raise WrongEntry(entry, f":{entry}" if entry.isdigit() and len(entry) <= 5 else "") from None


def read_list(value: object) -> tuple[str, ...]:
    """A list of texts, or one text that is split at commas."""
    return tuple(_texts(value, _split_commas))


def _read_paths(value: object) -> tuple[str, ...]:
    # Split at commas even within a list, as the flag's arguments are one.
    return tuple(part for entry in read_list(value) for part in _split_commas(entry) if part)


def _read_assignments(value: object) -> tuple[str, ...]:
    return tuple(read_each(_read_assignment, read_list(value)))


def _read_assignment(text: str) -> str:
    name, equals, value = text.partition("=")
    if not (name and equals) or "\0" in text:
        raise WrongEntry(f"{name}={MASK}" if value else text)
    return text


def _show_assignments(assignments: Sequence[str]) -> str:
    return ", ".join(f"{assignment.partition('=')[0]}={MASK}" for assignment in assignments)


def _read_peers(value: object) -> tuple[str, ...]:
    return tuple(read_each(_read_peer, [entry.strip() for entry in read_list(value)]))


def _read_peer(text: str) -> str:
    if text == "*":
        return text
    # In the form in which a peer's address is known, so that texts can be compared.
    if "/" not in text:
        address = ipaddress.ip_address(text)
        return str(_ipv4_of(address) or address)
    network = ipaddress.ip_network(text, strict=False)
    inner = _ipv4_of(network.network_address)
    return f"{inner}/{network.prefixlen - 96}" if inner is not None and network.prefixlen >= 96 else str(network)


def _ipv4_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The address within ::ffff:192.0.2.1, which an IPv6 socket reports for an IPv4 client."""
    return address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None


def read_text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or "\0" in value or not value.strip():
        raise ValueError
    return value


def _read_optional_text(value: object) -> str | None:
    return None if value is None or value == "" else read_text(value)


def _read_server_name(value: object) -> str:
    # RFC 9110, section 10.2.4: names and comments; nothing that a header field could not have.
    if not isinstance(value, str) or not (value.isascii() and value.isprintable()) or len(value) > MOST_SERVER_NAME:
        raise ValueError
    return value.strip()


def _show_optional(value: object) -> str:
    return "none" if value is None else str(value)


def _masked(value: object) -> object:
    """The same, with the values of keys such as ``password`` masked."""
    if isinstance(value, Mapping):
        return {
            key: MASK if _SECRET_KEY.search(str(key)) and each is not None else _masked(each)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(map(_masked, value)) if type(value) in (list, tuple) else value
    return value


def _show_mapping(value: object) -> str:
    return "none" if value is None else without_passwords(str(_masked(value)))


def without_passwords(text: str) -> str:
    """The text, with the passwords of URLs masked."""
    return _QUERY_PASSWORD.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1{MASK}@", text))


def _show_function(value: object) -> str:
    return "none" if value is None else str(getattr(value, "__name__", "a function"))


def choice(
    names: Sequence[str], expected: str, metavar: str, aliases: Mapping[str, str] | None = None
) -> SettingType[str]:
    """The type of a setting that is one of a few words; ``aliases`` are others that mean one of them."""

    def read(value: object) -> str:
        word = read_text(value).strip().lower()
        word = (aliases or {}).get(word, word)
        if word not in names:
            raise ValueError
        return word

    return SettingType(read, expected, metavar, choices=tuple(names))


def _read_cert_reqs(value: object) -> str:
    # The numbers are those of ssl.CERT_NONE, CERT_OPTIONAL and CERT_REQUIRED, as Gunicorn's files have them.
    if isinstance(value, str) and not value.strip().isdigit():
        word = value.strip().lower().removeprefix("ssl.").removeprefix("cert_")
        if word not in CERTIFICATE_DEMANDS:
            raise ValueError
        return word
    number = whole_number(value)
    if not 0 <= number < len(CERTIFICATE_DEMANDS):
        raise ValueError
    return CERTIFICATE_DEMANDS[number]


def _read_function(value: object) -> Callable[..., Any] | None:
    if value is None or callable(value):
        return value
    raise TypeError


CERTIFICATE_DEMANDS = ("none", "optional", "required")


def _read_mode(value: object) -> int:
    if isinstance(value, str):
        mode = int(value.strip(), 8)
    else:
        mode = whole_number(value)
    if not 0 <= mode <= 0o777:
        raise ValueError
    return mode


def _read_optional_mode(value: object) -> int | None:
    return None if value is None or value == "" else _read_mode(value)


def _show_optional_mode(mode: int | None) -> str:
    if mode is None:
        return "none"
    return f"0{mode:o}" if mode else "0"


def _read_id(value: object, current: Callable[[str], int]) -> int:
    if isinstance(value, str) and not value.strip().isdigit():
        return current(value.strip())
    # A number need not have a name: containers run under any.
    number = whole_number(value)
    if not 0 <= number <= _HIGHEST_ID:
        raise ValueError
    return number


def _uid_of(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ValueError from None


def _gid_of(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError from None


def _read_mapping(value: object) -> Mapping[str, Any] | None:
    if value is None or (isinstance(value, dict) and all(isinstance(key, str) for key in value)):
        return value or None
    raise TypeError


def _read_schemes(value: object) -> Mapping[str, str]:
    if isinstance(value, str):
        pairs = [part.partition("=") for part in _split_commas(value) if part]
        if not all(name and equals and said for name, equals, said in pairs):
            raise ValueError
        value = {name.strip(): said.strip() for name, _, said in pairs}
    if not isinstance(value, dict):
        raise TypeError
    if not all(isinstance(part, str) and part for pair in value.items() for part in pair):
        raise ValueError
    return dict(value)


SWITCH = SettingType(
    _read_switch, "true or false", "", lambda value: "true" if value else "false", unset=(None,)
)  # fmt: skip
WORKERS = SettingType(
    _read_workers, f"a number from 1 to {MOST_WORKERS}, a range such as 2..16, or auto", "N", choices=("auto",)
)
COUNT = _count(0, "a whole number from 0")
COUNT_FROM_ONE = _count(1, "a whole number from 1")
THREADS = SettingType(_zero_means(COUNT.read, 1), COUNT_FROM_ONE.expected, COUNT.metavar)
FIELDS = SettingType(_zero_means(COUNT.read, 32768), COUNT.expected, COUNT.metavar)
DURATION = SettingType(
    _read_seconds, "a time such as 30, 30s, 500ms, 2m or 1h", "TIME", show_duration, "seconds"
)  # fmt: skip
SIZE = SettingType(_read_bytes, "a size such as 8190, 512K, 512M or 1G", "SIZE", show_size, "bytes")
LINE_SIZE = SettingType(_zero_means(_read_bytes, 65536), SIZE.expected, SIZE.metavar, show_size, "bytes")
MEMORY = SettingType(_read_memory, "a size such as 512M or 1G, or a percentage such as 80%", "SIZE", show_size, "bytes")
ADDRESSES = SettingType(
    _read_addresses,
    "HOST:PORT, HOST, :PORT, [IPV6]:PORT, unix:PATH[,mode=0660][,user=NAME][,group=NAME], fd://N or fd://NAME",
    "ADDRESS",
    lambda addresses: ", ".join(map(str, addresses)),
    repeats=True,
    unset=(None,),
)
PATTERNS = SettingType(read_list, "a path, or a list of paths", "PATH", ", ".join, repeats=True)
PATHS = SettingType(
    _read_paths, "paths separated by commas, or a list of paths", "PATHS", ",".join, repeats=True, unset=(None,)
)
ASSIGNMENTS = SettingType(
    _read_assignments, "NAME=VALUE, or a list of these", "NAME=VALUE", _show_assignments, repeats=True
)
PEERS = SettingType(
    _read_peers, "addresses and networks such as 10.0.0.0/8, or *", "ADDRESSES", ",".join, unset=(None,)
)
TEXT = SettingType(read_text, "a text that is not empty", "TEXT", unset=(None, ""))
OPTIONAL_TEXT = SettingType(_read_optional_text, "a text", "TEXT", _show_optional)
SERVER_NAME = SettingType(_read_server_name, "a short text of ASCII characters", "TEXT", unset=(None,))
OPTIONAL_PATH = SettingType(_read_optional_text, "a path", "PATH", _show_optional)
FOLDER = SettingType(read_text, "the path of a folder", "PATH", unset=(None, ""))
LOG_FILE = SettingType(read_text, "a path, or - for standard error", "PATH", unset=(None, ""))
OPTIONAL_LOG_FILE = SettingType(_read_optional_text, "a path, or - for standard output", "PATH", _show_optional)
LOG_LEVEL = choice(
    ("debug", "info", "warning", "error", "critical"),
    "debug, info, warning, error or critical",
    "LEVEL",
    {"warn": "warning", "notset": "debug", "fatal": "critical"},
)
STREAM_BODY = choice(("off", "large", "all"), "off, large or all", "WHICH")
OPTIONAL_MODE = SettingType(_read_optional_mode, "an octal number from 0 to 777", "MODE", _show_optional_mode)
USER = SettingType(
    lambda value: _read_id(value, _uid_of), "the name of a user of this system, or a number", "USER", unset=(None,)
)
GROUP = SettingType(
    lambda value: _read_id(value, _gid_of), "the name of a group of this system, or a number", "GROUP", unset=(None,)
)
CERT_REQS = SettingType(_read_cert_reqs, "none, optional or required", "DEMAND", choices=CERTIFICATE_DEMANDS)
TLS_VERSION = choice(("1.2", "1.3"), "1.2 or 1.3", "VERSION")
FUNCTION = SettingType(_read_function, "a function, in the configuration file", "", _show_function)
MAPPING = SettingType(_read_mapping, "a dictionary, in the configuration file", "", _show_mapping)
SCHEMES = SettingType(
    _read_schemes,
    "a dictionary of header names and the values that mean https, or NAME=VALUE,...",
    "NAME=VALUE",
    lambda schemes: ",".join(f"{name}={value}" for name, value in schemes.items()),
)
