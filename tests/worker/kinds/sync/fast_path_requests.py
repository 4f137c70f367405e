"""What clients send, cut into the segments in which it arrives: the usual, the legal and the refused."""

import dataclasses

from tests.worker.kinds.sync.looped_client import FIN, Segment

ACCEPTED_FIRST = b""
"""As the first segment: the connection is open, and waits in the worker's loop, before anything is sent."""

HOST = b"Host: example.com\r\n"
CLOSE = b"Connection: close\r\n"
GET = b"GET /a/path?query=1 HTTP/1.1\r\n" + HOST + b"User-Agent: twins\r\nReferer: /here\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /last HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"


def get(fields: bytes = b"", line: bytes = b"GET /a/path?query=1 HTTP/1.1") -> bytes:
    """A request without a body."""
    return line + b"\r\n" + HOST + fields + b"\r\n"


def post(body: bytes, fields: bytes = b"") -> bytes:
    """A request with a body of known length."""
    return b"POST /form HTTP/1.1\r\n" + HOST + fields + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(fields: bytes = b"") -> bytes:
    """A request whose body comes in two chunks."""
    head = b"POST /form HTTP/1.1\r\n" + HOST + fields + b"Transfer-Encoding: chunked\r\n\r\n"
    return head + b"5\r\nhello\r\n7;extension=1\r\n, world\r\n0\r\nTrailer: 1\r\n\r\n"


def cut(data: bytes, *places: int) -> tuple[bytes, ...]:
    """The pieces of data between the places."""
    return tuple(data[start:end] for start, end in zip((0, *places), (*places, len(data)), strict=True))


@dataclasses.dataclass(frozen=True)
class Request:
    """One client's part of a conversation; ``host`` is the address it comes from, if that matters."""

    segments: tuple[Segment, ...]
    host: str = ""


LARGE = bytes(range(256)) * 4096 + b"!"
"""One byte more than bodies of requests and responses may take in memory."""

STRANGER = "127.0.0.2"

