"""A request as nginx's ``uwsgi_pass`` sends it: a packet of CGI variables, and the body behind it.

The packet is modifier1, the size of the variables (16 bits, little endian), modifier2, then the variables:
key and value, each with its size before it (16 bits, little endian). See "The uwsgi Protocol" of the uWSGI project.

The peer is a gateway that has parsed an HTTP request, so its path, addresses and scheme are taken over unchecked.
That the peer is trusted is checked elsewhere. Strict in all that two parsers could read
differently; the limits are those of `wsgicluster.http.head` with the same statuses, as the client can reach them.
"""

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from wsgicluster.errors import ProtocolError
from wsgicluster.http.connection import RequestReader
from wsgicluster.http.grammar import HOST, TARGET, TOKEN, VERSION
from wsgicluster.http.head import IS_HEAD, apply_script_name
from wsgicluster.http.limits import HeadLimits

HEADER_BYTES: Final = 4
"""The header before the variables."""

_LENGTH_DIGITS = 18
_SINGLE = frozenset(("HTTP_HOST", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"))
# What a path may hold unencoded (RFC 3986, section 3.3), beside the unreserved characters.
_PATH_SAFE = "/:@!$&'()*+,;="

_match_key = re.compile("[A-Z][A-Z0-9_]*").fullmatch
_find_break = re.compile("[\x00\r\n]").search

# Keys repeat from request to request, so each is checked once.
_known_keys: set[str] = set()
_KEYS_LIMIT = 1024
_KEY_CHARACTERS = 64


def read_uwsgi(
    data: bytes, start: int, template: dict[str, Any], limits: HeadLimits
) -> tuple[dict[str, Any], int, int, int] | None:
    """The environ, body length, flags and size in bytes of the packet at ``data[start]``; None while it is incomplete.

    The environ is a copy of ``template`` with the gateway's variables, which win over the template's; a header field
    that is given several times is joined, as `wsgicluster.http.head` does it. Of the flags (see there) only IS_HEAD
    is ever set: a gateway makes a connection for each request, and reads chunks as a part of the body, so that
    a body without a length ends with the connection, as in HTTP/1.0.
    Raises ProtocolError: 400, 411, 413, 414, 431 and 501 as for a head.
    """
    header = data[start : start + HEADER_BYTES]
    if not header:
        return None
    if header[0]:
        raise ProtocolError(400, f"the uwsgi packet has modifier1 {header[0]}, of which only 0 (WSGI) is supported")
    if len(header) < HEADER_BYTES:
        return None
    size = header[1] | header[2] << 8
    if header[3]:
        raise ProtocolError(400, f"the uwsgi packet has modifier2 {header[3]}, of which only 0 is supported")
    if size > limits.head_bytes:
        raise ProtocolError(431, "the uwsgi variables are too large")
    used = HEADER_BYTES + size
    if len(data) - start < used:
        return None
    variables, repeated = _read_variables(data[start + HEADER_BYTES : start + used], limits.field_bytes)
    if size > limits.plain_bytes or len(variables) + repeated > limits.fields:
        _check_sizes(variables, repeated, limits)
    environ = template.copy()
    environ.update(variables)
    _set_addresses(environ, variables, template)
    _set_request(environ, variables)
    _set_scheme(environ, variables)
    length = _set_framing(environ, limits)
    return environ, length, IS_HEAD if environ["REQUEST_METHOD"] == "HEAD" else 0, used


def _read_variables(block: bytes, field_bytes: int) -> tuple[dict[str, str], int]:
    """The variables, and how many of them were repeated and have been joined."""
    text = block.decode("latin-1")
    size = len(block)
    variables: dict[str, str] = {}
    position = repeated = 0
    try:
        while position < size:
            key_end = position + 2 + (block[position] | block[position + 1] << 8)
            value_end = key_end + 2 + (block[key_end] | block[key_end + 1] << 8)
            key = text[position + 2 : key_end]
            if key not in _known_keys:
                _check_key(key)
            value = text[key_end + 2 : value_end]
            if key.startswith("HTTP_"):
                # RFC 9110, section 5.5; nginx leaves tabs where they are.
                value = value.strip(" \t")
            # The same size as a field line: "HTTP_" is not in it, ": " is.
            if len(key) - 3 + len(value) > field_bytes and key.startswith("HTTP_"):
                raise ProtocolError(431, "a header field is too large")
            if key in variables:
                value = _join(key, variables[key], value)
                repeated += 1
            variables[key] = value
            position = value_end
    except IndexError:
        position = size + 1  # a size, or a key, that ends after the block
    if position != size:
        raise ProtocolError(400, "the uwsgi variables do not fill their packet")
    if _find_break("".join(variables.values())):
        raise ProtocolError(400, "a uwsgi variable's value has a NUL, CR or LF")
    return variables, repeated


def _join(key: str, first: str, second: str) -> str:
    # nginx before 1.23 forwards the lines of a field as received (RFC 9110, section 5.3). Of anything else it is
    # not known which of the two is meant.
    if not key.startswith("HTTP_") or key in _SINGLE:
        raise ProtocolError(400, f"the uwsgi variable {key} is given twice")
    return f"{first}; {second}" if key == "HTTP_COOKIE" else f"{first},{second}"


def _check_key(key: str) -> None:
    # Also keeps the gateway from setting the server's own: wsgi.input and the like.
    if not _match_key(key):
        raise ProtocolError(400, "a uwsgi variable's name is not made of capital letters, digits and underscores")
    if len(_known_keys) < _KEYS_LIMIT and len(key) <= _KEY_CHARACTERS:
        _known_keys.add(key)


def _check_sizes(variables: dict[str, str], repeated: int, limits: HeadLimits) -> None:
    """Check what comes from the client's head against its limits; what the gateway adds is bounded by the packet."""
    line = [variables.get(key, "") for key in ("REQUEST_METHOD", "REQUEST_URI", "SERVER_PROTOCOL")]
    if len(" ".join(line)) > limits.line_bytes:
        raise ProtocolError(414, "the request line is too long")
    if sum(key.startswith("HTTP_") for key in variables) + repeated > limits.fields:
        raise ProtocolError(431, "there are too many header fields")


def _set_addresses(environ: dict[str, Any], variables: dict[str, str], template: dict[str, Any]) -> None:
    if "REMOTE_ADDR" in variables:
        # Not the port of the gateway with the address of its client.
        environ["REMOTE_PORT"] = port = variables.get("REMOTE_PORT", "")
        if port and not (port.isascii() and port.isdigit()):
            raise ProtocolError(400, "the uwsgi variable REMOTE_PORT is not a number")
    for key in ("SERVER_NAME", "SERVER_PORT"):
        if not environ[key]:
            # PEP 3333: never empty; but the gateway may have no name.
            environ[key] = template[key]


def _set_request(environ: dict[str, Any], variables: dict[str, str]) -> None:
    """Check method, protocol and Host; complete path, query and ``RAW_URI``."""
    method = variables.get("REQUEST_METHOD")
    if not method:
        raise ProtocolError(400, "the uwsgi variable REQUEST_METHOD is missing")
    if not TOKEN.fullmatch(method):
        raise ProtocolError(400, "the method is not a token")
    if method == "CONNECT":
        raise ProtocolError(501, "CONNECT is not supported")
    protocol = variables.get("SERVER_PROTOCOL")
    if not protocol:
        raise ProtocolError(400, "the uwsgi variable SERVER_PROTOCOL is missing")
    if not VERSION.fullmatch(protocol):
        raise ProtocolError(400, "the protocol version is malformed")
    if not HOST.fullmatch(variables.get("HTTP_HOST", "")):
        raise ProtocolError(400, "Host is invalid")
    target = variables.get("REQUEST_URI")
    if target and not TARGET.fullmatch(target):
        raise ProtocolError(400, "the request target has a character that must be encoded")
    if environ["SCRIPT_NAME"][:1] not in ("", "/"):
        raise ProtocolError(400, "the uwsgi variable SCRIPT_NAME does not begin with a slash")
    path, _, query = (target or "").partition("?")
    environ.setdefault("QUERY_STRING", query)
    if "PATH_INFO" in variables:
        if variables["PATH_INFO"][:1] not in ("", "/") and (variables["PATH_INFO"], method) != ("*", "OPTIONS"):
            raise ProtocolError(400, "the path does not begin with a slash")
        if environ["SCRIPT_NAME"] and "SCRIPT_NAME" not in variables:
            _enter_given_path(environ, path)
    elif target:
        _derive_path(environ, path)
    else:
        raise ProtocolError(400, "the uwsgi variables REQUEST_URI and PATH_INFO are both missing")
    environ["RAW_URI"] = target or _quoted_target(environ) or "/"


def _enter_given_path(environ: dict[str, Any], target_path: str) -> None:
    """Remove a ``SCRIPT_NAME`` that the gateway did not send from its path, unless the gateway has done so."""
    place, whole = environ["SCRIPT_NAME"] + "/", unquote_to_bytes(target_path).decode("latin-1") + "/"
    if (environ["PATH_INFO"] + "/").startswith(place) or not whole.startswith(place):
        apply_script_name(environ)


def _derive_path(environ: dict[str, Any], path: str) -> None:
    if path[:1] == "/":
        path = unquote_to_bytes(path).decode("latin-1")
    elif path != "*" or environ["REQUEST_METHOD"] != "OPTIONS":
        raise ProtocolError(400, "the request target is not a path")
    environ["PATH_INFO"] = path
    if environ["SCRIPT_NAME"]:
        apply_script_name(environ)


def _quoted_target(environ: dict[str, Any]) -> str:
    """The request target that the gateway did not send, rebuilt from path and query."""
    path = environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"]
    query = environ["QUERY_STRING"]
    return quote_from_bytes(path.encode("latin-1"), _PATH_SAFE) + ("?" + query if query else "")


def _set_scheme(environ: dict[str, Any], variables: dict[str, str]) -> None:
    # HTTPS comes first: a gateway behind another one that ends TLS sets it by hand, while REQUEST_SCHEME
    # still names the scheme between the two.
    if variables.get("HTTPS", "").lower() in ("on", "1"):
        environ["wsgi.url_scheme"] = "https"
        return
    scheme = variables.get("REQUEST_SCHEME")
    if scheme:
        if scheme not in ("http", "https"):
            raise ProtocolError(400, "the uwsgi variable REQUEST_SCHEME is neither http nor https")
        environ["wsgi.url_scheme"] = scheme


def _set_framing(environ: dict[str, Any], limits: HeadLimits) -> int:
    """The body's length; removes other fields about it from the environ."""
    # nginx also sends these two as fields of the client; PEP 3333 has each only without HTTP_.
    environ.pop("HTTP_CONTENT_LENGTH", None)
    environ.pop("HTTP_CONTENT_TYPE", None)
    # RFC 9112, section 7.1.3: nginx decodes a chunked body and counts it, but still forwards the field. With a
    # length it is stale: applications that see both may use the wrong one. Without one, the body's size is only
    # known from its framing, which this protocol does not have.
    coding = environ.pop("HTTP_TRANSFER_ENCODING", "")
    digits = environ.pop("CONTENT_LENGTH", "")
    if not digits:
        if coding:
            raise ProtocolError(411, "the gateway forwards a Transfer-Encoding, but no CONTENT_LENGTH")
        return 0
    if not (digits.isascii() and digits.isdigit()):
        raise ProtocolError(400, "Content-Length is not a number")
    digits = digits.lstrip("0") or "0"
    if len(digits) > _LENGTH_DIGITS:
        raise ProtocolError(413, "the body is too large")
    length = int(digits)
    if 0 < limits.body_bytes < length:
        raise ProtocolError(413, "the body is too large")
    environ["CONTENT_LENGTH"] = digits
    return length


class UwsgiReader(RequestReader):
    """The request of one connection, as `RequestReader` would read it from HTTP; ``line`` is that of the client.

    ``on_head``, where it is set, is called with the environ as soon as the head is complete.
    """

    __slots__ = ("on_head",)

    spoken = "uwsgi"

    on_head: Callable[[dict[str, Any]], object] | None

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.on_head = None

    def close(self) -> None:
        """Free what an unfinished request uses, and drop the reference to ``on_head``."""
        self.on_head = None
        super().close()

    def _read_head(self, data: bytes, _searched: int) -> bool:
        self.rest = data
        found = read_uwsgi(data, 0, self.template, self.limits)
        if found is None:
            return False
        environ, length, self.flags, used = found
        self.environ = environ
        line = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"
        self.line = line.encode("latin-1")
        if self.on_head is not None:
            self.on_head(environ)
        if length:
            return self._begin_body(data, used, length)
        self.body = None
        self.rest = data[used:]
        return True
