"""Values of settings that are more than a number or a text, and the forms in which they are written.

Pure: reads no file, no environment and no other setting. The readers take text and
raise ValueError without a text; the caller, who knows the setting, adds what was expected.
"""

import math
import re

from wsgicluster.dataclass import dataclass
from wsgicluster.pattern import pattern

DEFAULT_PORT = 8000
HIGHEST_PORT = 65535
SOCKET_PATH_BYTES = 107
"""The longest path that ``sockaddr_un`` has room for."""

_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = pattern(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", re.ASCII)
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = pattern(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_PERCENT = pattern(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)
_RANGE = pattern(r"(\d{1,4})\s*\.\.\s*(\d{1,4})", re.ASCII)
_HOST = pattern(r"[A-Za-z0-9._*-]+")
_HOST_V6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?")
_FD_NAME = pattern(r"[A-Za-z0-9_.@][A-Za-z0-9_.@-]{0,254}")
_UNIX_OPTION = pattern(r"\s*(mode|user|group)=")


class InvalidValue(ValueError):
    """A text has the right form but an invalid value; the error's text says what is expected."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a TCP port; port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a Unix socket, and mode and owner of its file where they are set."""

    path: str
    mode: int | None = None
    user: str | None = None
    group: str | None = None

    def __str__(self) -> str:
        mode = "" if self.mode is None else f",mode=0{self.mode:o}"
        user = "" if self.user is None else f",user={self.user}"
        group = "" if self.group is None else f",group={self.group}"
        return f"unix:{self.path}{mode}{user}{group}"


@dataclass(frozen=True, slots=True)
class FdAddress:
    """A socket that listens already, inherited under this descriptor."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


@dataclass(frozen=True, slots=True)
class NamedFdAddress:
    """The sockets that a service manager passes under this name."""

    name: str

    def __str__(self) -> str:
        return f"fd://{self.name}"


Address = TcpAddress | UnixAddress | FdAddress | NamedFdAddress


class Automatic(int):
    """One for each usable processor; counts as 1 until it is resolved."""

    def __new__(cls) -> "Automatic":
        return super().__new__(cls, 1)

    def __str__(self) -> str:
        return "auto"

    __repr__ = __str__


class WorkerRange(int):
    """From so many workers, which it counts as, to ``most``: as many as there is work for."""

    most: int

    def __new__(cls, least: int, most: int) -> "WorkerRange":
        found = super().__new__(cls, least)
        found.most = most
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorkerRange) and int(self) == int(other) and self.most == other.most

    def __ne__(self, other: object) -> bool:
        return not self == other  # int has its own

    def __hash__(self) -> int:
        return hash((int(self), self.most))

    def __str__(self) -> str:
        return f"{int(self)}..{self.most}"

    __repr__ = __str__


class MemoryShare(int):
    """A percentage of the usable memory; counts as 0 bytes, which means no limit, until it is resolved."""

    percent: float

    def __new__(cls, percent: float) -> "MemoryShare":
        share = super().__new__(cls, 0)
        share.percent = percent
        return share

    def of(self, memory_bytes: int, workers: int) -> int:
        """One worker's part in bytes."""
        return max(1, int(memory_bytes * self.percent / 100) // workers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemoryShare) and self.percent == other.percent

    def __ne__(self, other: object) -> bool:
        return not self == other  # int has its own

    def __hash__(self) -> int:
        return hash(("MemoryShare", self.percent))

    def __str__(self) -> str:
        return f"{self.percent:g}%"

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Portion:
    """A number of workers: ``number`` itself, or that percentage of them."""

    number: float
    percent: bool = False

    def of(self, workers: int) -> int:
        """The number for this many workers, rounded up."""
        return math.ceil(workers * self.number / 100) if self.percent else int(self.number)

    def __str__(self) -> str:
        return f"{self.number:g}%" if self.percent else str(int(self.number))


def read_worker_range(text: str) -> WorkerRange | int:
    """``2..16``; a plain number where both are the same."""
    found = _RANGE.fullmatch(text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError
    least, most = int(found[1]), int(found[2])
    return WorkerRange(least, most) if least < most else least


def read_portion(text: str) -> Portion:
    """``2``, ``25%``."""
    found = _PERCENT.fullmatch(text.strip())
    if found is not None and float(found[1]) <= 100:
        return Portion(float(found[1]), percent=True)
    if not re.fullmatch(r"\d{1,4}", text.strip(), re.ASCII):
        raise ValueError
    return Portion(int(text))


def read_duration(text: str) -> float:
    """Seconds of ``30``, ``30s``, ``500ms``, ``2m``, ``1h``."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or not math.isfinite(float(found[1])):
        raise ValueError
    return float(found[1]) * _SECONDS[found[2]]


def show_duration(seconds: float) -> str:
    """The shortest form that `read_duration` reads back."""
    return f"{seconds:.10g}"


def read_size(text: str) -> int:
    """Bytes of ``8190``, ``512K``, ``512M``, ``1G``."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError
    return int(found[1]) * _BYTES[found[2].upper()]


def show_size(limit_bytes: int) -> str:
    """The size with the largest unit that leaves a whole number."""
    if isinstance(limit_bytes, MemoryShare):
        return str(limit_bytes)
    for unit in ("T", "G", "M", "K"):
        if limit_bytes and limit_bytes % _BYTES[unit] == 0:
            return f"{limit_bytes // _BYTES[unit]}{unit}"
    return str(limit_bytes)


def read_share(text: str) -> MemoryShare:
    """``80%``."""
    found = _PERCENT.fullmatch(text.strip())
    if found is None or not 0 < float(found[1]) <= 100:
        raise ValueError
    return MemoryShare(float(found[1]))


def split_addresses(text: str) -> list[str]:
    """A text split at commas, but for those before the options of a Unix socket."""
    parts: list[str] = []
    for part in text.split(","):
        if parts and parts[-1].lstrip().startswith(("unix:", "/")) and _UNIX_OPTION.match(part):
            parts[-1] += "," + part
        else:
            parts.append(part)
    return [part.strip() for part in parts]


def read_address(text: str) -> Address:
    """An address in the form of ``bind``."""
    text = text.strip()
    if text.startswith("unix:"):
        return _read_unix(text.removeprefix("unix:"))
    if text.startswith("/"):
        return _read_unix(text)
    if text.startswith("fd://"):
        return _read_fd(text.removeprefix("fd://"))
    return _read_tcp(text.removeprefix("tcp://"))


def _read_fd(text: str) -> FdAddress | NamedFdAddress:
    if not text.isdigit() and _FD_NAME.fullmatch(text):
        return NamedFdAddress(text)
    return FdAddress(_number(text, 1 << 20))


def _read_tcp(text: str) -> TcpAddress:
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        if not closing or not _HOST_V6.fullmatch(host) or (rest and not rest.startswith(":")):
            raise ValueError
        return TcpAddress(host, _port(rest[1:]) if rest else DEFAULT_PORT)
    host, colon, port = text.partition(":")
    if not colon and host.isdigit():
        raise ValueError  # probably a port, but it could be the name of a host
    if host and not _HOST.fullmatch(host):
        raise ValueError
    if (not host and not colon) or host == "fd":
        raise ValueError  # empty, or fd:N for fd://N
    return TcpAddress(host if host not in ("", "*") else "0.0.0.0", _port(port) if colon else DEFAULT_PORT)


def _port(text: str) -> int:
    if text.isdecimal() and text.isascii() and int(text) > HIGHEST_PORT:
        raise InvalidValue(f"a port from 0 to {HIGHEST_PORT}")
    return _number(text, HIGHEST_PORT)


def _read_unix(text: str) -> UnixAddress:
    path, *options = text.split(",")
    path = path.removeprefix("//")
    if not path or "\0" in path:
        raise ValueError
    size = len(path.encode("utf-8", "surrogateescape"))
    if size > SOCKET_PATH_BYTES:
        raise InvalidValue(f"a path of at most {SOCKET_PATH_BYTES} bytes for a Unix socket (this one has {size})")
    given: dict[str, str] = {}
    for option in options:
        name, _, value = option.strip().partition("=")
        if name not in ("mode", "user", "group") or name in given or not value:
            raise ValueError
        given[name] = value
    mode = int(given["mode"], 8) if "mode" in given else None
    if mode is not None and not 0 <= mode <= 0o777:
        raise ValueError
    return UnixAddress(path, mode, given.get("user"), given.get("group"))


def _number(text: str, highest: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > highest:
        raise ValueError
    return int(text)
