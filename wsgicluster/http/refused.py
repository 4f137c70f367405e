"""Describes bytes that are refused: the request line as far as it is known, and the protocol if it is another one.

For logs and the text of a response; nothing is decided by it.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from wsgicluster.errors import ForeignProtocol, ProtocolError
from wsgicluster.pattern import pattern

LINE_BYTES: Final = 1024
"""A request line is cut to this length."""

_HTTP_LINE = pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/[0-9.]+")
_HTTP_VERSION = pattern(rb"[A-Z]{3,} [^\r\n]* HTTP/1\.")
_UWSGI = pattern(rb"\x00..\x00.\x00[A-Z]", re.DOTALL)

_FOREIGN: Final = (
    # RFC 8446, section 5.1: a record of type handshake; the rest of it is not waited for.
    (pattern(rb"\x16(?:\x03|\Z)"), "a TLS hello (https)", " without TLS"),
    # RFC 9113, section 3.4.
    (pattern(rb"PRI \* HTTP/2"), "the preface of HTTP/2 (h2)", ""),
    # The PROXY protocol, section 2; the reader has dropped the part of version 2 that looks like empty lines.
    (pattern(rb"PROXY |(?:\r\n\r\n)?\x00\r\nQUIT"), "a header of the PROXY protocol", " (see proxy_protocol)"),
    (pattern(rb"SSH-\d"), "SSH", ""),
    (_UWSGI, "a uwsgi packet", " (see protocol)"),
    # RFC 1928, section 3, and SOCKS 4: CONNECT or BIND.
    (pattern(rb"\x05[\x01-\x0a]|\x04[\x01\x02]"), "SOCKS", ""),
    # RFC 1006, section 6: what begins a remote desktop session.
    (pattern(rb"\x03\x00"), "RDP", ""),
)


def request_line(data: bytes) -> str:
    """The first line received, after empty ones; not checked, and cut where it is long."""
    line = data.lstrip(b"\r\n")[:LINE_BYTES].partition(b"\n")[0]
    return line.removesuffix(b"\r").decode("latin-1")


def line_variables(line: str) -> dict[str, str]:
    """The variables of the environ for a request line, if it looks like one."""
    if not _HTTP_LINE.fullmatch(line):
        return {}
    method, target, version = line.split(" ")
    path, _, query = target.partition("?")
    return {
        "REQUEST_METHOD": method,
        "RAW_URI": target,
        "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": version,
    }


def named(error: ProtocolError, data: bytes, spoken: str) -> ProtocolError:
    """The same error, or one that names the protocol of ``data`` if it is a known one and not ``spoken``.

    The status is then 400, whatever it was; but HTTP/2 has a status of its own.
    """
    status = 505 if error.status == 505 else 400
    for form, name, advice in _FOREIGN:
        if form.match(data) and not (form is _UWSGI and spoken == "uwsgi"):
            return ForeignProtocol(status, name, spoken, advice)
    if spoken == "uwsgi" and _HTTP_VERSION.match(data):
        return ForeignProtocol(status, "HTTP", spoken, " (see protocol)")
    return error
