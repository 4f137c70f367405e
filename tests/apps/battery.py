"""An application of many small parts, each under wsgiref's validator and werkzeug's lint.

Both complain loudly: the validator raises, and lint's warnings are made errors
here, so that a server that breaks PEP 3333 responds with 500.
"""

import io
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from wsgiref.validate import validator

from werkzeug.middleware.lint import HTTPWarning, LintMiddleware, WSGIWarning

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

warnings.simplefilter("error", WSGIWarning)
warnings.simplefilter("error", HTTPWarning)

TEXT = ("Content-Type", "text/plain; charset=utf-8")
closed: list[str] = []


class Closing:
    """An iterable that remembers how often it was closed."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        closed.append("closed")


def plain(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    return [b"plain"]


def read(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    size = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(size) if size else b""
    start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
    return [body]


def read_all(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    # In pieces, to the end: a chunked body has no length.
    stream, pieces = environ["wsgi.input"], []
    while piece := stream.read(7):
        pieces.append(piece)
    start_response("200 OK", [TEXT])
    return [b"".join(pieces)]


def read_lines(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    stream = environ["wsgi.input"]
    first = stream.readline()
    rest = stream.readlines()
    start_response("200 OK", [TEXT])
    return [b"|".join([first, *rest])]


def read_iterated(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    lines = list(environ["wsgi.input"])
    start_response("200 OK", [TEXT])
    return [b"|".join(lines)]


def generated(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
    start_response("200 OK", [TEXT])
    yield b"one "
    yield b""
    yield b"two"


def written(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    write = start_response("200 OK", [TEXT])
    write(b"written ")
    return [b"returned"]


def nothing(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    # Lint wants the length said; the server must leave it out (RFC 9110, section 8.6).
    start_response("204 No Content", [("Content-Length", "0")])
    return []


def unmodified(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("304 Not Modified", [("ETag", '"one"')])
    return []


def empty(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [TEXT, ("Content-Length", "0")])
    return []


def file(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"f" * 100_000), 8192)
    return wrapped


def replaced(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    try:
        raise ValueError("found out in time")
    except ValueError:
        start_response("500 Internal Server Error", [TEXT], sys.exc_info())
    return [b"replaced"]


def close_once(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    return Closing([b"a", b"b"])


def count_closed(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    return [str(len(closed)).encode()]


def errors(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    stream = environ["wsgi.errors"]
    stream.write("a line for the error log \u2713\n")
    stream.writelines(["and ", "another\n"])
    stream.flush()
    start_response("200 OK", [TEXT])
    return [b"logged"]


PARTS: dict[str, "Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]"] = {
    "/" + part.__name__: part
    for part in (
        plain,
        read,
        read_all,
        read_lines,
        read_iterated,
        generated,
        written,
        nothing,
        unmodified,
        empty,
        file,
        replaced,
        close_once,
        count_closed,
        errors,
    )
}


def route(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """The part that the path names."""
    return PARTS[environ["PATH_INFO"]](environ, start_response)


validated: "WSGIApplication" = validator(route)
linted: "WSGIApplication" = LintMiddleware(route)
