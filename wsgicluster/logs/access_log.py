"""One line for each request, in a format of Gunicorn's atoms that is compiled once.

Lines are collected and written together, by a function that is passed in; this module
opens no file and knows no worker.
"""

import ast
import base64
import binascii
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import UsageError
from wsgicluster.pattern import pattern

Headers: TypeAlias = Sequence[tuple[str, str]]
LineOf: TypeAlias = Callable[[Mapping[str, object], str, Headers, int, float, float], str]
"""Parameters: environ, status, response headers, bytes sent, duration and time of day in seconds."""

_ATOMS = {
    "h": 'environ.get("REMOTE_ADDR") or "-"',
    "l": '"-"',
    "u": 'user_of(environ) if "HTTP_AUTHORIZATION" in environ else "-"',
    "t": "date_of(now)",
    "r": 'f\'{environ.get("REQUEST_METHOD")} {environ.get("RAW_URI")} {environ.get("SERVER_PROTOCOL")}\'',
    "m": 'environ.get("REQUEST_METHOD") or "-"',
    "U": 'environ.get("PATH_INFO") or "-"',
    "q": 'environ.get("QUERY_STRING") or ""',
    "H": 'environ.get("SERVER_PROTOCOL") or "-"',
    "s": 'status[:3] or "-"',
    "B": "sent_bytes",
    "b": 'str(sent_bytes) if sent_bytes else "-"',
    "f": 'environ.get("HTTP_REFERER") or "-"',
    "a": 'environ.get("HTTP_USER_AGENT") or "-"',
    "T": "int(duration_s)",
    "D": "int(duration_s * 1000000)",
    "M": "int(duration_s * 1000)",
    "L": 'f"{duration_s:.6f}"',
    "p": 'f"<{getpid()}>"',
}
"""Atom to the expression that computes it, from the parameters of `LineOf`."""

_NOTHING = '"-"'
_NAMED = pattern(r"\{([^{}]+)\}([ioe])")

_REFUSED_LINE = '(environ["REQUEST_LINE"] or "-")'
"""The same for ``r`` where there is no request."""

_PIECE = pattern(r"%(?:(%)|\((?:\{([^{}]+)\}([ioe])|([^(){}]+))\)([#0\- +]*\d*(?:\.\d+)?[sdrfgxi]))")
_FIELD_NAME = pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNPREFIXED = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class RequestFormat(Protocol):
    """Formats a request, by the parameters of `LineOf`; ``refused`` one of which little may be known."""

    @property
    def refused(self) -> LineOf: ...
    def __call__(
        self,
        environ: Mapping[str, object],
        status: str,
        headers: Headers,
        sent_bytes: int,
        duration_s: float,
        now: float,
    ) -> str: ...


@dataclass(frozen=True, slots=True)
class LineFormat:
    """A compiled format; its parameters are those of `LineOf`.

    ``plain`` formats the line of a harmless request; one that is not clean, or has more quotes than ``quotes``,
    is formatted by ``escaped`` instead. ``refused`` formats a request of which only ``REQUEST_LINE`` may be known.
    """

    plain: LineOf
    escaped: LineOf
    refused: LineOf
    quotes: int

    def __call__(
        self,
        environ: Mapping[str, object],
        status: str,
        headers: Headers,
        sent_bytes: int,
        duration_s: float,
        now: float,
    ) -> str:
        line = self.plain(environ, status, headers, sent_bytes, duration_s, now)
        # One check of the whole line is cheaper than one of each value; hardly a request needs more.
        if line.isascii() and line.isprintable() and "\\" not in line and line.count('"') == self.quotes:
            return line
        return self.escaped(environ, status, headers, sent_bytes, duration_s, now)


class RequestLog(Protocol):
    """Where requests are logged: by the thread that has run one; `flush` is called by the loop's."""

    def record(
        self, environ: dict[str, object], status: str, headers: Headers, sent_bytes: int, duration_s: float, now: float
    ) -> None:
        """Log one request and its response; ``now`` is seconds since the epoch."""

    def record_refused(self, environ: dict[str, object], status: str, sent_bytes: int, duration_s: float) -> None:
        """Log a request that was refused before the application ran; ``environ`` may be partial."""

    def flush(self) -> None:
        """Write what has been collected."""


