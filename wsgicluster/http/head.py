"""A request's head, from the bytes as sent to the environ of PEP 3333 and the body's framing.

`parse_head` parses the fields in one of two ways that return the same result. A plain head (short,
ASCII, well-formed, with field names seen before and none of them twice) is split by a few calls
into C. Any other head is parsed again from the start, strictly and in order: only that second way
refuses a field, and it would suffice without the first.
Order of the checks: request line, sizes, each field in turn, Host, body length, Expect.

This module knows neither bodies nor connections, nor where bytes come from.
"""

import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from wsgicluster.errors import ProtocolError
from wsgicluster.http.grammar import (
    ABSOLUTE_FORM,
    AUTHORITY,
    AUTHORITY_FORM,
    HOST,
    NOT_IN_VALUE,
    TARGET,
    TOKEN,
    TOKEN_LIST,
    USUAL_METHOD,
    VERSION,
)
from wsgicluster.http.limits import EVERY_NAME, STRICT, HeadLimits, Leniency, Underscores

# The flags are plain integers: one operation on an IntFlag costs as much as reading a field.
KEEP_ALIVE: Final = 1
"""The client allows the connection to persist."""
HTTP_11: Final = 2
EXPECT_CONTINUE: Final = 4
IS_HEAD: Final = 8

CHUNKED: Final = -1
"""As a body's length: it is sent in chunks."""

_LENGTH_DIGITS = 18
_LOOK_BACK_BYTES = 8192

# The usual forms of Host; any other is checked against the full grammar.
_match_plain_host = re.compile("[A-Za-z0-9.-]+(?::[0-9]+)?").fullmatch

# A site has few names: those that were found to be plain are not checked again.
_hosts: set[str] = set()
_HOSTS_LIMIT = 256

_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_OWN = frozenset(("CONTENT_LENGTH", "CONTENT_TYPE", "TRANSFER_ENCODING"))
"""Fields that the server itself acts on; with an underscore in place of the hyphen no peer is trusted with them."""

_SINGLE = frozenset(("HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"))
_TOKEN_BYTES = frozenset(code for code in range(256) if TOKEN.fullmatch(chr(code)))

# A plain head has these only in its line ends. CR is missing because a plain head is split at each CR.
_CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if code != 0x0D)
_CONTROLS_AND_CR = _CONTROLS + b"\r"

# Names repeat from request to request, so each is checked and translated once: LF, name as sent, colon -> key in
# the environ. Finding one of these proves that the LF follows the CR which the head is cut at, and that the colon
# follows the name. Names in _REMARKABLE never come in here: a plain head has no chunked body and expects nothing.
_keys: dict[str, str] = {}
_KEYS_LIMIT = 1024
_KEY_BYTES = 64
_REMARKABLE = frozenset(("HTTP_TRANSFER_ENCODING", "HTTP_EXPECT"))


def parse_head(
    data: bytes, start: int, end: int, template: dict[str, Any], limits: HeadLimits
) -> tuple[dict[str, Any], int, int]:
    """The environ, body length (or CHUNKED) and flags of the head ``data[start:end]``, its final CRLF CRLF left out.

    The environ is a copy of ``template``, which has no variable of a request but perhaps ``SCRIPT_NAME``.
    Raises ProtocolError (RFC 9112, sections 3, 5 and 6; RFC 9110, sections 5, 7.2 and 10.1.1).
    """
    raw = data[start:end]
    return parse_head_fast(raw, template, limits) or _parse_remarkable(raw, template, limits)


def parse_head_fast(raw: bytes, template: dict[str, Any], limits: HeadLimits) -> tuple[dict[str, Any], int, int] | None:
    """As `parse_head` for a head as most clients send it; None for any other, whether valid or not."""
    size = len(raw)
    if size > limits.plain_bytes or not raw.isascii():
        return None
    fields = raw.decode().split("\r")
    line = fields.pop(0)
    count = len(fields)
    # Without LF and other control characters a plain head is shorter by one byte for each field. That these
    # bytes are LF, and stand behind the CR, is what finding a known name proves. Together this leaves no room for
    # a bare CR, a bare LF or any other control character, and strip() below takes nothing away but SP.
    if count > limits.fields or len(raw.translate(None, _CONTROLS)) + count != size:
        return None
    environ = template.copy()
    count += len(environ)
    try:
        for field in fields:
            name, _, value = field.partition(" ")
            environ[_keys[name]] = value.strip()
        method, target, version = line.split(" ")
    except (KeyError, ValueError):
        # A name not seen before, an empty line, or a request line that is not three words.
        return None
    if len(environ) != count:
        # A repeated field has to be joined, or refused.
        return None

    if version != "HTTP/1.1" or target[:1] != "/" or "#" in target or method not in _METHODS:
        flags, authority = _read_line(line, environ, limits.leniency)
        return _finish(environ, flags, authority, limits)
    environ["REQUEST_METHOD"] = method
    if "?" in target:
        path, _, environ["QUERY_STRING"] = target.partition("?")
    else:
        path = target
        environ["QUERY_STRING"] = ""
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
    environ["RAW_URI"] = target
    environ["SERVER_PROTOCOL"] = version
    if (
        "CONTENT_LENGTH" in environ
        or environ.get("HTTP_CONNECTION", "keep-alive") != "keep-alive"
        or environ.get("SCRIPT_NAME")
        or ((host := environ.get("HTTP_HOST", "")) not in _hosts and not _is_plain_host(host))
    ):
        return _finish(environ, HTTP_11, "", limits)
    return environ, 0, HTTP_11 | KEEP_ALIVE


