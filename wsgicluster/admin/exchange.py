"""A request to the admin worker and its response, as values and as bytes. Pure."""

import http
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from wsgicluster.dataclass import dataclass

JSON_TYPE = "application/json"
_STALE = ("Cache-Control", "no-store")
_NO_SNIFF = ("X-Content-Type-Options", "nosniff")


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """One request; ``peer`` is who has sent it, for the log, ``environ`` the variables of PEP 3333."""

    method: str
    path: str
    environ: Mapping[str, Any]
    body: bytes = b""
    peer: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, Any], body: bytes, peer: str) -> "AdminRequest":
        """From what the parser has made of the head."""
        return cls(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ, body, peer)

    def field(self, name: str) -> str:
        """A field of the head, or empty."""
        return str(self.environ.get(f"HTTP_{name.upper().replace('-', '_')}", ""))

    def query(self) -> dict[str, str]:
        """The arguments after the question mark, the last one of each name."""
        return dict(urllib.parse.parse_qsl(self.environ.get("QUERY_STRING", "")))


@dataclass(frozen=True, slots=True)
class AdminResponse:
    """A response: ``body`` is all of it, or ``stream`` gives one piece after the other until the connection closes."""

    status: int
    content_type: str
    body: bytes = b""
    fields: tuple[tuple[str, str], ...] = ()
    stream: Iterator[bytes] | None = None

    def head(self, *, keep: bool) -> bytes:
        """Status line and fields; ``keep`` says that the connection persists."""
        fields = [("Content-Type", self.content_type), _STALE, _NO_SNIFF, *self.fields]
        if self.stream is None:
            fields.append(("Content-Length", str(len(self.body))))
        fields.append(("Connection", "keep-alive" if keep else "close"))
        lines = [f"HTTP/1.1 {self.status} {http.HTTPStatus(self.status).phrase}"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in fields), "", ""]).encode("latin-1")


def json_response(status: int, value: object, fields: tuple[tuple[str, str], ...] = ()) -> AdminResponse:
    """A value as JSON, with a line feed for those who read it in a terminal."""
    return AdminResponse(status, JSON_TYPE, json.dumps(value, allow_nan=False).encode() + b"\n", fields)


def error_response(status: int, message: str, fields: tuple[tuple[str, str], ...] = ()) -> AdminResponse:
    """What was wrong, in one line."""
    return json_response(status, {"error": message}, fields)
