"""Chunked bodies and what must become of them."""

from collections.abc import Iterator
from dataclasses import dataclass

END = b"0\r\n\r\n"
HELLO = b"5\r\nhello\r\n"


@dataclass(frozen=True)
class Chunked:
    """One case: ``raw`` decodes to ``body``, or is refused with a status."""

    name: str
    raw: bytes
    body: bytes = b""
    refused: int = 0
    limit_bytes: int = 0


def _valid() -> Iterator[Chunked]:
    for name, raw, body in (
        ("empty", END, b""),
        ("one", HELLO + END, b"hello"),
        ("two", HELLO + b"1\r\n!\r\n" + END, b"hello!"),
        ("hex-lower", b"a\r\n0123456789\r\n" + END, b"0123456789"),
        ("hex-upper", b"A\r\n0123456789\r\n" + END, b"0123456789"),
        ("hex-two", b"1a\r\n" + b"z" * 26 + b"\r\n" + END, b"z" * 26),
        ("zeros", b"0005\r\nhello\r\n" + END, b"hello"),
        ("many-zeros", b"0" * 100 + b"5\r\nhello\r\n" + END, b"hello"),
        ("last-zeros", HELLO + b"000\r\n\r\n", b"hello"),
        ("binary", b"6\r\n\x00\xff\r\n0\r\r\n" + END, b"\x00\xff\r\n0\r"),
        ("looks-like-the-end", b"5\r\n0\r\n\r\n\r\n" + END, b"0\r\n\r\n"),
        ("only-line-ends", b"4\r\n\r\n\r\n\r\n" + END, b"\r\n\r\n"),
        ("extension", b"5;name\r\nhello\r\n" + END, b"hello"),
        ("extension-value", b"5;name=value\r\nhello\r\n" + END, b"hello"),
        ("extension-quoted", b'5;name="a b;c"\r\nhello\r\n' + END, b"hello"),
        ("extension-escaped", b'5;name="a\\"b\\\\"\r\nhello\r\n' + END, b"hello"),
        ("extension-quoted-empty", b'5;name=""\r\nhello\r\n' + END, b"hello"),
        ("extension-quoted-high", b'5;name="\xe9\xff"\r\nhello\r\n' + END, b"hello"),
        ("extension-spaces", b'5 ; name\t= "v" ; other\r\nhello\r\n' + END, b"hello"),
        ("extension-last", HELLO + b"0;name=value\r\n\r\n", b"hello"),
        ("extension-longest", b"5;" + b"e" * 4094 + b"\r\nhello\r\n" + END, b"hello"),
        ("trailer", HELLO + b"0\r\nX-T: v\r\n\r\n", b"hello"),
        ("trailers", HELLO + b"0\r\nX-T1: v\r\nX-T2:\r\nX_T: \xe9\r\n\r\n", b"hello"),
        ("trailer-that-frames", HELLO + b"0\r\nContent-Length: 99\r\nTransfer-Encoding: x\r\n\r\n", b"hello"),
        ("trailers-most", HELLO + b"0\r\n" + b"X: v\r\n" * 100 + b"\r\n", b"hello"),
        ("many", b"1\r\nz\r\n" * 300 + END, b"z" * 300),
    ):
        yield Chunked(name, raw, body)
    sizes = (1, 7, 4095, 4096, 4097, 65536)
    raw = b"".join(b"%x\r\n%s\r\n" % (size, b"z" * size) for size in sizes)
    yield Chunked("uneven", raw + END, b"z" * sum(sizes))
    yield Chunked("limit", HELLO + HELLO + END, b"hellohello", limit_bytes=10)