def _is_plain_host(host: str) -> bool:
    if not _match_plain_host(host):
        return False
    if len(_hosts) < _HOSTS_LIMIT and len(host) <= _KEY_BYTES:
        _hosts.add(host)
    return True


def check_partial(data: bytes, start: int, limits: HeadLimits) -> None:
    """Refuse an unfinished head ``data[start:]`` that can never become a valid one.

    Of the fields it only checks sizes and line ends: the rest is checked once, when the head is complete.
    """
    line_end = data.find(b"\r\n", start)
    # A CR at the very end may be the first half of a line end.
    size = len(data) - start - data.endswith(b"\r")
    if size <= 0:
        return
    if line_end < 0:
        if size > limits.line_bytes:
            raise ProtocolError(414, "the request line is too long")
        if data[start] not in _TOKEN_BYTES:
            raise ProtocolError(400, "the method is not a token")
    else:
        line = data[start:line_end].decode("latin-1")
        if len(line) > limits.line_bytes:
            raise ProtocolError(414, "the request line is too long")
        _read_line(line, {}, limits.leniency)
        unfinished = len(data) - data.rfind(b"\n") - 1 - data.endswith(b"\r")
        if unfinished > limits.field_bytes or size > limits.head_bytes + 2:
            raise ProtocolError(431, "the header fields are too large")
    # Only the newest bytes are checked, so that a client that sends byte by byte costs the same for each byte.
    since = max(start, len(data) - _LOOK_BACK_BYTES)
    ends = data.count(b"\r\n", since)
    if data.count(b"\n", since + 1) > ends or data.count(b"\r", since) - data.endswith(b"\r") > ends:
        raise ProtocolError(400, "a line is not ended by CRLF")


def read_field(line: str, leniency: Leniency = STRICT) -> tuple[str, str]:
    """Name and value of a field line (latin-1, without its CRLF; RFC 9112, section 5)."""
    name, colon, value = line.partition(":")
    if leniency.spaces and colon:
        name = name.rstrip(" \t")
    if not TOKEN.fullmatch(name):
        if line[:1] in (" ", "\t"):
            raise ProtocolError(400, "a field line is folded")
        raise ProtocolError(400, "a field's name is not a token")
    if not colon:
        raise ProtocolError(400, "a field line has no colon")
    if NOT_IN_VALUE.search(value):
        raise ProtocolError(400, "a field's value has a control character")
    return name, value.strip(" \t")


def _parse_remarkable(raw: bytes, template: dict[str, Any], limits: HeadLimits) -> tuple[dict[str, Any], int, int]:
    environ = template.copy()
    line, *fields = raw.decode("latin-1").split("\r\n")
    if len(line) > limits.line_bytes:
        raise ProtocolError(414, "the request line is too long")
    flags, authority = _read_line(line, environ, limits.leniency)
    if len(raw) > limits.head_bytes:
        raise ProtocolError(431, "the header fields are too large")
    if limits.leniency.folding:
        fields = _unfolded(fields)
    if len(fields) > limits.fields:
        raise ProtocolError(431, "there are too many header fields")
    # With no control character but the line ends there is nothing left to check in the values.
    clean = len(raw.translate(None, _CONTROLS_AND_CR)) + 2 * len(fields) == len(raw)
    found: dict[str, list[str]] = {}
    admitted: dict[str, list[str]] = {}
    for field in fields:
        if len(field) > limits.field_bytes:
            raise ProtocolError(431, "a header field is too large")
        name, colon, value = field.partition(":")
        key = _keys.get(f"\n{name}{colon}") if clean else None
        if key is None:
            name, value = read_field(field, limits.leniency)
            if "_" in name:
                if _is_admitted(name, limits):
                    admitted.setdefault("HTTP_" + name.upper().replace("-", "_"), []).append(value)
                continue
            key = _key_of(name)
        if key not in found:
            found[key] = [value.strip(" \t")]
        elif key in _SINGLE:
            raise ProtocolError(400, f"{name} is given twice")
        else:
            found[key].append(value.strip(" \t"))
    for key, values in found.items():
        environ[key] = ("; " if key == "HTTP_COOKIE" else ",").join(values)
    if admitted:
        _add_admitted(environ, admitted, limits)
    return _finish(environ, flags, authority, limits)


