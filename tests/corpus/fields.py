"""Header fields: their grammar, Host, and how large they may be."""

from collections.abc import Iterator

from tests.corpus.head_case import SMALL, Head, environ, get, lines, post, without_host


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
        (
            "h",
            "ExAmPlE",
            "h:8080",
            "h:",
            "",
            ":80",
            "127.0.0.1",
            "a.b-c.example",
            "[::1]",
            "[::1]:80",
            "[2001:db8::7]",
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


FIELDS = [*_fields(), *_hosts(), *_limits(), *_browser()]
