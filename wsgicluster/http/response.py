"""The head of a response: checked, framed as far as the application framed it, and written as bytes.

Knows neither requests nor connections: the sender of the block decides whether a body is chunked and whether
the connection is kept, and adds the fields for it.
"""

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from wsgicluster.http.grammar import NOT_IN_VALUE, STATUS, TOKEN

HAS_DATE: Final = 1
HAS_SERVER: Final = 2
WANTS_CLOSE: Final = 4
NO_BODY: Final = 8
"""Responses with this status have no body (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5)."""

REASONS: dict[int, str] = {status.value: status.phrase for status in HTTPStatus}

# Kinds of field, beside HAS_DATE and HAS_SERVER; 0 is any other.
_LENGTH = 16
_CONNECTION = 17
_HOP_BY_HOP = 18
_KIND_OF_NAME = {
    "date": HAS_DATE,
    "server": HAS_SERVER,
    "content-length": _LENGTH,
    "connection": _CONNECTION,
    # RFC 9110, section 7.6.1, and PEP 3333: these belong to the connection, which is not the application's.
    "keep-alive": _HOP_BY_HOP,
    "proxy-connection": _HOP_BY_HOP,
    "te": _HOP_BY_HOP,
    "trailer": _HOP_BY_HOP,
    "transfer-encoding": _HOP_BY_HOP,
    "upgrade": _HOP_BY_HOP,
}

# An application's names and statuses repeat, so each is checked once. Values are checked each time.
_kinds: dict[str, int] = {}
_status_lines: dict[str, tuple[str, int]] = {}
_CACHE_LIMIT = 1024
_CACHED_CHARACTERS = 64

_USUAL_STATUSES = ("200 OK", "302 Found", "304 Not Modified", "404 Not Found")
_USUAL_NAMES = ("Content-Type", "Content-Length", "Location", "Set-Cookie", "Vary", "Cache-Control")

_LENGTH_DIGITS = 18
_SHOWN_CHARACTERS = 80

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_server = "Server: wsgicluster\r\n"


def prepare() -> None:
    """Remember what most responses have, and compile what checks it: before a fork, so that all children share it."""
    for status in _USUAL_STATUSES:
        format_response(status, [(name, "1") for name in _USUAL_NAMES])


def format_response(status: str, headers: list[tuple[str, str]]) -> tuple[bytes, int, int]:
    """Status line and field lines (no empty line), the announced length or -1, and the info bits.

    Fields that belong to the connection are omitted, and so is a length that the status forbids or fixes.
    Raises ValueError for what RFC 9110, section 5, does not allow, and TypeError for all that is not exactly ``str``,
    ``list`` and ``tuple``: `exact_head` converts what applications pass instead of them.
    """
    given: Any = headers
    if type(status) is not str or type(given) is not list:
        raise TypeError(f"start_response needs a str and a list, not {_type(status)} and {_type(given)}")
    known = _status_lines.get(status)
    text, info = _check_status(status) if known is None else known
    length = -1
    for item in given:
        try:
            name, value = item
        except (TypeError, ValueError):
            raise _no_pair(item) from None
        if type(name) is not str or type(value) is not str or type(item) is not tuple:
            raise _no_pair(item)
        try:
            kind = _kinds[name]
        except KeyError:
            kind = _kind_of(name)
        # Printable ASCII without a space at its ends needs no further check.
        if not (value.isascii() and value.isprintable()) or value.strip() != value:
            value = _checked_value(name, value)
        if kind:
            if kind == _LENGTH:
                if length < 0 and value.isdigit() and value.isascii() and len(value) <= _LENGTH_DIGITS:
                    length = int(value)
                else:
                    raise _no_length(name, value, length)
                if info & NO_BODY and not status.startswith("304"):
                    continue
            elif kind < _LENGTH:
                info |= kind
            else:
                if kind == _CONNECTION and "close" in [option.strip(" \t") for option in value.lower().split(",")]:
                    info |= WANTS_CLOSE
                continue
        text += f"{name}: {value}\r\n"
    if info & NO_BODY and not status.startswith("304"):
        # RFC 9110, section 8.6: a 204 has no Content-Length. Section 15.3.6: a 205 is framed like any other.
        length = -1
        if status.startswith("205"):
            length = 0
            text += "Content-Length: 0\r\n"
    return text.encode("latin-1"), length, info


