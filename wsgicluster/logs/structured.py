"""Both logs as JSON or logfmt, in one schema.

``time`` (ISO 8601 with milliseconds), ``level``, ``logger`` and ``pid`` come first in each line. Those of requests
continue with `REQUEST_FIELDS`, those of the error log with ``message``.
"""

import ast
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from wsgicluster.dataclass import dataclass
from wsgicluster.logs.access_log import Headers, LineOf, function_of, parsed
from wsgicluster.logs.loggers import ACCESS_LOGGER
from wsgicluster.pattern import pattern


@dataclass(frozen=True)
class RequestField:
    """``expression`` is made of the parameters of `LineOf`; an ``optional`` field is not there where it is empty."""

    name: str
    expression: str
    is_text: bool = True
    optional: bool = False


REQUEST_FIELDS = (
    RequestField("client", 'environ["REMOTE_ADDR"]'),
    RequestField("method", 'environ["REQUEST_METHOD"]'),
    RequestField("path", 'environ["PATH_INFO"]'),
    RequestField("query", 'environ["QUERY_STRING"]'),
    RequestField("protocol", 'environ["SERVER_PROTOCOL"]'),
    RequestField("status", "status[:3]", is_text=False),
    RequestField("bytes", "sent_bytes", is_text=False),
    RequestField("duration_us", "int(duration_s * 1000000)", is_text=False),
    RequestField("user_agent", 'environ.get("HTTP_USER_AGENT", "")', optional=True),
    RequestField("referer", 'environ.get("HTTP_REFERER", "")', optional=True),
    RequestField("user", 'user_of(environ) if "HTTP_AUTHORIZATION" in environ else ""', optional=True),
    RequestField("request_id", 'environ.get("wsgicluster.request_id", "")', optional=True),
)

_OF_RECORDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_BARE = pattern(r"[!#-<>-\[\]-~]+")
"""What needs no quotes in logfmt: no space, quote, equals sign nor backslash."""

_KEY = pattern(r"[^A-Za-z0-9_.-]")


class StructuredRequests:
    """Formats requests as ``json`` or ``logfmt``: in one step if all texts are harmless, else value by value."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._plain = _plain(kind)
        expressions = "".join(f"({field.expression}), " for field in REQUEST_FIELDS)
        self._values_of = function_of(parsed(f"({expressions})"))
        self._time_of = times()
        self.refused: LineOf = self._escaped
        """Formats a request of which little may be known."""

    def __call__(
        self,
        environ: Mapping[str, object],
        status: str,
        headers: Headers,
        sent_bytes: int,
        duration_s: float,
        now: float,
    ) -> str:
        try:
            line = self._plain(environ, status, headers, sent_bytes, duration_s, now)
        except (KeyError, TypeError):
            line = None  # no request of ours: something is missing, or is not a text
        return line or self._escaped(environ, status, headers, sent_bytes, duration_s, now)

    def _escaped(
        self,
        environ: Mapping[str, object],
        status: str,
        headers: Headers,
        sent_bytes: int,
        duration_s: float,
        now: float,
    ) -> str:
        """What the plain function cannot write: with texts that need escapes, or that are UTF-8."""
        fields: dict[str, object] = {
            "time": self._time_of(now),
            "level": "info",
            "logger": ACCESS_LOGGER,
            "pid": os.getpid(),
        }
        known = defaultdict(str, environ)
        found = self._values_of(known, status, headers, sent_bytes, duration_s, now)
        for field, value in zip(REQUEST_FIELDS, found, strict=True):
            if field.is_text:
                if value or not field.optional:
                    fields[field.name] = _decoded(str(value or ""))
            else:
                fields[field.name] = int(value) if str(value).isdigit() else 0
        return line_of(self._kind, fields)


def _plain(kind: str) -> Callable[..., str | None]:
    """A function that formats a request; None where a text is not harmless.

    It is one f-string, and one check of all texts that are not ours.
    """
    before, after, comma, end = ('"', '":', ",", "}") if kind == "json" else ("", "=", " ", "")
    pieces: list[ast.expr] = [ast.FormattedValue(parsed("head_of(now)"), -1, None)]
    for field in REQUEST_FIELDS:
        key = comma + before + field.name + after
        if not field.is_text:
            pieces += (ast.Constant(key), ast.FormattedValue(parsed(field.expression), -1, None))
        elif field.optional:
            # Only a text can be added to others: what else the environ may have is formatted value by value.
            value = f"""({key + '"'!r} + {field.name} + '"' if ({field.name} := {field.expression}) else "")"""
            pieces.append(ast.FormattedValue(parsed(value), -1, None))
        else:
            value = f"({field.name} := {field.expression})"
            pieces += (ast.Constant(key + '"'), ast.FormattedValue(parsed(value), -1, None), ast.Constant('"'))
    pieces.append(ast.Constant(end))
    texts = [field.name for field in REQUEST_FIELDS if field.is_text]
    checked = ast.JoinedStr([ast.FormattedValue(ast.Name(name, ast.Load()), -1, None) for name in texts])
    test = parsed(
        "(line := 0) and (texts := 0).isascii() and texts.isprintable()"
        """ and '"' not in texts and '\\\\' not in texts"""
    )
    assert isinstance(test, ast.BoolOp)
    for node in ast.walk(test):
        if isinstance(node, ast.NamedExpr):
            node.value = ast.JoinedStr(pieces) if node.target.id == "line" else checked
    return function_of(ast.IfExp(test, ast.Name("line", ast.Load()), ast.Constant(None)), {"head_of": _heads(kind)})


def _heads(kind: str) -> Callable[[float], str]:
    """The fields that come first: formatted once in a millisecond, most of them once a second."""
    time_of, begin = times(), '{"time":"' if kind == "json" else 'time="'
    last, start, rest = -1, "", ""
    last_ms, head = -1, ""

    def head_of(now: float) -> str:
        nonlocal last, start, rest, last_ms, head
        now_ms = int(now * 1000)
        if now_ms == last_ms:
            return head
        second = int(now)
        if second != last:
            whole = time_of(second)
            start, zone = begin + whole[:20], whole[23:]
            if kind == "json":
                rest = f'{zone}","level":"info","logger":"{ACCESS_LOGGER}","pid":{os.getpid()}'
            else:
                rest = f'{zone}" level="info" logger="{ACCESS_LOGGER}" pid={os.getpid()}'
            last = second
        last_ms, head = now_ms, f"{start}{now_ms % 1000:03d}{rest}"
        return head

    return head_of


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
        return json.dumps(fields, default=str, separators=(",", ":"))
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
