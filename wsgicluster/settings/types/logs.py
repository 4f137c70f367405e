"""The types of settings about logs and metrics that are sent: addresses, facilities, and which requests are logged.

As in `wsgicluster.settings.types.general`: text or a Python value in, the value out.
"""

import inspect
from typing import Any, NamedTuple

from wsgicluster.pattern import pattern
from wsgicluster.settings.types.general import SettingType, choice, read_list, read_text

FACILITIES = {
    "kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "security": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8,
    "cron": 9, "authpriv": 10, "ftp": 11, "local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20,
    "local5": 21, "local6": 22, "local7": 23,
}  # fmt: skip
"""Names and numbers of RFC 5424, section 6.2.1."""

SYSLOG_PORT = 514
STATSD_PORT = 8125
_HOST_AND_PORT = pattern(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/#\s]*))(?::(\d{1,5}))?")
_NAME = pattern(r"[A-Za-z_]\w*")


class LogAddress(NamedTuple):
    """Where lines or metrics are sent: ``kind`` is udp, tcp or unix, with -stream or -dgram where that is said.

    ``host`` is the path of a Unix socket.
    """

    kind: str
    host: str
    port: int

    def __str__(self) -> str:
        if self.kind.startswith("unix"):
            _, _, of = self.kind.partition("-")
            return f"unix://{self.host}{f'#{of}' if of else ''}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"


def _read_syslog_address(value: object) -> LogAddress:
    if isinstance(value, LogAddress):
        return value
    kind, mark, rest = read_text(value).strip().partition("://")
    if kind == "unix" and mark:
        path, hash_mark, of = rest.partition("#")
        if not path.startswith("/") or (hash_mark and of not in ("stream", "dgram")):
            raise ValueError
        return LogAddress(f"unix-{of}" if of else "unix", path, 0)
    if kind not in ("udp", "tcp"):
        raise ValueError
    return _tcp_or_udp(kind, rest, SYSLOG_PORT)


def _read_statsd_address(value: object) -> LogAddress | None:
    if value is None or value == "":
        return None
    if isinstance(value, LogAddress):
        return value
    text = read_text(value).strip()
    if text.startswith("unix:/"):
        return LogAddress("unix-dgram", "/" + text.removeprefix("unix:").lstrip("/"), 0)
    address = _tcp_or_udp("udp", text, STATSD_PORT)
    if not text or text.startswith(":"):
        raise ValueError
    return address


def _tcp_or_udp(kind: str, text: str, port: int) -> LogAddress:
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None or not 0 < int(found[3] or port) < 1 << 16:
        raise ValueError
    return LogAddress(kind, found[1] or found[2] or "localhost", int(found[3] or port))


def _read_prefix(value: object) -> str:
    return "" if value is None or value == "" else read_text(value)


def _read_tags(value: object) -> str:
    tags = _read_prefix(value)
    if not (tags.isascii() and tags.isprintable() and "|" not in tags):
        raise ValueError
    return tags


def _read_logger_class(value: object) -> Any:
    if value is None or value == "":
        return None
    if inspect.isclass(value):
        return value
    text = read_text(value).strip().removeprefix("egg:")
    if text == "simple":  # Gunicorn's old name of its own
        return "gunicorn.glogging.Logger"
    names = text.replace("#", ".").replace(":", ".").split(".")
    if len(names) < 2 or not all(map(_NAME.fullmatch, names)):
        raise ValueError
    return text


def _show_class(value: object) -> str:
    if value is None:
        return "none"
    return f"{value.__module__}.{value.__qualname__}" if inspect.isclass(value) else str(value)


def _read_portion(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    portion = float(value)
    if not 0.0 <= portion <= 1.0:
        raise ValueError
    return portion


def _read_paths(value: object) -> tuple[str, ...]:
    paths = read_list(value)
    if not all(path.startswith(("/", "*")) for path in paths):
        raise ValueError
    return paths


LOCAL_SYSLOG = LogAddress("udp", "localhost", SYSLOG_PORT)
SYSLOG_ADDRESS: SettingType[LogAddress] = SettingType(
    _read_syslog_address, "udp://HOST:PORT, tcp://HOST:PORT or unix://PATH, with #stream or #dgram", "ADDRESS"
)
FACILITY = choice(tuple(FACILITIES), "one of RFC 5424, such as user, daemon or local0", "FACILITY")
STATSD_ADDRESS: SettingType[LogAddress | None] = SettingType(
    _read_statsd_address,
    "HOST, HOST:PORT or unix://PATH",
    "ADDRESS",
    lambda address: "none" if address is None else str(address).removeprefix("udp://"),
)
PREFIX: SettingType[str] = SettingType(_read_prefix, "a text", "TEXT", lambda prefix: prefix or "none")
TAGS: SettingType[str] = SettingType(
    _read_tags, "tags separated by commas, such as env:live,shop", "TAGS", lambda tags: tags or "none"
)
LOGGER_CLASS: SettingType[Any] = SettingType(
    _read_logger_class, "a class of Gunicorn's interface, or module.Class", "CLASS", _show_class
)
FORMAT = choice(("text", "json", "logfmt"), "text, json or logfmt", "FORMAT")
PATHS: SettingType[tuple[str, ...]] = SettingType(
    _read_paths, "paths such as /healthz, or patterns such as /static/*", "PATHS", ",".join
)
PORTION: SettingType[float] = SettingType(_read_portion, "a number from 0 to 1", "PORTION", lambda p: f"{p:g}")