def exact_head(status: Any, headers: Any) -> tuple[str, list[tuple[str, str]]]:
    """Status and headers as `format_response` accepts them, of subclasses of ``str`` and any iterable of pairs.

    Raises TypeError for everything else.
    """
    if not isinstance(status, str):
        raise TypeError(f"a status is a str, not {_type(status)}: {_shown(status)}")
    if isinstance(headers, str | bytes | Mapping):
        raise _no_list(headers)
    try:
        items = iter(headers)
    except TypeError:
        raise _no_list(headers) from None
    return _exact(status), [_exact_pair(item) for item in items]


def set_server(text: str) -> None:
    """How all responses of this process name the server from now on; an empty text leaves the field out."""
    global _server
    _server = f"Server: {text}\r\n" if text else ""


def server_field() -> str:
    """The line that names the server, with its CRLF."""
    return _server


def error_response(status: int, date: str, detail: str = "", fields: str = "") -> bytes:
    """A whole response of the server's own, after which the connection is closed; ``fields`` are further lines."""
    reason = REASONS.get(status, "")
    body = f"{status} {reason}: {detail}\n" if detail else f"{status} {reason}\n"
    content = body.encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\n{_server}Date: {date}\r\nConnection: close\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(content)}\r\n{fields}\r\n"
    )
    return head.encode("latin-1") + content


def http_date(seconds: float) -> str:
    """Seconds since the epoch as an IMF-fixdate (RFC 9110, section 5.6.7); strftime would use the locale."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


def _check_status(status: str) -> tuple[str, int]:
    if not STATUS.fullmatch(status):
        raise ValueError(f"a status is '200 OK' or the like, from 200 to 999, not {_shown(status)}")
    line = f"HTTP/1.1 {status}\r\n" if len(status) > 3 else f"HTTP/1.1 {status} \r\n"
    known = line, NO_BODY if status[:3] in ("204", "205", "304") else 0
    if len(_status_lines) < _CACHE_LIMIT and len(status) <= _CACHED_CHARACTERS:
        _status_lines[status] = known
    return known


def _kind_of(name: str) -> int:
    if not TOKEN.fullmatch(name):
        raise ValueError(f"a header's name is not a token: {_shown(name)}")
    kind = _KIND_OF_NAME.get(name.lower(), 0)
    if len(_kinds) < _CACHE_LIMIT and len(name) <= _CACHED_CHARACTERS:
        _kinds[name] = kind
    return kind


def _checked_value(name: str, value: str) -> str:
    """The value without the white space around it, which is not part of it (RFC 9110, section 5.5)."""
    if NOT_IN_VALUE.search(value):
        raise ValueError(f"header {name} has a control character in its value: {_shown(value)}")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"header {name} has a character beyond latin-1 in its value: {_shown(value)}") from None
    return value.strip(" \t")


def _no_length(name: str, value: str, known: int) -> ValueError:
    if known >= 0:
        return ValueError(f"header {name} is given twice, then as {_shown(value)}")
    return ValueError(f"header {name} is not a length in bytes: {_shown(value)}")


def _no_list(headers: object) -> TypeError:
    return TypeError(f"headers are a list of (name, value) tuples, not {_type(headers)}: {_shown(headers)}")


def _no_pair(item: object) -> TypeError:
    return TypeError(f"a header is a tuple of name and value, not {_shown(item)}")


def _exact_pair(item: Any) -> tuple[str, str]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise _no_pair(item)
    name, value = item
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"a header is a tuple of two str, not {_type(name)} and {_type(value)}: {_shown(item)}")
    return _exact(name), _exact(value)


def _exact(text: str) -> str:
    # The characters themselves: str() and f-strings call the subclass, which may return others than were checked.
    return str.__str__(text)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _type(value: object) -> str:
    return type(value).__name__
