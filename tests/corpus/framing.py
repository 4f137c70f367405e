"""What fields say about the body and the connection: Content-Length, Transfer-Encoding, Connection, Expect."""

from collections.abc import Iterator

from tests.corpus.head_case import KEPT, Head, environ, get, post
from wsgicluster.http.head import CHUNKED, EXPECT_CONTINUE, HTTP_11, KEEP_ALIVE
from wsgicluster.http.limits import HeadLimits


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
        (
            b"-0",
            b"-1",
            b"+5",
            b"0o5",
            b"0x5",
            b"five",
            b"5x",
            b"a5",
            b"5.0",
            b"5e0",
            b"5 5",
            b"5, 5",
            b"5,5",
            b'"5"',
            b"5_0",
            b"\xa05",
            b"5\x85",
            b"\xb2",
            b"\xd9\xa5",
            b"%35",
            b"= 5",
            b": 5",
            b"",
            b"  ",
            b",",
            b"5;",
        )
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
    for codings in (b"gzip, chunked", b"identity,chunked", b"gzip ,\tbr, Chunked"):
        yield Head(f"coding-unknown-{codings.decode()}", post(b"Transfer-Encoding: " + codings), refused=501)
    for number, codings in enumerate(
        (
            b"xchunked",
            b"chunkedx",
            b"chunkedchunked",
            b"gzip",
            b"identity",
            b"chunked, identity",
            b"chunked;q=1",
            b"chun ked",
            b'"chunked"',
            b"'chunked'",
            b"\xa0chunked",
            b"chunked\xa0",
            b"\x85chunked",
            b"\xffchunked\xff",
            b": chunked",
            b"= chunked",
            b"chunked,",
            b",chunked",
            b"gzip,,chunked",
            b"",
            b",",
            b"chunked, chunked",
            b"chunk\xc3\xa9d",
            b"gzip;a=b, chunked",
        )
    ):
        given = b"Transfer-Encoding: " + codings
        yield Head(f"coding-bad-{number}", post(given), refused=400)
        yield Head(f"coding-and-length-{number}", post(given, b"Content-Length: 5"), refused=400)
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
    for other in (b"y 100-continue", b"100-continue, x", b"something", b"", b"100"):
        yield Head(f"expect-other-{other.decode()}", post(b"Content-Length: 5", b"Expect: " + other), refused=417)
    yield Head("expect-bad-length-first", post(b"Content-Length: x", b"Expect: y"), refused=400)


FRAMING = [*_lengths(), *_codings(), *_persistence(), *_expectations()]
