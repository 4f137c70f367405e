"""Both logs as JSON or logfmt, in one schema: what comes first is in each line, and what follows is of one log.

========== ============================================================
``time``   when it was logged, in ISO 8601 with milliseconds
``level``  debug, info, warning, error or critical
``logger`` the log's name
``pid``    the process
========== ============================================================
"""

import ast
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from wsgicluster.logs.access_log import Headers, LineFormat, LineOf, function_of, parsed
from wsgicluster.logs.loggers import ACCESS_LOGGER

_TEXT, _NUMBER = True, False

_REQUEST_FIELDS = (
    ("time", "time_of(now)", _TEXT),
    ("level", "'info'", _TEXT),
    ("logger", repr(ACCESS_LOGGER), _TEXT),
    ("pid", "getpid()", _NUMBER),
    ("client", 'environ.get("REMOTE_ADDR") or ""', _TEXT),
    ("user", 'user_of(environ) if "HTTP_AUTHORIZATION" in environ else ""', _TEXT),
    ("method", 'environ.get("REQUEST_METHOD") or ""', _TEXT),
    ("path", 'environ.get("PATH_INFO") or ""', _TEXT),
    ("query", 'environ.get("QUERY_STRING") or ""', _TEXT),
    ("protocol", 'environ.get("SERVER_PROTOCOL") or ""', _TEXT),
    ("status", 'status[:3] or "0"', _NUMBER),
    ("bytes", "sent_bytes", _NUMBER),
    ("duration_s", 'f"{duration_s:.6f}"', _NUMBER),
    ("referer", 'environ.get("HTTP_REFERER") or ""', _TEXT),
    ("user_agent", 'environ.get("HTTP_USER_AGENT") or ""', _TEXT),
    ("request_id", 'environ.get("wsgicluster.request_id") or ""', _TEXT),
)
"""Name, expression from the parameters of `LineOf`, and whether it is a text, of each field of a request."""

_OF_RECORDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_BARE = re.compile(r"[!#-<>-\[\]-~]+")
"""What needs no quotes in logfmt: no space, quote, equals sign nor backslash."""

_KEY = re.compile(r"[^A-Za-z0-9_.-]")


def compile_structured(kind: str) -> LineFormat:
    """The format of a request as ``json`` or ``logfmt``."""
    before, between, after = ('{"', '": ', "}") if kind == "json" else ("", "=", "")
    comma = ', "' if kind == "json" else " "
    pieces: list[ast.expr] = []
    literal, quotes = before, 0
    for name, expression, is_text in _REQUEST_FIELDS:
        mark = '"' if is_text else ""
        literal += name + between + mark
        quotes += literal.count('"')
        pieces += (ast.Constant(literal), ast.FormattedValue(parsed(expression), -1, None))
        literal = mark + comma
    literal = literal.removesuffix(comma) + after
    pieces.append(ast.Constant(literal))
    quotes += literal.count('"')
    names = {"time_of": times()}
    plain = function_of(ast.JoinedStr(pieces), names)
    expressions = "".join(f"({expression}), " for _, expression, _ in _REQUEST_FIELDS)
    values_of = function_of(parsed(f"({expressions})"), names)
    escaped = _escaping(values_of, kind)
    return LineFormat(plain, escaped, escaped, quotes)


def _escaping(values_of: Callable[..., tuple[Any, ...]], kind: str) -> LineOf:
    """A function for what the plain one cannot write: with texts that need escapes, or that are UTF-8."""

    def escaped(
        environ: Mapping[str, object], status: str, headers: Headers, sent_bytes: int, duration_s: float, now: float
    ) -> str:
        found = values_of(environ, status, headers, sent_bytes, duration_s, now)
        return line_of(
            kind,
            {
                name: _decoded(str(value)) if is_text else _number(value)
                for (name, _, is_text), value in zip(_REQUEST_FIELDS, found, strict=True)
            },
        )

    return escaped


class StructuredFormatter(logging.Formatter):
    """Formats records of the error log: ``message``, ``exception`` and ``stack``, and what ``extra`` has added."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self._time_of = times()

    def format(self, record: logging.LogRecord) -> str:
        """One line; raises TypeError or ValueError where the arguments do not fit the message."""
        fields: dict[str, object] = {
            "time": self._time_of(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        fields.update((name, value) for name, value in vars(record).items() if name not in _OF_RECORDS)
        return line_of(self._kind, fields)


def line_of(kind: str, fields: Mapping[str, object]) -> str:
    """The fields as one line of ``json`` or ``logfmt``."""
    if kind == "json":
        return json.dumps(fields, default=str)
    return " ".join(f"{_KEY.sub('_', str(name))}={_logfmt(value)}" for name, value in fields.items())


def _logfmt(value: object) -> str:
    text = str(value)
    return text if not isinstance(value, str) or _BARE.fullmatch(text) else json.dumps(text)


def _decoded(text: str) -> str:
    """A text of the environ, whose characters are bytes, in UTF-8 if these are that."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _number(value: object) -> int | float:
    text = str(value)
    try:
        return float(text) if "." in text else int(text)
    except ValueError:  # an application's own status
        return 0


def times() -> Callable[[float], str]:
    """The time in ISO 8601; all but the milliseconds is formatted once a second."""
    last, begin, zone = -1, "", ""

    def time_of(now: float) -> str:
        nonlocal last, begin, zone
        second = int(now)
        if second != last:
            moment = time.localtime(second)
            offset = time.strftime("%z", moment)
            begin, zone = time.strftime("%Y-%m-%dT%H:%M:%S.", moment), f"{offset[:3]}:{offset[3:]}"
            last = second
        return f"{begin}{int(now * 1000) % 1000:03d}{zone}"

    return time_of
