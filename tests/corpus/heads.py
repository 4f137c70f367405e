"""Request heads and what must become of them, for every implementation of `parse_head`.

A case's ``raw`` is the head with its final empty line. What is expected is either all that the
head adds to `TEMPLATE`, with length and flags, or the status it is refused with. A refused head
has one fault only, so that the status says which one was seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wsgicluster.http.head import CHUNKED, EXPECT_CONTINUE, HTTP_11, IS_HEAD, KEEP_ALIVE
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
    """What a head adds; a trailing ``HTTP_HOST=""`` is not left out, ``HOST=None`` is."""
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


def _targets() -> Iterator[Head]:
    for name, uri, path, query in (
        ("root", "/", "/", ""),
        ("query", "/a?b=c", "/a", "b=c"),
        ("query-empty", "/a?", "/a", ""),
        ("query-two-marks", "/a?b?c", "/a", "b?c"),
        ("query-raw", "/?a=%20&b=%C3%A9+c", "/", "a=%20&b=%C3%A9+c"),
        ("percent", "/a%20b%2Fc", "/a b/c", ""),
        ("percent-lower", "/%c3%a9%2e%7a", "/\xc3\xa9.z", ""),
        ("percent-high", "/%FF%80", "/\xff\x80", ""),
        ("percent-percent", "/a%25b", "/a%b", ""),
        ("percent-hash", "/a%23b", "/a#b", ""),
        ("percent-nul", "/a%00b", "/a\0b", ""),
        ("percent-short", "/a%4", "/a%4", ""),
        ("percent-alone", "/a%", "/a%", ""),
        ("percent-word", "/a%zz%41", "/a%zzA", ""),
        ("sub-delims", "/!$&'()*,:=@~-._+;", "/!$&'()*,:=@~-._+;", ""),
        ("backslash", '/a\\b|<>"^`{}', '/a\\b|<>"^`{}', ""),
        ("slashes", "//evil/x//", "//evil/x//", ""),
        ("dots", "/a/../b", "/a/../b", ""),
        ("colon", "/http://x", "/http://x", ""),
    ):
        yield Head(f"target-{name}", get(line=f"GET {uri} HTTP/1.1".encode()), added=environ(uri, path, query))
    for name, uri, path, query, host in (
        ("plain", "http://real.example/a?b", "/a", "b", "real.example"),
        ("port", "http://h:8080/a", "/a", "", "h:8080"),
        ("port-empty", "http://h:/a", "/a", "", "h:"),
        ("https", "https://h2/a", "/a", "", "h2"),
        ("case", "HtTp://H/a", "/a", "", "H"),
        ("no-path", "http://h", "/", "", "h"),
        ("no-path-query", "http://h?a=b", "/", "a=b", "h"),
        ("ipv6", "http://[::1]:80/a", "/a", "", "[::1]:80"),
        ("percent", "http://h/%41", "/A", "", "h"),
        ("in-query", "http://h/a?u=http://x/", "/a", "u=http://x/", "h"),
    ):
        raw = get(line=f"GET {uri} HTTP/1.1".encode(), host=b"Host: other")
        yield Head(f"absolute-{name}", raw, added=environ(uri, path, query, HTTP_HOST=host))
    added = environ("http://h/p", "/p", SERVER_PROTOCOL="HTTP/1.0")
    yield Head("absolute-10", get(line=b"GET http://h/p HTTP/1.0", host=None), added=added, flags=0)
    yield Head("asterisk", get(line=b"OPTIONS * HTTP/1.1"), added=environ("*", method="OPTIONS"))
    for name, line in (
        ("relative", b"GET p HTTP/1.1"),
        ("empty", b"GET  HTTP/1.1"),
        ("no-scheme", b"GET ://h/p HTTP/1.1"),
        ("other-scheme", b"GET ftp://h/p HTTP/1.1"),
        ("one-slash", b"GET http:/h/p HTTP/1.1"),
        ("asterisk-get", b"GET * HTTP/1.1"),
        ("asterisk-tail", b"OPTIONS *x HTTP/1.1"),
        ("authority-get", b"GET h:80 HTTP/1.1"),
        ("fragment", b"GET /p#x HTTP/1.1"),
        ("fragment-query", b"GET /p?a#x HTTP/1.1"),
        ("fragment-absolute", b"GET http://h/p#x HTTP/1.1"),
        ("control", b"GET /a\x01b HTTP/1.1"),
        ("tab", b"GET /a\tb HTTP/1.1"),
        ("vt", b"GET /a\x0bb HTTP/1.1"),
        ("nul", b"GET /a\x00b HTTP/1.1"),
        ("del", b"GET /a\x7fb HTTP/1.1"),
        ("high", b"GET /caf\xe9 HTTP/1.1"),
        ("utf8", b"GET /caf\xc3\xa9 HTTP/1.1"),
        ("no-host", b"GET http:///p HTTP/1.1"),
        ("no-host-port", b"GET http://:80/p HTTP/1.1"),
        ("bad-port", b"GET http://h:abc/p HTTP/1.1"),
        ("two-ports", b"GET http://h:80:80/p HTTP/1.1"),
        ("userinfo", b"GET http://me@h/p HTTP/1.1"),
        ("userinfo-empty", b"GET http://@h/p HTTP/1.1"),
        ("bracket", b"GET http://[::1/p HTTP/1.1"),
        ("bracket-tail", b"GET http://[::1]x/p HTTP/1.1"),
        ("backslash-host", b"GET http://h\\@evil/p HTTP/1.1"),
        ("connect-path", b"CONNECT /p HTTP/1.1"),
        ("connect-no-port", b"CONNECT h HTTP/1.1"),
        ("connect-empty-port", b"CONNECT h: HTTP/1.1"),
        ("connect-no-host", b"CONNECT :443 HTTP/1.1"),
        ("connect-absolute", b"CONNECT http://h:443/ HTTP/1.1"),
    ):
        yield Head(f"target-bad-{name}", get(line=line), refused=400)
    yield Head("connect", get(line=b"CONNECT h:443 HTTP/1.1"), refused=501)
    yield Head("connect-ipv6", get(line=b"CONNECT [::1]:443 HTTP/1.1"), refused=501)


def _lines() -> Iterator[Head]:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "M-SEARCH", "get", "X", "!#$%&'*+-.^_`|~09Az"):
        yield Head(f"method-{method}", get(line=f"{method} /p HTTP/1.1".encode()), added=environ(method=method))
    yield Head("method-HEAD", get(line=b"HEAD /p HTTP/1.1"), added=environ(method="HEAD"), flags=KEPT | IS_HEAD)
    old = {"SERVER_PROTOCOL": "HTTP/1.0"}
    yield Head("version-10", get(line=b"GET /p HTTP/1.0"), added=environ(**old), flags=0)
    yield Head("version-10-no-host", get(line=b"GET /p HTTP/1.0", host=None), added=without_host(**old), flags=0)
    yield Head("version-12", get(line=b"GET /p HTTP/1.2"), added=environ())
    yield Head("version-19", get(line=b"GET /p HTTP/1.9"), added=environ())
    for version in (b"HTTP/2.0", b"HTTP/0.9", b"HTTP/3.1", b"HTTP/9.9"):
        yield Head(f"version-{version[5:].decode()}", get(line=b"GET /p " + version), refused=505)
    yield Head("http2-preface", b"PRI * HTTP/2.0\r\n\r\n", refused=505)
    for number, line in enumerate(
        (
            b"GET,POST /p HTTP/1.1",
            b"GE@T /p HTTP/1.1",
            b"GE(T /p HTTP/1.1",
            b"GET\x00 /p HTTP/1.1",
            b"GE\x7fT /p HTTP/1.1",
            b"G\xc3\x89T /p HTTP/1.1",
            b"\x16\x03\x01\x02 /p HTTP/1.1",
            b" GET /p HTTP/1.1",
            b"GET",
            b"GET /p",
            b"GET /p ",
            b"GET /p x HTTP/1.1",
            b"GET /p HTTP/1.1 x",
            b"GET /p HTTP/1.1 ",
            b"GET  /p HTTP/1.1",
            b"GET /p  HTTP/1.1",
            b"GET\t/p HTTP/1.1",
            b"GET /p\tHTTP/1.1",
            b"GET\xa0/p HTTP/1.1",
            b" /p HTTP/1.1",
            b"GET /p http/1.1",
            b"GET /p HTTP/1",
            b"GET /p HTTP/1.",
            b"GET /p HTTP/.1",
            b"GET /p HTTP/1.1.1",
            b"GET /p HTTP/1.32",
            b"GET /p HTTP/11.1",
            b"GET /p HTTP/01.1",
            b"GET /p HTTP/1.1x",
            b"GET /p HTTP/+1.1",
            b"GET /p HTTP/1.-1",
            b"GET /p HTTP/1,1",
            b"GET /p HTTP/ 1.1",
            b"GET /p HTTP/1.\xb2",
            b"GET /p HTCPCP/1.1",
            b"GET /p HTTP/1.1\r",
            b"GET /p HTTP/1.1\rX-A: b",
            b"GET /p\r HTTP/1.1",
            b"GET /p\nX: HTTP/1.1",
            b"GET /p HTTP/1.1\nX-A: b",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80",
            b"",
        )
    ):
        yield Head(f"line-bad-{number}", get(line=line), refused=400)


def _fields() -> Iterator[Head]:
    for name, line, value in (
        ("plain", b"X-A: v", "v"),
        ("no-space", b"X-A:v", "v"),
        ("tab", b"X-A:\tv", "v"),
        ("spaces", b"X-A:   v  ", "v"),
        ("mixed", b"X-A: \t v\t \t", "v"),
        ("inner", b"X-A: a  b\tc", "a  b\tc"),
        ("empty", b"X-A:", ""),
        ("blank", b"X-A:   ", ""),
        ("colons", b"X-A: a:b: c", "a:b: c"),
        ("colon-first", b"X-A:: v", ": v"),
        ("looks-like-a-line", b"X-A: Host: other", "Host: other"),
        ("latin1", b"X-A: caf\xe9", "caf\xe9"),
        ("utf8", b"X-A: caf\xc3\xa9", "caf\xc3\xa9"),
        ("high-ends", b"X-A: \xa0v\x85", "\xa0v\x85"),
        ("ff-ends", b"X-A: \xffv\xff", "\xffv\xff"),
        ("quoted", b'X-A: "a,b\\"c"', '"a,b\\"c"'),
        ("case", b"x-a: v", "v"),
        ("case-upper", b"X-A: V", "V"),
        ("long", b"X-A: " + b"v" * 4000, "v" * 4000),
        ("longest", b"X-A:" + b"v" * 8186, "v" * 8186),
    ):
        yield Head(f"field-{name}", get(line), added=environ(HTTP_X_A=value))
    raw = get(b"X!#$%&'*+.^`|~9: v")
    yield Head("field-name-characters", raw, added=environ(**{"HTTP_X!#$%&'*+.^`|~9": "v"}))
    raw = get(b"X-A: 1", b"X-B: x", b"x-a: 2", b"X-A:", b"X-A: 3")
    yield Head("field-repeated", raw, added=environ(HTTP_X_A="1,2,,3", HTTP_X_B="x"))
    yield Head("field-cookies", get(b"Cookie: a=b", b"cookie: c=d"), added=environ(HTTP_COOKIE="a=b; c=d"))
    yield Head("field-accept-twice", get(b"Accept: a/b", b"Accept: c/d"), added=environ(HTTP_ACCEPT="a/b,c/d"))
    for name, fields in (
        ("only", (b"X_A: evil",)),
        ("first", (b"X_A: evil", b"X-B: v")),
        ("leading", (b"_X-A: evil", b"-_: evil")),
        ("content-length", (b"Content_Length: 5",)),
        ("transfer-encoding", (b"Transfer_Encoding: chunked", b"Content_Type: evil/type")),
    ):
        known = {"HTTP_X_B": "v"} if name == "first" else {}
        yield Head(f"underscore-{name}", get(*fields), added=environ(**known))
    for fields in ((b"X_A: evil", b"X-A: good"), (b"X-A: good", b"X_A: evil")):
        yield Head(f"underscore-pair-{fields[0].decode()}", get(*fields), added=environ(HTTP_X_A="good"))
    raw = post(b"Content-Type: text/x; a=b", b"Content-Length: 5")
    added = environ(method="POST", CONTENT_TYPE="text/x; a=b", CONTENT_LENGTH="5")
    yield Head("field-content", raw, added=added, length=5)
    yield Head("no-fields", b"GET /p HTTP/1.0\r\n\r\n", added=without_host(SERVER_PROTOCOL="HTTP/1.0"), flags=0)
    for number, line in enumerate(
        (
            b": v",
            b":",
            b"X\x00A: v",
            b"Content-Length\x00: 3",
            b"Transfer-Encoding\x0b: chunked",
            b"X\x01A: v",
            b"X\x7fA: v",
            b"X-\xc3\xa9: v",
            b"X(A: v",
            b"X@A: v",
            b'X"A": v',
            b"X;A: v",
            b"X,A: v",
            b"X=A: v",
            b"X[A]: v",
            b"X\\A: v",
            b"X A: v",
            b"X_\x00: v",
            b"X-A : v",
            b"Accept : v",
            b"X-A\t: v",
            b"NoColon",
            b"Accept",
            b"GET /q HTTP/1.1",
            b" folded",
            b"\tfolded",
            b" X-A: v",
            b"X-A: a\r\n b",
            b"X-A: a\r\n\tb",
            b"X-A:\r\n b",
            b"Accept: a\r\n b",
            b"X-A: a\x00",
            b"Accept: a\x00b",
            b"Accept: \x07",
            b"Accept: a\x1fb",
            b"Accept: \x7f",
            b"Accept: a\x0bb",
            b"Accept: a\x0c",
            b"Accept: \x1ca",
            b"X-A: a\r",
            b"X-A: a\rb",
            b"Accept: a\rb",
            b"Accept: a\r\r",
            b"Accept: a\rHost: g",
            b"X-A: a\nb",
            b"Accept: a\nb",
            b"Accept: a\nX-B: c",
            b"Accept: a\n",
            b"Accept\n: a",
            b"\nAccept: a",
            b"\rAccept: a",
            b"Accept: a\n\rb",
            b"Accept:\n\nGET /q HTTP/1.1",
        )
    ):
        yield Head(f"field-bad-{number}", get(line, b"X-Last: v"), refused=400)
    yield Head("field-first-space", lines(b"GET /p HTTP/1.1", b" Host: h"), refused=400)
    yield Head("all-lf", get().replace(b"\r\n", b"\n") + b"\r\n\r\n", refused=400)
    yield Head("lf-before-cr", get(b"Accept: b\n\r"), refused=400)


def _hosts() -> Iterator[Head]:
    for number, host in enumerate(
        ("h", "ExAmPlE", "h:8080", "h:", "", ":80", "127.0.0.1", "a.b-c.example", "[::1]", "[::1]:80", "[2001:db8::7]")
        + (
            "[::ffff:1.2.3.4]:1",
            "[1:2:3:4:5:6:7:8]",
            "[v1.fe]",
            "a_b",
            "%41",
            "a%2Fb",
            "!$&'()*+,;=~",
            "h..",
            "x:0",
            "-",
        )
    ):
        yield Head(f"host-{number}", get(host=f"Host: {host}".encode()), added=environ(HTTP_HOST=host))
    for number, line in enumerate(
        (
            b"a/b",
            b"h:abc",
            b"h:80:90",
            b"[::1]x",
            b"[::1",
            b"::1",
            b"[]",
            b"[:1]",
            b"[1:2:3]",
            b"[::12345]",
            b"[::g]",
            b"[1::2::3]",
            b"[::1.2.3.256]",
            b"[v1.]",
            b"h?x",
            b"h#x",
            b"me@h",
            b"h\\x",
            b"h%zz",
            b"h%4",
            b"h:-80",
            b"h:+80",
            b"h 80",
            b"h\tx",
            b"h, g",
            b'"h"',
            b"<h>",
            b"caf\xe9",
            b"h:\xb2",
        )
    ):
        yield Head(f"host-bad-{number}", get(host=b"Host: " + line), refused=400)
        yield Head(f"host-bad-10-{number}", get(line=b"GET /p HTTP/1.0", host=b"Host: " + line), refused=400)
    yield Head("host-bad-absolute", get(line=b"GET http://h/p HTTP/1.1", host=b"Host: a/b"), refused=400)
    yield Head("host-missing", get(host=None), refused=400)
    yield Head("host-missing-12", get(line=b"GET /p HTTP/1.2", host=None), refused=400)
    yield Head("host-missing-absolute", get(line=b"GET http://h/p HTTP/1.1", host=None), refused=400)
    yield Head("host-missing-asterisk", get(line=b"OPTIONS * HTTP/1.1", host=None), refused=400)
    yield Head("host-missing-underscore", get(host=b"Ho_st: h"), refused=400)
    yield Head("host-two", get(b"Host: g"), refused=400)
    yield Head("host-two-same", get(b"host: h"), refused=400)
    yield Head("host-two-10", get(b"Host: h", line=b"GET /p HTTP/1.0"), refused=400)
    yield Head("host-two-empty", get(b"Host:"), refused=400)


def _lengths() -> Iterator[Head]:
    sized = HeadLimits(body_bytes=1000)
    for name, line, length in (
        ("plain", b"Content-Length: 5", 5),
        ("no-space", b"Content-Length:5", 5),
        ("case", b"CONTENT-LENGTH: 5", 5),
        ("zero", b"Content-Length: 0", 0),
        ("zeros", b"Content-Length: 000", 0),
        ("octal", b"Content-Length: 010", 10),
        ("many-zeros", b"Content-Length: " + b"0" * 5000 + b"5", 5),
        ("most", b"Content-Length: 1000", 1000),
    ):
        added = environ(method="POST", CONTENT_LENGTH=str(length))
        yield Head(f"length-{name}", post(line), added=added, length=length, limits=sized)
    endless = HeadLimits(body_bytes=0)
    added = environ(method="POST", CONTENT_LENGTH="9" * 18)
    yield Head("length-18", post(b"Content-Length: " + b"9" * 18), added=added, length=10**18 - 1, limits=endless)
    yield Head("length-get", get(b"Content-Length: 5"), added=environ(CONTENT_LENGTH="5"), length=5)
    added = environ(method="POST", CONTENT_LENGTH="5", SERVER_PROTOCOL="HTTP/1.0")
    yield Head("length-10", post(b"Content-Length: 5", version=b"HTTP/1.0"), added=added, length=5, flags=0)
    yield Head("length-none", post(), added=environ(method="POST"))
    for number, value in enumerate(
        (b"-0", b"-1", b"+5", b"0o5", b"0x5", b"five", b"5x", b"a5", b"5.0", b"5e0", b"5 5", b"5, 5", b"5,5", b'"5"')
        + (b"5_0", b"\xa05", b"5\x85", b"\xb2", b"\xd9\xa5", b"%35", b"= 5", b": 5", b"", b"  ", b",", b"5;")
    ):
        yield Head(f"length-bad-{number}", post(b"Content-Length: " + value), refused=400)
        yield Head(f"length-bad-get-{number}", get(b"Content-Length:" + value), refused=400)
        yield Head(f"length-bad-10-{number}", post(b"Content-Length: " + value, version=b"HTTP/1.0"), refused=400)
    yield Head("length-two", post(b"Content-Length: 5", b"Content-Length: 6"), refused=400)
    yield Head("length-two-same", post(b"Content-Length: 5", b"content-length: 5"), refused=400)
    yield Head("type-two", post(b"Content-Type: a/b", b"Content-Type: a/b"), refused=400)
    yield Head("length-over", post(b"Content-Length: 1001"), refused=413, limits=sized)
    yield Head("length-19", post(b"Content-Length: 1" + b"0" * 18), refused=413, limits=endless)
    yield Head("length-huge", post(b"Content-Length: 1" + b"0" * 5000), refused=413, limits=endless)


def _codings() -> Iterator[Head]:
    for value in ("chunked", "cHuNkEd", "CHUNKED"):
        for line in (f"Transfer-Encoding: {value}", f"transfer-encoding:{value}", f"Transfer-Encoding:\t{value} "):
            added = environ(method="POST", HTTP_TRANSFER_ENCODING=value)
            yield Head(f"coding-{line!r}", post(line.encode()), added=added, length=CHUNKED)
    for value in (b"gzip, chunked", b"identity,chunked", b"gzip ,\tbr, Chunked"):
        yield Head(f"coding-unknown-{value.decode()}", post(b"Transfer-Encoding: " + value), refused=501)
    for number, value in enumerate(
        (b"xchunked", b"chunkedx", b"chunkedchunked", b"gzip", b"identity", b"chunked, identity", b"chunked;q=1")
        + (b"chun ked", b'"chunked"', b"'chunked'", b"\xa0chunked", b"chunked\xa0", b"\x85chunked", b"\xffchunked\xff")
        + (b": chunked", b"= chunked", b"chunked,", b",chunked", b"gzip,,chunked", b"", b",", b"chunked, chunked")
        + (b"chunk\xc3\xa9d", b"gzip;a=b, chunked")
    ):
        line = b"Transfer-Encoding: " + value
        yield Head(f"coding-bad-{number}", post(line), refused=400)
        yield Head(f"coding-and-length-{number}", post(line, b"Content-Length: 5"), refused=400)
    for number, fields in enumerate(
        (
            (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
            (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
            (b"Transfer-Encoding: gzip, chunked", b"Content-Length: 5"),
            (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
            (b"Transfer-Encoding: chunked", b"transfer-encoding: identity"),
            (b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"),
            (b"Transfer-Encoding : chunked",),
            (b"Transfer-Encoding: \x00chunked",),
            (b"Transfer-Encoding: chu\rnked",),
            (b"X: y\nTransfer-Encoding: chunked", b"Content-Length: 5"),
            (b"X: y\rTransfer-Encoding: chunked", b"Content-Length: 5"),
        )
    ):
        yield Head(f"coding-bad-fields-{number}", post(*fields), refused=400)
    yield Head("coding-10", post(b"Transfer-Encoding: chunked", version=b"HTTP/1.0"), refused=400)
    yield Head("te-is-another-field", get(b"TE: chunked"), added=environ(HTTP_TE="chunked"))


def _persistence() -> Iterator[Head]:
    for value, kept, kept_10 in (
        ("close", False, False),
        ("CLOSE", False, False),
        ("keep-alive, close", False, False),
        ("close, x", False, False),
        ("x,\tClose", False, False),
        (",close,", False, False),
        ("keep-alive", True, True),
        ("Keep-Alive", True, True),
        ("x , keep-alive", True, True),
        ("closed", True, False),
        ('"close"', True, False),
        ("x", True, False),
        ("", True, False),
        ("upgrade", True, False),
    ):
        line = f"Connection: {value}".encode()
        flags = HTTP_11 | (KEEP_ALIVE if kept else 0)
        yield Head(f"connection-{value}", get(line), added=environ(HTTP_CONNECTION=value), flags=flags)
        added = environ(HTTP_CONNECTION=value, SERVER_PROTOCOL="HTTP/1.0")
        flags = KEEP_ALIVE if kept_10 else 0
        yield Head(f"connection-10-{value}", get(line, line=b"GET /p HTTP/1.0"), added=added, flags=flags)
    for first, second in (("x", "close"), ("close", "x"), ("close", "keep-alive"), ("keep-alive", "close")):
        raw = get(f"Connection: {first}".encode(), f"Connection: {second}".encode())
        added = environ(HTTP_CONNECTION=f"{first},{second}")
        yield Head(f"connection-two-{first}-{second}", raw, added=added, flags=HTTP_11)


def _expectations() -> Iterator[Head]:
    for value in ("100-continue", "100-Continue"):
        raw = post(b"Content-Length: 5", f"Expect: {value}".encode())
        added = environ(method="POST", CONTENT_LENGTH="5", HTTP_EXPECT=value)
        yield Head(f"expect-{value}", raw, added=added, length=5, flags=KEPT | EXPECT_CONTINUE)
    raw = post(b"Transfer-Encoding: chunked", b"Expect: 100-continue")
    added = environ(method="POST", HTTP_TRANSFER_ENCODING="chunked", HTTP_EXPECT="100-continue")
    yield Head("expect-chunked", raw, added=added, length=CHUNKED, flags=KEPT | EXPECT_CONTINUE)
    yield Head("expect-no-body", get(b"Expect: 100-continue"), added=environ(HTTP_EXPECT="100-continue"))
    raw = post(b"Content-Length: 0", b"Expect: 100-continue")
    yield Head("expect-zero", raw, added=environ(method="POST", CONTENT_LENGTH="0", HTTP_EXPECT="100-continue"))
    for value in ("100-continue", "something"):
        raw = post(b"Content-Length: 5", f"Expect: {value}".encode(), version=b"HTTP/1.0")
        added = environ(method="POST", CONTENT_LENGTH="5", HTTP_EXPECT=value, SERVER_PROTOCOL="HTTP/1.0")
        yield Head(f"expect-10-{value}", raw, added=added, length=5, flags=0)
    for value in (b"y 100-continue", b"100-continue, x", b"something", b"", b"100"):
        yield Head(f"expect-other-{value.decode()}", post(b"Content-Length: 5", b"Expect: " + value), refused=417)
    yield Head("expect-bad-length-first", post(b"Content-Length: x", b"Expect: y"), refused=400)


def _limits() -> Iterator[Head]:
    at = "/" + "a" * 50
    yield Head("limit-line", get(line=f"GET {at} HTTP/1.1".encode()), added=environ(at), limits=SMALL)
    yield Head("limit-line-over", get(line=b"GET /" + b"a" * 51 + b" HTTP/1.1"), refused=414, limits=SMALL)
    yield Head("limit-line-default", get(line=b"GET /" + b"a" * 8176 + b" HTTP/1.1"), added=environ("/" + "a" * 8176))
    yield Head("limit-line-default-over", get(line=b"GET /" + b"a" * 8177 + b" HTTP/1.1"), refused=414)
    at = "v" * 27
    yield Head("limit-field", get(f"X-A: {at}".encode()), added=environ(HTTP_X_A=at), limits=SMALL)
    yield Head("limit-field-over", get(b"X-A: " + b"v" * 28), refused=431, limits=SMALL)
    yield Head("limit-field-over-known", get(b"Accept: " + b"v" * 25), refused=431, limits=SMALL)
    yield Head("limit-field-over-default", get(b"X-A: " + b"v" * 8186), refused=431)
    known = environ(HTTP_X_0="v", HTTP_X_1="v", HTTP_X_2="v")
    yield Head("limit-fields", get(b"X-0: v", b"X-1: v", b"X-2: v"), added=known, limits=SMALL)
    yield Head("limit-fields-over", get(b"X-0: v", b"X-1: v", b"X-2: v", b"X-3: v"), refused=431, limits=SMALL)
    yield Head("limit-fields-over-dropped", get(b"X_0: v", b"X_1: v", b"X_2: v", b"X_3: v"), refused=431, limits=SMALL)
    yield Head("limit-fields-default-over", get(*[b"X-N: v"] * 100), refused=431)
    # SMALL.head_bytes is raised to 64 + 32 + 4 = 100: the lines here are 15, 7, 28 and 44 bytes with what parts them.
    raw = get(b"X-A: " + b"v" * 23, b"X-B: " + b"v" * 27)
    size = len(raw) - 4
    raw = get(b"X-A: " + b"v" * (23 + 100 - size - 1 - 8), b"X-B: " + b"v" * 27, b"X-C: v")
    fits = len(raw) - 4
    known = environ(HTTP_X_A="v" * (23 + 100 - size - 1 - 8), HTTP_X_B="v" * 27, HTTP_X_C="v")
    assert fits <= 100
    raw = raw.replace(b"X-C: v", b"X-C: v" + b"v" * (100 - fits))
    known["HTTP_X_C"] += "v" * (100 - fits)
    yield Head("limit-head", raw, added=known, limits=SMALL)
    yield Head("limit-head-over", raw.replace(b"X-C: ", b"X-C: v"), refused=431, limits=SMALL)


def _script_names() -> Iterator[Head]:
    for uri, path, script_name in (
        ("/app", "", "/app"),
        ("/app/", "/", "/app"),
        ("/app/x", "/x", "/app"),
        ("/%61pp/x", "/x", "/app"),
        ("/apple", "/apple", ""),
        ("/other", "/other", ""),
        ("/", "/", ""),
    ):
        raw = get(line=f"GET {uri} HTTP/1.1".encode())
        yield Head(f"script-{uri}", raw, added=environ(uri, path, SCRIPT_NAME=script_name), script_name="/app")
    added = environ("*", method="OPTIONS", SCRIPT_NAME="")
    yield Head("script-asterisk", get(line=b"OPTIONS * HTTP/1.1"), added=added, script_name="/app")
    added = environ("http://h/app/x?y", "/x", "y", SCRIPT_NAME="/app")
    yield Head("script-absolute", get(line=b"GET http://h/app/x?y HTTP/1.1"), added=added, script_name="/app")


def _browser() -> Iterator[Head]:
    fields = {
        "Host": "127.0.0.1:8000",
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0",
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Encoding": "gzip, deflate, br",
        "Accept-Language": "en-US,en;q=0.9",
        "Cookie": "sessionid=abcdef; csrftoken=012345",
        "Referer": "http://example.com/path/page?x=1",
        "Cache-Control": "max-age=0",
        "Connection": "keep-alive",
        "Sec-Fetch-Mode": "navigate",
        "Upgrade-Insecure-Requests": "1",
        "X-Not-Seen-Before": "1",
    }
    raw = get(*[f"{name}: {value}".encode() for name, value in fields.items()], host=None)
    added = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in fields.items()}
    # The second time all names are known.
    yield Head("browser-first", raw, added=environ(**added))
    yield Head("browser-again", raw, added=environ(**added))
    yield Head("browser-lower", raw.replace(b"Accept", b"accept"), added=environ(**added))


HEADS = [
    *_targets(),
    *_lines(),
    *_fields(),
    *_hosts(),
    *_lengths(),
    *_codings(),
    *_persistence(),
    *_expectations(),
    *_limits(),
    *_script_names(),
    *_browser(),
]
