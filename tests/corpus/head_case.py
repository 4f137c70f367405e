"""A request head and what must become of it, and short ways to write such cases.

A case's ``raw`` is the head with its final empty line. What is expected is either all that the
head adds to `TEMPLATE`, with length and flags, or the status it is refused with. A refused head
has one fault only, so that the status says which one was seen.
"""

from dataclasses import dataclass, field
from typing import Any

from wsgicluster.http.head import HTTP_11, KEEP_ALIVE
from wsgicluster.http.limits import HeadLimits

TEMPLATE: dict[str, Any] = {"SCRIPT_NAME": "", "SERVER_NAME": "here", "wsgi.url_scheme": "http"}
KEPT = HTTP_11 | KEEP_ALIVE
SMALL = HeadLimits(line_bytes=64, fields=4, field_bytes=32, head_bytes=100, body_bytes=1000)


@dataclass(frozen=True)
class Head:
    """One case."""

    name: str
    raw: bytes
    refused: int = 0
    added: dict[str, str] = field(default_factory=dict)
    length: int = 0
    flags: int = KEPT
    limits: HeadLimits = field(default_factory=HeadLimits)
    script_name: str = ""


def lines(*given: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (*given, b""))


def get(*fields: bytes, line: bytes = b"GET /p HTTP/1.1", host: bytes | None = b"Host: h") -> bytes:
    return lines(line, *([] if host is None else [host]), *fields)


def post(*fields: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return get(*fields, line=b"POST /p " + version)


def environ(
    uri: str = "/p", path: str | None = None, query: str = "", method: str = "GET", **more: str
) -> dict[str, str]:
    """What a head adds to the template."""
    added = {
        "REQUEST_METHOD": method,
        "RAW_URI": uri,
        "PATH_INFO": uri if path is None else path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "h",
    }
    added.update(more)
    return added


def without_host(**more: str) -> dict[str, str]:
    added = environ(**more)
    del added["HTTP_HOST"]
    return added
