"""Where records begin in a stream that comes in pieces of any size."""

import pytest

from wsgicluster.worker.transport.tls_records import Records

SIZES = (0, 1, 5, 300, 17, 0, 16_640, 2)
STREAM = b"".join(b"\x17\x03\x03" + size.to_bytes(2, "big") + b"x" * size for size in SIZES)


@pytest.mark.parametrize("step", [1, 2, 4, 5, 6, 7, 304, 305, 306, 20_000])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_every_record_is_counted_once(step: int, most: int) -> None:
    records = Records()
    stream, count = b"", 0
    for start in range(0, len(STREAM), step):
        for piece, begun in records.cut(STREAM[start : start + step], most):
            assert begun <= most
            stream += piece
            count += begun
    assert (stream, count) == (STREAM, len(SIZES))


def test_pieces_end_between_records() -> None:
    found = list(Records().cut(STREAM, 3))
    assert [begun for _, begun in found] == [3, 3, 2]
    assert [len(piece) for piece, _ in found] == [5 + 6 + 10, 305 + 22 + 5, 16_645 + 7]


def test_nothing_is_a_piece() -> None:
    assert list(Records().cut(b"", 3)) == [(b"", 0)]