class AccessLog:
    """Collects ``lines``; `flush` writes all of them at once."""

    def __init__(self, line_format: RequestFormat, write: Callable[[list[str]], object]) -> None:
        self.line_format = line_format
        self.lines: list[str] = []
        self._write = write

    def record(
        self, environ: dict[str, object], status: str, headers: Headers, sent_bytes: int, duration_s: float, now: float
    ) -> None:
        """Add the line of one request and its response; ``now`` is seconds since the epoch."""
        self.lines.append(self.line_format(environ, status, headers, sent_bytes, duration_s, now))

    def record_refused(self, environ: dict[str, object], status: str, sent_bytes: int, duration_s: float) -> None:
        """Add the line of a request that was refused before the application ran; ``environ`` may be partial."""
        self.lines.append(self.line_format.refused(environ, status, (), sent_bytes, duration_s, time.time()))

    def flush(self) -> None:
        """Write the collected lines."""
        lines = self.lines
        count = len(lines)
        if count:
            # A thread may add another line meanwhile: only those that are written are removed.
            self._write(lines[:count])
            del lines[:count]


class Atoms(dict[str, Any]):
    """All atoms of one request, and ``{NAME}i``, ``{NAME}o`` and ``{NAME}e`` when they are asked for.

    Texts are escaped as in a line of the access log. What is not known is ``-``.
    """

    def __init__(
        self,
        environ: Mapping[str, object],
        status: str,
        headers: Headers,
        sent_bytes: int,
        duration_s: float,
        now: float,
    ) -> None:
        super().__init__(_values_of_atoms()(environ, status, headers, sent_bytes, duration_s, now))
        if "REQUEST_LINE" in environ:  # refused: perhaps nothing else is known
            self["r"] = environ["REQUEST_LINE"] or "-"
        for name, value in self.items():
            if type(value) is str and not is_clean(value):
                self[name] = escape(value)
        self._environ = environ
        self._headers = headers

    def __missing__(self, atom: str) -> str:
        found = _NAMED.fullmatch(atom)
        if found is None:
            return "-"
        name, kind = found.groups()
        if kind == "e":
            value = _any_case(self._environ, name)
        elif kind == "o":
            value = _header(self._headers, name.lower())
        else:
            key = name.upper().replace("-", "_")
            value = str(self._environ.get(key if key in _UNPREFIXED else f"HTTP_{key}") or "-")
        return value if is_clean(value) else escape(value)

    def get(self, atom: str, default: Any = None) -> Any:
        """The value of an atom, or ``default`` where there is none."""
        value = self[atom]
        return default if value == "-" and atom not in self else value


@functools.cache
def _values_of_atoms() -> Callable[..., dict[str, Any]]:
    items = ", ".join(f"{name!r}: {expression}" for name, expression in _ATOMS.items())
    return function_of(parsed(f"{{{items}}}"))


def is_clean(text: str) -> bool:
    """Whether a text from a client can neither forge a line nor end its quotes."""
    return text.isascii() and text.isprintable() and "\\" not in text and '"' not in text


def compile_format(text: str) -> LineFormat:
    """A function that formats one request, and computes only the atoms that the format names.

    Values from clients cannot forge a line or end its quotes: control characters, quotes,
    backslashes and all that is not ASCII come out escaped. An unknown atom is ``-``. Raises UsageError for a
    format that cannot be read.
    """
    return _compiled(text, _pieces(text))


def check_format(text: str) -> None:
    """Raise UsageError for a format that cannot be read; compiles only one that may not suit its values."""
    pieces = _pieces(text)
    if any(isinstance(piece, tuple) and piece[1] != "%s" for piece in pieces):
        _compiled(text, pieces)


def _pieces(text: str) -> list[str | tuple[str, str]]:
    """Literals, and atoms as an expression and a conversion."""
    pieces: list[str | tuple[str, str]] = []
    at = 0
    for found in _PIECE.finditer(text):
        pieces.append(_literal(text[at : found.start()], text))
        at = found.end()
        if found[1]:
            pieces.append("%")
        else:
            pieces.append((_variable(found[2], found[3]) if found[2] else _atom(found[4]), "%" + found[5]))
    pieces.append(_literal(text[at:], text))
    return pieces


def _compiled(text: str, pieces: Sequence[str | tuple[str, str]]) -> LineFormat:
    quotes = sum(piece.count('"') for piece in pieces if isinstance(piece, str))
    try:
        line_format = _join(pieces, quotes)
        line_format({}, "200 OK", [], 0, 0.0, 0.0)
    except (TypeError, ValueError) as error:
        raise _wrong(text, str(error)) from error
    return line_format


def _join(pieces: Sequence[str | tuple[str, str]], quotes: int) -> LineFormat:
    template = "".join([piece.replace("%", "%%") if isinstance(piece, str) else piece[1] for piece in pieces])
    expressions = [piece[0] for piece in pieces if isinstance(piece, tuple)]
    of_refused = [_REFUSED_LINE if expression == f"({_ATOMS['r']})" else expression for expression in expressions]
    plain = function_of(ast.JoinedStr([_part(piece) for piece in pieces if piece]))
    return LineFormat(plain, _escaping(template, expressions), _escaping(template, of_refused), quotes)