REQUESTS: dict[str, Request] = {
    # -- one at a time, complete in one segment
    "get": Request((GET,)),
    "get, accepted first": Request((ACCEPTED_FIRST, GET)),
    "get, get": Request((GET, NEXT)),
    "get, then the client's end": Request((GET, FIN)),
    "get, post, close": Request((GET, post(b"hello"), LAST)),
    "quoted path": Request((get(line=b"GET /caf%C3%A9/%2f%zz?%20 HTTP/1.1"),)),
    "latin-1 value": Request((get(b"X-Name: caf\xe9\r\n"),)),
    "field given twice": Request((get(b"Accept: a\r\nAccept: b\r\n"),)),
    "name with underscore": Request((get(b"X_Name: forged\r\nX-Name: real\r\n"),)),
    "keep-alive": Request((get(b"Connection: keep-alive\r\n"),)),
    "two options": Request((get(b"Connection: keep-alive, x-option\r\n"),)),
    "empty line first": Request((b"\r\n" + GET,)),
    "absolute form": Request((get(line=b"GET http://other.example/a?b HTTP/1.1"),)),
    "options *": Request((get(line=b"OPTIONS * HTTP/1.1"),)),
    "delete": Request((get(line=b"DELETE /thing HTTP/1.1"),)),
    "unknown method": Request((get(line=b"BREW /pot HTTP/1.1"),)),
    "user and agent": Request((get(b'Authorization: Basic dXNlcjpwYXNz\r\nUser-Agent: "quoted"\\\r\n'),)),
    "head": Request((get(line=b"HEAD /a HTTP/1.1"),)),
    "head, close": Request((get(CLOSE, b"HEAD /a HTTP/1.1"),)),
    "head, get": Request((get(line=b"HEAD /a HTTP/1.1"), GET)),
    # -- the end of the connection
    "close": Request((get(CLOSE),)),
    "close, accepted first": Request((ACCEPTED_FIRST, get(CLOSE))),
    "get, close": Request((GET, LAST)),
    "close, and more": Request((get(CLOSE) + NEXT,)),
    "http/1.0": Request((get(line=b"GET /old HTTP/1.0"),)),
    "http/1.0, keep-alive": Request((get(b"Connection: keep-alive\r\n", b"GET /old HTTP/1.0"),)),
    "http/1.0 without host": Request((b"GET /old HTTP/1.0\r\n\r\n",)),
    # -- bodies
    "post": Request((post(b"name=value", b"Content-Type: application/x-www-form-urlencoded\r\n"),)),
    "post, accepted first": Request((ACCEPTED_FIRST, post(b"name=value"))),
    "post nothing": Request((post(b""),)),
    "post, close": Request((post(b"hello", CLOSE),)),
    "post 64 KiB": Request((post(LARGE[: 64 * 1024]),)),
    "post 1 MiB": Request((post(LARGE[:-1]),)),
    "post more than memory": Request((post(LARGE),)),
    "post larger than allowed": Request((post(LARGE + LARGE),)),
    "head and body apart": Request(cut(post(b"hello"), -5)),
    "body in pieces": Request(cut(post(b"hello, world"), -12, -8, -1)),
    "body in pieces, and more": Request(cut(post(b"hello, world") + NEXT, 70, -len(NEXT) - 4)),
    "body in pieces, close, and more": Request(cut(post(b"hello, world", CLOSE) + NEXT, 90, -len(NEXT) - 4)),
    "chunked": Request((chunked(),)),
    "chunked, close": Request((chunked(CLOSE),)),
    "chunked in pieces": Request(cut(chunked(), 60, -40, -20, -3, -1)),
    "expect": Request(cut(post(b"hello", b"Expect: 100-continue\r\n"), -5)),
    "expect, not waiting": Request((post(b"hello", b"Expect: 100-continue\r\n"),)),
    "expect, chunked": Request(
        cut(chunked(b"Expect: 100-continue\r\n"), chunked(b"Expect: 100-continue\r\n").index(b"5"))
    ),
    "expect without a body": Request((get(b"Expect: 100-continue\r\n"),)),
    # -- pipelined
    "two": Request((GET + NEXT,)),
    "three": Request((GET + NEXT + get(),)),
    "two, close": Request((GET + LAST,)),
    "post and get": Request((post(b"hello") + NEXT,)),
    "get and post": Request((GET + post(b"hello"),)),
    "get and chunked": Request((GET + chunked() + NEXT,)),
    "get and half of another": Request(cut(GET + NEXT, len(GET) + 10)),
    "get and nonsense": Request((GET + b"\0\0\0\0",)),
    # -- cut at awkward places
    "byte by byte": Request(cut(GET, *range(1, len(GET)))),
    "cut in the line": Request(cut(GET, 7)),
    "cut in a field": Request(cut(GET, 40)),
    "cut in the last line ends": Request(cut(GET, -3, -2, -1)),
    "cut in the last line ends, close": Request(cut(LAST, -2)),
    "half a head, then the end": Request((GET[:30], FIN)),
    "half a body, then the end": Request((post(b"hello")[:-2], FIN)),
    "nothing, then the end": Request((ACCEPTED_FIRST, FIN)),
    # -- peers and what they may say
    "trusted https": Request((get(b"X-Forwarded-Proto: https\r\n"),)),
    "trusted https, close": Request((get(b"X-Forwarded-Proto: https\r\n" + CLOSE),)),
    "trusted http": Request((get(b"X-Forwarded-Proto: http\r\nX-Forwarded-Ssl: off\r\n"),)),
    "trusted contradiction": Request((get(b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n"),)),
    "trusted contradiction, close": Request((get(b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n" + CLOSE),)),
    "stranger": Request((get(b"X-Forwarded-Proto: https\r\n"),), STRANGER),
    "stranger, close": Request((get(b"X-Forwarded-Proto: https\r\n" + CLOSE),), STRANGER),
    # -- refused
    "no host": Request((b"GET / HTTP/1.1\r\n\r\n",)),
    "two hosts": Request((get(HOST),)),
    "bad field": Request((get(b"Bad Name: 1\r\n"),)),
    "folded field": Request((get(b"X-A: 1\r\n 2\r\n"),)),
    "bare LF": Request((b"GET / HTTP/1.1\nHost: example.com\n\n",)),
    "nonsense": Request((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",)),
    "version 2": Request((get(line=b"GET / HTTP/2.0"),)),
    "length and coding": Request((post(b"hello", b"Transfer-Encoding: chunked\r\n"),)),
    "length is no number": Request((get(b"Content-Length: 1_0\r\n"),)),
    "unknown coding": Request((get(b"Transfer-Encoding: gzip, chunked\r\n"),)),
    "bad chunk": Request((get(b"Transfer-Encoding: chunked\r\n", b"POST / HTTP/1.1") + b"x\r\n",)),
    "unknown expectation": Request((post(b"hello", b"Expect: more\r\n"),)),
    "line too long": Request((get(line=b"GET /" + b"x" * 9000 + b" HTTP/1.1"),)),
    "field too large": Request((get(b"X-A: " + b"x" * 9000 + b"\r\n"),)),
    "too many fields": Request((get(b"X-A: 1\r\n" * 101),)),
    "get, then bad": Request((GET, get(b"Bad Name: 1\r\n"))),
}

CENTRAL = (
    "get", "get, accepted first", "get, post, close", "head, get", "close", "http/1.0", "post", "chunked", "two",
)  # fmt: skip
"""The requests that every application gets."""
