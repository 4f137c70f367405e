"""The kinds of settings: how a value is read wherever it is written, what is expected, and how it is shown.

A kind takes text (command line, environment) or a Python value (configuration file)
and returns the value itself. It knows no setting and looks at nothing but the
system's users and groups.
"""

import grp
import ipaddress
import math
import pwd
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from wsgicluster.settings.values import (
    Address,
    Automatic,
    MemoryShare,
    read_address,
    read_duration,
    read_share,
    read_size,
    show_duration,
    show_size,
    split_addresses,
)

T = TypeVar("T")


class WrongEntry(ValueError):
    """One entry of a list is wrong, and which value may be meant."""

    def __init__(self, entry: str, near: str = "") -> None:
        super().__init__(entry)
        self.entry = entry
        self.near = near


_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
MOST_WORKERS = 500
"""In a reload there may be twice as many for a while, and each needs a page of the scoreboard."""
_HIGHEST_ID = (1 << 32) - 2


@dataclass(frozen=True)
class Kind(Generic[T]):
    """``read`` raises ValueError or TypeError for what it does not accept; ``choices`` are there to suggest from."""

    read: Callable[[Any], T]
    expected: str
    metavar: str
    show: Callable[[T], str] = str
    unit: str = ""
    repeats: bool = False
    choices: tuple[str, ...] = ()


def _read_switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError


def whole(value: object) -> int:
    """A whole number. Raises ValueError or TypeError, as all that reads values does."""
    # True is an int for Python, but nobody means 1 by it here.
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    if isinstance(value, str) and not re.fullmatch(r"\s*-?\d+\s*", value, re.ASCII):
        raise ValueError
    return int(value)


def _count(least: int, expected: str, unit: str = "") -> Kind[int]:
    def read(value: object) -> int:
        number = whole(value)
        if number < least:
            raise ValueError
        return number

    return Kind(read, expected, "N", unit=unit)


def _read_workers(value: object) -> int:
    if isinstance(value, Automatic) or (isinstance(value, str) and value.strip().lower() == "auto"):
        return Automatic()
    number = whole(value)
    if not 1 <= number <= MOST_WORKERS:
        raise ValueError
    return number


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
    number = whole(value)
    if number < 0:
        raise ValueError
    return number


def _or_most(read: Callable[[object], int], most: int) -> Callable[[object], int]:
    """Where 0 stands for the most there is."""
    return lambda value: read(value) or most


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
    # Each entry of a list may hold several addresses too, as long as commas part them.
    entries = [part for entry in _texts(value, lambda text: [text]) for part in split_addresses(entry)]
    if not entries:
        raise ValueError
    return tuple(each(read_address, entries))


def each(read: Callable[[str], T], entries: Sequence[str]) -> Iterator[T]:
    """Every entry of a list, read. Raises WrongEntry for the first that cannot be."""
    for entry in entries:
        try:
            yield read(entry)
        except WrongEntry:
            raise
        except ValueError:
            # A number alone is meant as a port.
            raise WrongEntry(entry, f":{entry}" if entry.isdigit() and len(entry) <= 5 else "") from None


def read_list(value: object) -> tuple[str, ...]:
    """A list of texts, or one text that commas part."""
    return tuple(_texts(value, _split_commas))


def _read_paths(value: object) -> tuple[str, ...]:
    # Parted by commas even within a list, as the flag's arguments are one.
    return tuple(part for entry in read_list(value) for part in _split_commas(entry) if part)


def _read_assignments(value: object) -> tuple[str, ...]:
    return tuple(each(_read_assignment, read_list(value)))


def _read_assignment(text: str) -> str:
    name, equals, _ = text.partition("=")
    if not (name and equals) or "\0" in text:
        raise ValueError
    return text


def _read_peers(value: object) -> tuple[str, ...]:
    return tuple(each(_read_peer, [entry.strip() for entry in read_list(value)]))


def _read_peer(text: str) -> str:
    if text == "*":
        return text
    # In the form in which a peer's address is known, so that plain texts can be compared.
    if "/" not in text:
        address = ipaddress.ip_address(text)
        return str(_ipv4_of(address) or address)
    network = ipaddress.ip_network(text, strict=False)
    inner = _ipv4_of(network.network_address)
    return f"{inner}/{network.prefixlen - 96}" if inner is not None and network.prefixlen >= 96 else str(network)