def _refused() -> Iterator[Chunked]:
    for name, raw in (
        ("size-empty", b"\r\nhello\r\n"),
        ("size-extension-only", b";name\r\nhello\r\n"),
        ("size-word", b"xyz\r\nhello\r\n"),
        ("size-minus", b"-5\r\nhello\r\n"),
        ("size-plus", b"+5\r\nhello\r\n"),
        ("size-0x", b"0x5\r\nhello\r\n"),
        ("size-0X", b"0X5\r\nhello\r\n"),
        ("size-underscore", b"0_5\r\nhello\r\n"),
        ("size-tail", b"5z\r\nhello\r\n"),
        ("size-space-before", b" 5\r\nhello\r\n"),
        ("size-space-behind", b"5 \r\nhello\r\n"),
        ("size-space-inside", b"5 5\r\nhello\r\n"),
        ("size-vt", b"5\x0b\r\nhello\r\n"),
        ("size-nul", b"5\x00\r\nhello\r\n"),
        ("size-float", b"5.0\r\nhello\r\n"),
        ("size-superscript", b"\xb2\r\nhello\r\n"),
        ("size-quoted", b'"5"\r\nhello\r\n'),
        ("size-17-digits", b"10000000000000005\r\nhello\r\n"),
        ("size-200-digits", b"1" + b"0" * 199 + b"5\r\nhello\r\n"),
        ("size-lf", b"5\nhello\r\n"),
        ("size-cr", b"5\rhello\r\n"),
        ("size-cr-lf-lf", b"5\r\r\nhello\r\n"),
        ("size-endless", b"0" * 4097 + b"\r\n"),
        ("data-lf", b"5\r\nhello\n"),
        ("data-cr", b"5\r\nhello\rX"),
        ("data-nothing", b"5\r\nhello0\r\n\r\n"),
        ("data-other", b"5\r\nhelloXX"),
        ("data-too-long", b"4\r\nhello\r\n"),
        ("data-too-short", b"6\r\nhello\r\n"),
        ("extension-empty", b"5;\r\nhello\r\n"),
        ("extension-value-empty", b"5;a=\r\nhello\r\n"),
        ("extension-unclosed", b'5;a="b\r\nhello\r\n'),
        ("extension-two-values", b"5;a=b c\r\nhello\r\n"),
        ("extension-lf", b"5;a\nb\r\nhello\r\n"),
        ("extension-cr", b"5;a\rb\r\nhello\r\n"),
        ("extension-nul", b"5;a\x00b\r\nhello\r\n"),
        ("extension-nul-quoted", b'5;a="\x00"\r\nhello\r\n'),
        ("extension-lf-quoted", b'5;a="\n"\r\nhello\r\n'),
        ("extension-comma", b"5,a\r\nhello\r\n"),
        ("extension-too-long", b"5;" + b"e" * 4095 + b"\r\nhello\r\n"),
        ("trailer-no-colon", HELLO + b"0\r\nunexpected\r\n\r\n"),
        ("trailer-empty-name", HELLO + b"0\r\n: v\r\n\r\n"),
        ("trailer-space-colon", HELLO + b"0\r\nX-T : v\r\n\r\n"),
        ("trailer-nul", HELLO + b"0\r\nX\x00: v\r\n\r\n"),
        ("trailer-nul-value", HELLO + b"0\r\nX: \x00\r\n\r\n"),
        ("trailer-lf", HELLO + b"0\r\nX: v\n\r\n"),
        ("trailer-cr", HELLO + b"0\r\nX: v\rY: w\r\n\r\n"),
        ("trailer-fold", HELLO + b"0\r\nX-T: a\r\n b\r\n\r\n"),
        ("end-lf", HELLO + b"0\r\n\n"),
        ("end-request", HELLO + b"0\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("last-lf", HELLO + b"0\n\r\n"),
    ):
        yield Chunked(name, raw, refused=400)
    yield Chunked("trailers-too-many", HELLO + b"0\r\n" + b"X: v\r\n" * 101 + b"\r\n", refused=431)
    yield Chunked("trailer-too-long", HELLO + b"0\r\nX: " + b"v" * 16382 + b"\r\n\r\n", refused=431)
    yield Chunked("trailers-too-long", HELLO + b"0\r\n" + (b"X: " + b"v" * 1000 + b"\r\n") * 17 + b"\r\n", refused=431)
    yield Chunked("limit-at-once", HELLO + END, refused=413, limit_bytes=4)
    yield Chunked("limit-later", HELLO + HELLO + END, refused=413, limit_bytes=9)
    yield Chunked("limit-announced", b"ffffffffffffffff\r\n", refused=413, limit_bytes=1 << 30)


CHUNKED = [*_valid(), *_refused()]