def _unfolded(fields: list[str]) -> list[str]:
    """The fields with those lines joined that continue one (RFC 9112, section 5.2); the first continues nothing."""
    whole: list[str] = []
    for field in fields:
        if whole and field[:1] in (" ", "\t"):
            whole[-1] = whole[-1].rstrip(" \t") + " " + field.strip(" \t")
        else:
            whole.append(field)
    return whole


def _is_admitted(name: str, limits: HeadLimits) -> bool:
    """Whether a field is accepted although its name has an underscore. Raises ProtocolError (400) if it is refused."""
    # X_Name and X-Name would be one key: an application that trusts the second must not get the first.
    name = name.upper()
    if name.replace("-", "_") not in _OWN and (
        limits.underscores is Underscores.DANGEROUS or not limits.forwarder_names.isdisjoint((name, EVERY_NAME))
    ):
        return True
    if limits.underscores is Underscores.REFUSE:
        raise ProtocolError(400, "a field's name has an underscore")
    return False


def _add_admitted(environ: dict[str, Any], admitted: dict[str, list[str]], limits: HeadLimits) -> None:
    """Write the fields whose names have underscores; a proxy's SCRIPT_NAME also is where the application is mounted."""
    for key, values in admitted.items():
        if key in environ:
            # One of them may come from the proxy and the other from the client.
            raise ProtocolError(400, "a field's name is given with an underscore and with a hyphen")
        environ[key] = ",".join(values)
    places = admitted.get("HTTP_SCRIPT_NAME")
    if places is None or limits.forwarder_names.isdisjoint(("SCRIPT_NAME", EVERY_NAME)):
        return
    if len(places) > 1:
        raise ProtocolError(400, "SCRIPT_NAME is given twice")
    # As in the request line; the path that it is removed from has been decoded, too.
    place = unquote_to_bytes(places[0].rstrip("/").encode("latin-1")).decode("latin-1")
    path = environ["PATH_INFO"]
    if place and path not in (place, "*") and not path.startswith(place + "/"):
        # The operator of the proxy has to know; the client has not caused it.
        raise ProtocolError(500, "the path does not begin with the SCRIPT_NAME that the proxy sends")
    environ["SCRIPT_NAME"] = place


def _key_of(name: str) -> str:
    key = name.upper().replace("-", "_")
    if key not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
        key = "HTTP_" + key
    if len(_keys) < _KEYS_LIMIT and len(name) <= _KEY_BYTES and key not in _REMARKABLE:
        _keys[f"\n{name}:"] = key
    return key


def _read_line(line: str, environ: dict[str, Any], leniency: Leniency) -> tuple[int, str]:
    """Write the request line's variables; returns its flags, and the authority of an absolute-form target."""
    words = line.split(" ")
    if len(words) != 3:
        raise ProtocolError(400, "the request line is not three words with one space between them")
    method, target, version = words
    if not TOKEN.fullmatch(method):
        raise ProtocolError(400, "the method is not a token")
    if not leniency.methods and not USUAL_METHOD.fullmatch(method):
        raise ProtocolError(400, "the method is unconventional")
    if leniency.capitalize_methods:
        method = method.upper()
    known = VERSION.fullmatch(version)
    if not known:
        raise ProtocolError(400, "the protocol version is malformed")
    if known[1] != "1" and not leniency.versions:
        raise ProtocolError(505, "only HTTP/1.0 and HTTP/1.1 are supported")
    if not TARGET.fullmatch(target):
        raise ProtocolError(400, "the request target has a character that must be encoded")
    path, query, authority = _read_target(method, target)
    environ["REQUEST_METHOD"] = method
    environ["RAW_URI"] = target
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
    environ["QUERY_STRING"] = query
    flags = IS_HEAD if method == "HEAD" else 0
    if known[0] == "HTTP/1.0" or known[1] == "0":
        environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        return flags, authority
    environ["SERVER_PROTOCOL"] = "HTTP/1.1"
    return flags | HTTP_11, authority


def _read_target(method: str, target: str) -> tuple[str, str, str]:
    """Path, query and authority of a target in one of the four forms (RFC 9112, section 3.2)."""
    if method == "CONNECT":
        if AUTHORITY_FORM.fullmatch(target):
            raise ProtocolError(501, "CONNECT is not supported")
        raise ProtocolError(400, "CONNECT needs host:port as its target")
    if target[0] == "/":
        path, _, query = target.partition("?")
        return path, query, ""
    if target == "*" and method == "OPTIONS":
        # As in Gunicorn: an empty path would be the application's root, which is not what CONNECT requests.
        return "*", "", ""
    absolute = ABSOLUTE_FORM.fullmatch(target)
    if not absolute:
        raise ProtocolError(400, "the request target is neither a path nor an http URI")
    if not AUTHORITY.fullmatch(absolute[1]):
        raise ProtocolError(400, "the request target's host or port is invalid")
    return absolute[2] or "/", absolute[3] or "", absolute[1]


