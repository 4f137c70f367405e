"""An ID for each request, by which it is found in the logs of all servers that it passed.

It is in the environ, in the response, and after the request line wherever that is shown. Without
``request_id`` nothing of this is called.
"""

import os
import re
from collections.abc import Callable
from typing import Any

KEY = "wsgicluster.request_id"

LINE_BYTES = 200
"""A request line with an ID is cut to this length, since some log lines show no more, and the ID must be in it."""

_is_sane = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}").fullmatch


class RequestIds:
    """Adds IDs in the header field ``header``; with ``accepts`` those of trusted peers are kept."""

    def __init__(self, header: str, accepts: bool) -> None:
        self._header = header
        self._lower = header.lower()
        self._key = "HTTP_" + header.upper().replace("-", "_")
        self._accepts = accepts

    def identify(self, environ: dict[str, Any], trusted: bool, line: bytes) -> tuple[str, bytes]:
        """Add an ID to an environ; returns the field line for the server's own responses, and ``line`` with the ID."""
        name = environ.get(self._key, "") if self._accepts and trusted else ""
        if not _is_sane(name):
            name = os.urandom(16).hex()
        environ[KEY] = environ[self._key] = name
        room = LINE_BYTES - len(name) - 3
        if len(line) > room:
            line = line[: room - 3] + b"..."
        return f"{self._header}: {name}\r\n", b"%b [%b]" % (line, name.encode("ascii"))

    def wrap(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """The same application; its responses get the ID, unless they have one of their own."""

        def named(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            field = (self._header, environ[KEY])

            def start(status: str, headers: Any, exc_info: Any = None) -> Any:
                # Invalid headers are refused by start_response.
                if isinstance(headers, list) and not any(map(self._is_named, headers)):
                    headers = [*headers, field]
                return start_response(status, headers, exc_info)

            return application(environ, start)

        return named

    def _is_named(self, item: Any) -> bool:
        return isinstance(item, tuple) and isinstance(item[0] if item else None, str) and item[0].lower() == self._lower