def _ipv4_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The address within ::ffff:192.0.2.1, as a socket of IPv6 has it from a client of IPv4."""
    return address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None


def read_text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or "\0" in value or not value.strip():
        raise ValueError
    return value


def _read_optional_text(value: object) -> str | None:
    return None if value is None or value == "" else read_text(value)


def _show_optional(value: object) -> str:
    return "none" if value is None else str(value)


def _show_function(value: object) -> str:
    return "none" if value is None else str(getattr(value, "__name__", "a function"))


def choice(names: Sequence[str], expected: str, metavar: str) -> Kind[str]:
    """The kind of a setting that is one of a few words."""

    def read(value: object) -> str:
        word = read_text(value).strip().lower()
        if word not in names:
            raise ValueError
        return word

    return Kind(read, expected, metavar, choices=tuple(names))


def _read_cert_reqs(value: object) -> str:
    # The numbers are those of ssl.CERT_NONE, CERT_OPTIONAL and CERT_REQUIRED, with which Gunicorn's files say it.
    if isinstance(value, str) and not value.strip().isdigit():
        word = value.strip().lower().removeprefix("ssl.").removeprefix("cert_")
        if word not in CERTIFICATE_DEMANDS:
            raise ValueError
        return word
    number = whole(value)
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
        mode = whole(value)
    if not 0 <= mode <= 0o777:
        raise ValueError
    return mode


def _identity(value: object, current: Callable[[str], int]) -> int:
    if isinstance(value, str) and not value.strip().isdigit():
        return current(value.strip())
    # A number needs no name: containers run under any.
    number = whole(value)
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


SWITCH = Kind(_read_switch, "true or false", "", lambda value: "true" if value else "false")
WORKERS = Kind(_read_workers, f"a number from 1 to {MOST_WORKERS}, or auto", "N", choices=("auto",))
COUNT = _count(0, "a whole number from 0")
COUNT_FROM_ONE = _count(1, "a whole number from 1")
FIELDS = Kind(_or_most(COUNT.read, 32768), COUNT.expected, COUNT.metavar)
DURATION = Kind(
    _read_seconds, "a time such as 30, 30s, 500ms, 2m or 1h", "TIME", show_duration, "seconds"
)  # fmt: skip
SIZE = Kind(_read_bytes, "a size such as 8190, 512K, 512M or 1G", "SIZE", show_size, "bytes")
LINE_SIZE = Kind(_or_most(_read_bytes, 65536), SIZE.expected, SIZE.metavar, show_size, "bytes")
MEMORY = Kind(_read_memory, "a size such as 512M or 1G, or a part such as 80%", "SIZE", show_size, "bytes")
ADDRESSES = Kind(
    _read_addresses,
    "HOST:PORT, HOST, :PORT, [IPV6]:PORT, unix:PATH[,mode=0660][,user=NAME][,group=NAME], fd://N or fd://NAME",
    "ADDRESS",
    lambda addresses: ", ".join(map(str, addresses)),
    repeats=True,
)
PATTERNS = Kind(read_list, "a path, or a list of such", "PATH", ", ".join, repeats=True)
PATHS = Kind(_read_paths, "paths parted by commas, or a list of such", "PATHS", ",".join, repeats=True)
ASSIGNMENTS = Kind(_read_assignments, "NAME=VALUE, or a list of such", "NAME=VALUE", ", ".join, repeats=True)
PEERS = Kind(_read_peers, "addresses and networks such as 10.0.0.0/8, or *", "ADDRESSES", ",".join)
TEXT = Kind(read_text, "a text that is not empty", "TEXT")
OPTIONAL_TEXT = Kind(_read_optional_text, "a text", "TEXT", _show_optional)
OPTIONAL_PATH = Kind(_read_optional_text, "a path", "PATH", _show_optional)
FOLDER = Kind(read_text, "the path of a folder", "PATH")
LOG_FILE = Kind(read_text, "a path, or - for standard error", "PATH")
OPTIONAL_LOG_FILE = Kind(_read_optional_text, "a path, or - for standard output", "PATH", _show_optional)
LOG_LEVEL = choice(
    ("debug", "info", "warning", "error", "critical"), "debug, info, warning, error or critical", "LEVEL"
)
STREAM_BODY = choice(("off", "large", "all"), "off, large or all", "WHICH")
MODE = Kind(_read_mode, "an octal number from 0 to 777", "MODE", lambda mode: f"0{mode:o}" if mode else "0")
USER = Kind(lambda value: _identity(value, _uid_of), "the name of a user of this system, or a number", "USER")
GROUP = Kind(lambda value: _identity(value, _gid_of), "the name of a group of this system, or a number", "GROUP")
CERT_REQS = Kind(_read_cert_reqs, "none, optional or required", "DEMAND", choices=CERTIFICATE_DEMANDS)
TLS_VERSION = choice(("1.2", "1.3"), "1.2 or 1.3", "VERSION")
FUNCTION = Kind(_read_function, "a function, in the configuration file", "", _show_function)
MAPPING = Kind(_read_mapping, "a dictionary, in the configuration file", "", _show_optional)
SCHEMES = Kind(
    _read_schemes,
    "a dictionary of header names and the values that mean https, or NAME=VALUE,...",
    "NAME=VALUE",
    lambda schemes: ",".join(f"{name}={value}" for name, value in schemes.items()),
)
