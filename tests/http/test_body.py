"""Chunked bodies: the corpus, whole, cut anywhere, byte by byte and with a tail."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.chunked import CHUNKED, END, HELLO, Chunked
from wsgicluster.errors import ProtocolError
from wsgicluster.http.body import LAST_CHUNK, ChunkedDecoder, chunk_head

DECODERS = {"python": ChunkedDecoder}
"""Every implementation is held to the same corpus."""

TAILS = (b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n", b"0\r\n\r\n", b"\xff")


@dataclass
class Decoded:
    """What pieces of data were decoded to."""

    decoder: ChunkedDecoder
    body: bytearray = field(default_factory=bytearray)
    used: int = 0

    def feed_all(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            assert not self.decoder.done
            self.feed(piece)

    def feed(self, data: bytes, start: int = 0) -> None:
        end = self.decoder.feed(data, start, self.body.extend)
        assert end == len(data) or self.decoder.done
        assert self.decoder.received == len(self.body)
        self.used += end - start


def pieces_of(case: Chunked) -> list[list[bytes]]:
    """The ways to cut a body: nowhere, at each place (at some, if it is long), and at every place."""
    raw = case.raw
    places = range(1, len(raw)) if len(raw) < 2000 else [*range(1, 40), *range(40, len(raw), 997), len(raw) - 1]
    ways = [[raw], *([raw[:place], raw[place:]] for place in places)]
    if len(raw) < 40000:
        ways.append([raw[i : i + 1] for i in range(len(raw))])
    return ways


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("case", CHUNKED, ids=lambda case: case.name)
def test_corpus(decoder: str, case: Chunked) -> None:
    for pieces in pieces_of(case):
        decoded = Decoded(DECODERS[decoder](case.limit_bytes))
        if case.refused:
            with pytest.raises(ProtocolError) as caught:
                decoded.feed_all([*pieces, END])
            assert caught.value.status == case.refused
            assert caught.value.detail
        else:
            decoded.feed_all(pieces)
            assert decoded.decoder.done
            assert bytes(decoded.body) == case.body
            assert decoded.used == len(case.raw)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("case", [case for case in CHUNKED if not case.refused], ids=lambda case: case.name)
def test_what_follows_is_not_read(decoder: str, case: Chunked) -> None:
    for tail in TAILS:
        decoded = Decoded(DECODERS[decoder](case.limit_bytes))
        decoded.feed(b"before" + case.raw + tail, 6)
        assert decoded.decoder.done
        assert bytes(decoded.body) == case.body
        assert decoded.used == len(case.raw)
        assert decoded.decoder.feed(tail, 0, decoded.body.extend) == 0


def test_pieces_are_passed_on_as_they_arrive_and_not_copied() -> None:
    pieces: list[memoryview] = []
    decoder = ChunkedDecoder(0)
    data = b"a\r\n0123"
    assert decoder.feed(data, 0, pieces.append) == len(data)
    assert [bytes(piece) for piece in pieces] == [b"0123"]
    assert pieces[0].obj is data
    assert decoder.received == 4
    assert not decoder.done


def test_a_chunk_beyond_the_limit_is_refused_before_its_data() -> None:
    pieces: list[memoryview] = []
    decoder = ChunkedDecoder(9)
    decoder.feed(HELLO, 0, pieces.append)
    with pytest.raises(ProtocolError) as caught:
        decoder.feed(b"5\r\n", 0, pieces.append)
    assert caught.value.status == 413
    assert b"".join(pieces) == b"hello"


@pytest.mark.parametrize(
    ("data", "status"), [(b"0" * 4099, 400), (b"5;" + b"e" * 4097, 400), (b"0\r\nX: " + b"v" * 16384, 431)]
)
def test_a_line_that_never_ends_is_refused(data: bytes, status: int) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        decoded = Decoded(ChunkedDecoder(0))
        with pytest.raises(ProtocolError) as caught:
            decoded.feed_all(pieces)
        assert caught.value.status == status


def test_encoding() -> None:
    assert chunk_head(1) == b"1\r\n"
    assert chunk_head(255) == b"ff\r\n"
    assert chunk_head(65536) == b"10000\r\n"
    decoded = Decoded(ChunkedDecoder(0))
    for block in (b"a", b"b" * 300):
        decoded.feed(chunk_head(len(block)) + block + b"\r\n")
    decoded.feed(LAST_CHUNK)
    assert decoded.decoder.done
    assert decoded.body == b"a" + b"b" * 300


@settings(max_examples=300)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_whatever_is_encoded_is_decoded(blocks: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(chunk_head(len(block)) + block + b"\r\n" for block in blocks) + LAST_CHUNK
    places = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=5)))
    decoded = Decoded(ChunkedDecoder(0))
    for start, end in zip([0, *places], [*places, len(raw)], strict=True):
        decoded.feed(raw[start:end])
    assert decoded.decoder.done
    assert bytes(decoded.body) == b"".join(blocks)


@settings(max_examples=400)
@given(st.binary(max_size=60), st.integers(0, 60), st.data())
def test_cutting_changes_nothing(noise: bytes, place: int, data: st.DataObject) -> None:
    """However a body is cut: the same body, or a refusal with the same status."""
    base = b'3;a="b"\r\nabc\r\n2\r\n\r\n\r\n0\r\nX-T: v\r\n\r\n'
    place = min(place, len(base))
    raw = base[:place] + noise + base[place + data.draw(st.integers(0, 4)) :]
    outcomes = []
    for pieces in ([raw], [raw[i : i + 1] for i in range(len(raw))]):
        decoded = Decoded(ChunkedDecoder(1000))
        status = 0
        try:
            for piece in pieces:
                if not decoded.decoder.done:
                    decoded.feed(piece)
        except ProtocolError as error:
            status = error.status
        outcomes.append((status, bytes(decoded.body), decoded.decoder.done, 0 if status else decoded.used))
    assert outcomes[0] == outcomes[1]