def _escaping(template: str, expressions: Sequence[str]) -> LineOf:
    """A function that computes the expressions, and inserts them escaped into the template."""
    values_of = function_of(parsed(f"({''.join(expression + ', ' for expression in expressions)})"))

    def escaped(
        environ: Mapping[str, object], status: str, headers: Headers, sent_bytes: int, duration_s: float, now: float
    ) -> str:
        found = values_of(environ, status, headers, sent_bytes, duration_s, now)
        return template % tuple([escape(value) if isinstance(value, str) else value for value in found])

    return escaped


def _part(piece: str | tuple[str, str]) -> ast.expr:
    """A part of an f-string, which costs less than formatting with ``%``."""
    if isinstance(piece, str):
        return ast.Constant(piece)
    expression, conversion = piece
    if conversion != "%s":
        expression = f"{conversion!r} % ({expression},)"
    return ast.FormattedValue(parsed(expression), -1, None)


def parsed(expression: str) -> ast.expr:
    """The syntax tree of an expression."""
    return ast.parse(expression, mode="eval").body


def function_of(body: ast.expr, more: Mapping[str, object] | None = None) -> Callable[..., Any]:
    """A function of the parameters of `LineOf` that returns this expression; ``more`` are names it may use."""
    # Generated code needs no look-up and no call for each atom. It consists of the
    # expressions above and of valid field names; the text of the format is in it as constants only.
    parameters = "environ, status, headers, sent_bytes, duration_s, now"
    tree = ast.parse(f"lambda {parameters}: None", mode="eval")
    assert isinstance(tree.body, ast.Lambda)
    tree.body.body = body
    names: dict[str, object] = {
        "user_of": _user,
        "date_of": _dates(),
        "getpid": os.getpid,
        "header_of": _header,
        "variable_of": _any_case,
    }
    names.update(more or {})
    function: Callable[..., Any] = eval(compile(ast.fix_missing_locations(tree), "access_log_format", "eval"), names)
    return function


def _literal(literal: str, text: str) -> str:
    if "%" in literal:
        raise _wrong(text, repr(literal[literal.index("%") :][:20]))
    return literal


def _atom(name: str) -> str:
    # As in Gunicorn, where an application's own logger class may know more of them.
    return f"({_ATOMS.get(name, _NOTHING)})"


def _variable(name: str, kind: str) -> str:
    if kind == "e":
        return f"variable_of(environ, {name!r})"
    if not _FIELD_NAME.fullmatch(name):
        raise UsageError(f"access_log_format: {name!r}; expected the name of a header field")
    if kind == "o":
        return f"header_of(headers, {name.lower()!r})"
    key = name.upper().replace("-", "_")
    return f"(environ.get({key if key in _UNPREFIXED else 'HTTP_' + key!r}) or '-')"


def _wrong(text: str, what: str) -> UsageError:
    known = " ".join(_ATOMS)
    return UsageError(
        f"access_log_format: {what} in {text!r}; expected %(ATOM)s with one of {known} {{NAME}}i {{NAME}}o {{NAME}}e"
    )


def escape(text: str) -> str:
    """A text from a client as lines have it."""
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')


def content_length(headers: Headers) -> int | None:
    """The Content-Length among the headers of a response, None where there is none."""
    found = _header(headers, "content-length")
    return int(found) if found.isascii() and found.isdigit() else None


def _header(headers: Sequence[object], name: str) -> str:
    for item in headers:
        match item:
            # The application may have changed its list since it passed it to start_response.
            case (str(given), str(value)) if given.lower() == name:
                return value
    return "-"


def _any_case(environ: Mapping[str, object], name: str) -> str:
    value = environ.get(name, environ.get(name.upper()))
    return "-" if value is None else str(value)


def _user(environ: Mapping[str, object]) -> str:
    """The user name of basic authentication (RFC 7617), checked or not, or ``-``."""
    scheme, _, credentials = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    if scheme.lower() != "basic":
        return "-"
    try:
        name = base64.b64decode(credentials.strip(), validate=True).partition(b":")[0]
    except (binascii.Error, ValueError):  # the client sent invalid base64
        return "-"
    return name.decode("utf-8", "replace") or "-"


def _dates() -> Callable[[float], str]:
    """The time in the common log format; formatted once a second."""
    last, text = -1, ""

    def date_of(now: float) -> str:
        nonlocal last, text
        second = int(now)
        if second != last:
            moment = time.localtime(second)
            # Our own table of months: their names must not depend on the locale.
            text = time.strftime(f"[%d/{_MONTHS[moment.tm_mon - 1]}/%Y:%H:%M:%S %z]", moment)
            last = second
        return text

    return date_of
