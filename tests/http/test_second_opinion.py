"""h11 as a second opinion: what is accepted here is accepted there, and framed alike.

The other way round is not checked: h11 is lenient on purpose in places where this package is strict
(equal Content-Length fields, bare LF, obs-fold, spaces behind a chunk's size, any Host).
"""

import re
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.chunked import CHUNKED as CHUNKED_BODIES
from tests.corpus.heads import HEADS
from tests.http.generated import PIECES, heads
from wsgicluster.errors import ProtocolError
from wsgicluster.http.body import ChunkedDecoder
from wsgicluster.http.head import CHUNKED, HTTP_11, IS_HEAD, KEEP_ALIVE, parse_head
from wsgicluster.http.limits import HeadLimits

NEXT = b"GET /next HTTP/1.1\r\n"
MANY_BYTES = 1 << 20
LEFT_OUT = ("many-zeros", "extension-spaces", "trailer-that-frames")
"""h11 reads at most 20 digits of a size, no space before an extension, and looks at trailers as at header fields."""

SPACE_BEFORE_EXTENSION = re.compile(rb"[ \t]+;")


def connection(data: bytes) -> h11.Connection:
    found = h11.Connection(h11.SERVER, max_incomplete_event_size=MANY_BYTES)
    found.receive_data(data)
    return found


def compare(raw: bytes) -> bool:
    """Whether a head is accepted here; if so, h11 has to see the same request and the same end of it."""
    try:
        environ, length, flags = parse_head(raw, 0, len(raw) - 4, {}, HeadLimits())
    except ProtocolError:
        return False
    if length > 1000:
        return True
    body = b"3\r\nabc\r\n0\r\n\r\n" if length == CHUNKED else b"x" * length
    other = connection(raw + body + NEXT)
    request = other.next_event()
    assert isinstance(request, h11.Request), f"h11 says {request}"
    assert request.method.decode() == environ["REQUEST_METHOD"]
    assert request.target.decode() == environ["RAW_URI"]
    assert (request.http_version >= b"1.1") == bool(flags & HTTP_11)
    assert (request.method == b"HEAD") == bool(flags & IS_HEAD)
    compare_fields(request, environ)
    event = other.next_event()
    received = b""
    while isinstance(event, h11.Data):
        received += event.data
        event = other.next_event()
    assert isinstance(event, h11.EndOfMessage)
    assert received == (b"abc" if length == CHUNKED else body)
    assert other.trailing_data[0] == NEXT
    # h11 never keeps a connection of HTTP/1.0, and waits for the answer to an upgrade, which is ignored here.
    if flags & HTTP_11 and "HTTP_UPGRADE" not in environ:
        assert (other.their_state is h11.DONE) == bool(flags & KEEP_ALIVE)
    return True


def compare_fields(request: h11.Request, environ: dict[str, Any]) -> None:
    found: dict[str, list[str]] = {}
    for name, value in request.headers:
        if b"_" not in name:
            key = name.decode().upper().replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key
            found.setdefault(key, []).append(value.decode("latin-1"))
    theirs = {key: ("; " if key == "HTTP_COOKIE" else ",").join(values) for key, values in found.items()}
    ours = {key: value for key, value in environ.items() if key.startswith(("HTTP_", "CONTENT_"))}
    if "CONTENT_LENGTH" in theirs:
        # Leading zeros are skipped here.
        theirs["CONTENT_LENGTH"] = str(int(theirs["CONTENT_LENGTH"]))
    if "HTTP_TRANSFER_ENCODING" in theirs:
        ours["HTTP_TRANSFER_ENCODING"] = ours["HTTP_TRANSFER_ENCODING"].lower()
    if not environ["RAW_URI"].startswith(("/", "*")):
        # h11 leaves it to others that the authority in the target replaces Host.
        del ours["HTTP_HOST"]
        theirs.pop("HTTP_HOST", None)
    assert ours == theirs


def test_the_corpus() -> None:
    # h11 reads at most 20 digits of a length, and zeros count.
    accepted = [
        case for case in HEADS if case.name != "length-many-zeros" and not case.script_name and compare(case.raw)
    ]
    assert len(accepted) > 150


@pytest.mark.exhaustive
@settings(max_examples=1500)
@given(heads())
def test_generated_heads(raw: bytes) -> None:
    compare(raw)


def read_chunked(raw: bytes) -> tuple[bytes, int] | None:
    """Body and number of bytes used; None when it is refused or not complete."""
    decoder, body = ChunkedDecoder(MANY_BYTES), bytearray()
    try:
        used = decoder.feed(raw, 0, body.extend)
    except ProtocolError:
        return None
    return (bytes(body), used) if decoder.done else None


def read_chunked_by_h11(raw: bytes) -> tuple[bytes, int] | None:
    other = connection(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + raw)
    body = b""
    try:
        while not isinstance(event := other.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                body += event.data
            elif not isinstance(event, h11.Request):
                return None
    except h11.RemoteProtocolError:
        return None
    return body, len(raw) - len(other.trailing_data[0])


def test_the_corpus_of_chunked_bodies() -> None:
    for case in CHUNKED_BODIES:
        ours = read_chunked(case.raw + NEXT)
        if ours is not None and case.name not in LEFT_OUT:
            assert read_chunked_by_h11(case.raw + NEXT) == ours, case.name


@pytest.mark.exhaustive
@settings(max_examples=1500)
@given(st.integers(0, 42), st.integers(0, 3), st.one_of(st.sampled_from(PIECES), st.binary(max_size=3)))
def test_mutated_chunked_bodies(place: int, left_out: int, piece: bytes) -> None:
    base = b'3;a="b"\r\nabc\r\n2\r\n\r\n\r\n0\r\nX-T: v\r\n\r\n' + NEXT
    raw = base[:place] + piece + base[place + left_out :]
    ours = read_chunked(raw)
    if ours is not None and not SPACE_BEFORE_EXTENSION.search(raw):
        assert read_chunked_by_h11(raw) == ours