def _finish(environ: dict[str, Any], flags: int, authority: str, limits: HeadLimits) -> tuple[dict[str, Any], int, int]:
    """Check the parts of a head against each other, and decide the framing."""
    host = environ.get("HTTP_HOST")
    if host is None:
        if flags & HTTP_11:
            raise ProtocolError(400, "Host is missing")
    elif not HOST.fullmatch(host):
        raise ProtocolError(400, "Host is invalid")
    if authority:
        # RFC 9112, section 3.2.2: the target's own authority replaces whatever Host says.
        environ["HTTP_HOST"] = authority
    if environ.get("SCRIPT_NAME"):
        apply_script_name(environ)
    length = _body_length(environ, flags, limits)
    flags |= _persistence(environ, flags)
    # RFC 9110, section 10.1.1: an expectation in HTTP/1.0 is ignored, and 100 is not sent where no body comes.
    expected = environ.get("HTTP_EXPECT")
    if expected is not None and flags & HTTP_11:
        if expected.lower() != "100-continue":
            raise ProtocolError(417, "the only supported expectation is 100-continue")
        if length:
            flags |= EXPECT_CONTINUE
    return environ, length, flags


def apply_script_name(environ: dict[str, Any]) -> None:
    """Remove ``SCRIPT_NAME`` from the path. Raises ProtocolError (500, as in Gunicorn) if that has another prefix."""
    script, path = environ["SCRIPT_NAME"], environ["PATH_INFO"]
    if path == script or path.startswith(script + "/"):
        environ["PATH_INFO"] = path[len(script) :]
    elif path != "*":
        # The operator's mistake: this application must not get requests for other paths.
        raise ProtocolError(500, "the path does not begin with SCRIPT_NAME, which the server was started with")


def _persistence(environ: dict[str, Any], flags: int) -> int:
    """KEEP_ALIVE or 0 (RFC 9112, section 9.3)."""
    options = environ.get("HTTP_CONNECTION")
    if options is None:
        return KEEP_ALIVE if flags & HTTP_11 else 0
    names = [name.strip(" \t") for name in options.lower().split(",")]
    return KEEP_ALIVE if "close" not in names and (flags & HTTP_11 or "keep-alive" in names) else 0


def _body_length(environ: dict[str, Any], flags: int, limits: HeadLimits) -> int:
    """RFC 9112, section 6.3, without its leniencies."""
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    digits = environ.get("CONTENT_LENGTH")
    if coding is not None:
        if digits is not None:
            raise ProtocolError(400, "Content-Length and Transfer-Encoding exclude each other")
        if not flags & HTTP_11:
            raise ProtocolError(400, "HTTP/1.0 has no Transfer-Encoding")
        return _read_coding(coding.lower())
    if digits is None:
        return 0
    if not (digits.isascii() and digits.isdigit()):
        raise ProtocolError(400, "Content-Length is not a number")
    if len(digits) > 1 and digits[0] == "0":
        # Applications pass this to int(), which refuses a long row of zeros.
        environ["CONTENT_LENGTH"] = digits = digits.lstrip("0") or "0"
    if len(digits) > _LENGTH_DIGITS:
        raise ProtocolError(413, "the body is too large")
    length = int(digits)
    if 0 < limits.body_bytes < length:
        raise ProtocolError(413, "the body is too large")
    return length


def _read_coding(coding: str) -> int:
    if coding == "chunked":
        return CHUNKED
    if TOKEN_LIST.fullmatch(coding):
        names = [name.strip(" \t") for name in coding.split(",")]
        if names[-1] == "chunked" and names.count("chunked") == 1:
            raise ProtocolError(501, "the only supported transfer coding is chunked")
    raise ProtocolError(400, "Transfer-Encoding is not chunked")


_COMMON = """
Accept Accept-Charset Accept-Encoding Accept-Language Authorization Cache-Control Connection Content-Encoding
Content-Length Content-Type Cookie DNT Date Forwarded From Host If-Match If-Modified-Since If-None-Match If-Range
If-Unmodified-Since Keep-Alive Origin Pragma Priority Range Referer Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform
Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User TE Traceparent Tracestate Upgrade-Insecure-Requests
User-Agent Via X-CSRFToken X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Real-IP
X-Request-ID X-Requested-With
"""
for _name in _COMMON.split():
    # As clients of HTTP/1.1 write them, and in lower case as gateways from HTTP/2 do.
    _key_of(_name)
    _key_of(_name.lower())
