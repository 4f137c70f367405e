"""What is accepted beyond the strict reading of a head where the settings say so, and what is not even then."""

from collections.abc import Iterator

from tests.corpus.head_case import KEPT, Head, environ, get, lines, post
from wsgicluster.http.head import CHUNKED, IS_HEAD
from wsgicluster.http.limits import HeadLimits, Leniency

USUAL = HeadLimits(leniency=Leniency(methods=False))
CAPITALS = HeadLimits(leniency=Leniency(capitalize_methods=True))
USUAL_CAPITALS = HeadLimits(leniency=Leniency(methods=False, capitalize_methods=True))
VERSIONS = HeadLimits(leniency=Leniency(versions=True))
FOLDING = HeadLimits(leniency=Leniency(folding=True), field_bytes=64, line_bytes=64)
SPACES = HeadLimits(leniency=Leniency(spaces=True))


def _methods() -> Iterator[Head]:
    for method in ("GET", "PUT", "PATCH", "PROPFIND", "VERSION-CONTROL", "M-SEARCH", "ABCDEFGHIJKLMNOPQRST", "A1_"):
        raw = get(line=f"{method} /p HTTP/1.1".encode())
        yield Head(f"usual-method-{method}", raw, added=environ(method=method), limits=USUAL)
    for method in ("get", "GEt", "GE", "G", "GET#", "ABCDEFGHIJKLMNOPQRSTU"):
        raw = get(line=f"{method} /p HTTP/1.1".encode())
        yield Head(f"unusual-method-{method}", raw, refused=400, limits=USUAL)
        yield Head(f"unusual-method-capitals-{method}", raw, refused=400, limits=USUAL_CAPITALS)
        if "#" not in method:
            added = environ(method=method.upper())
            yield Head(f"capital-method-{method}", raw, added=added, limits=CAPITALS)
    raw = get(line=b"head /p HTTP/1.1")
    yield Head("capital-head", raw, added=environ(method="HEAD"), flags=KEPT | IS_HEAD, limits=CAPITALS)


def _versions() -> Iterator[Head]:
    for version, shown in (("2.0", "1.1"), ("3.7", "1.1"), ("1.5", "1.1"), ("0.9", "1.0"), ("1.0", "1.0")):
        raw = get(line=f"GET /p HTTP/{version}".encode())
        added = environ(SERVER_PROTOCOL=f"HTTP/{shown}")
        flags = KEPT if shown == "1.1" else 0
        yield Head(f"any-version-{version}", raw, added=added, flags=flags, limits=VERSIONS)
    for number, line in enumerate((b"HTTP/2", b"HTTP/20.0", b"http/2.0", b"HTTP/x.1", b"HTTP/1.1x")):
        yield Head(f"any-version-bad-{number}", get(line=b"GET /p " + line), refused=400, limits=VERSIONS)
    yield Head("any-version-chunked", post(b"Transfer-Encoding: chunked", version=b"HTTP/0.9"), 400, limits=VERSIONS)
    yield Head("any-version-no-host", get(line=b"GET /p HTTP/2.0", host=None), refused=400, limits=VERSIONS)


def _folding() -> Iterator[Head]:
    for number, (given, value) in enumerate(
        (
            ((b"X-A: a", b" b"), "a b"),
            ((b"X-A: a \t", b"\t  b ", b" c"), "a b c"),
            ((b"X-A:", b" b"), "b"),
            ((b"X-A: a", b" b: c"), "a b: c"),
            ((b"X-A: a", b" "), "a"),
        )
    ):
        yield Head(f"folded-{number}", get(*given), added=environ(HTTP_X_A=value), limits=FOLDING)
        yield Head(f"folded-strictly-{number}", get(*given), refused=400)
    added = environ(method="POST", HTTP_TRANSFER_ENCODING="chunked")
    raw = post(b"Transfer-Encoding:", b" chunked")
    yield Head("folded-coding", raw, added=added, length=CHUNKED, limits=FOLDING)
    yield Head("folded-coding-two", post(b"Transfer-Encoding: chunked", b" x"), refused=400, limits=FOLDING)
    yield Head("folded-length", post(b"Content-Length: 1", b" 2"), refused=400, limits=FOLDING)
    yield Head("folded-first", lines(b"GET /p HTTP/1.1", b" Host: h", b"Host: h"), refused=400, limits=FOLDING)
    yield Head("folded-host", lines(b"GET /p HTTP/1.1", b"Host:", b" h"), added=environ(), limits=FOLDING)
    yield Head("folded-large", get(b"X-A: " + b"a" * 40, b" " + b"b" * 40), refused=431, limits=FOLDING)
    yield Head("folded-control", get(b"X-A: a", b" b\x00"), refused=400, limits=FOLDING)


def _spaces() -> Iterator[Head]:
    yield Head("spaced", get(b"X-A : a"), added=environ(HTTP_X_A="a"), limits=SPACES)
    yield Head("spaced-tab", get(b"X-A \t : a"), added=environ(HTTP_X_A="a"), limits=SPACES)
    yield Head("spaced-strictly", get(b"X-A : a"), refused=400)
    yield Head("spaced-within", get(b"X A: a"), refused=400, limits=SPACES)
    yield Head("spaced-before", get(b" X-A: a"), refused=400, limits=SPACES)
    yield Head("spaced-only", get(b" : a"), refused=400, limits=SPACES)
    yield Head("spaced-no-colon", get(b"X-A "), refused=400, limits=SPACES)
    yield Head("spaced-other", get(b"X-A\x0b: a"), refused=400, limits=SPACES)
    yield Head("spaced-underscore", get(b"X_A : a"), added=environ(), limits=SPACES)
    added = environ(method="POST", CONTENT_LENGTH="5")
    yield Head("spaced-length", post(b"Content-Length : 5"), added=added, length=5, limits=SPACES)
    yield Head("spaced-length-twice", post(b"Content-Length : 5", b"Content-Length: 6"), refused=400, limits=SPACES)
    yield Head(
        "spaced-coding-and-length",
        post(b"Transfer-Encoding : chunked", b"Content-Length: 6"),
        refused=400,
        limits=SPACES,
    )
    added = environ(method="POST", HTTP_TRANSFER_ENCODING="chunked")
    yield Head(
        "spaced-coding", post(b"Transfer-Encoding : chunked"), added=added, length=CHUNKED, flags=KEPT, limits=SPACES
    )


LENIENCY = [*_methods(), *_versions(), *_folding(), *_spaces()]
