"""What an application reads of a body that arrives piece by piece, without a client and without a worker."""

import io
import pathlib
import random
from collections.abc import Iterator
from typing import Any

import pytest

from wsgicluster.errors import BrokenBody
from wsgicluster.http.head import CHUNKED
from wsgicluster.worker.kinds.gevent import streaming
from wsgicluster.worker.kinds.gevent.streaming import LARGE_BYTES, BodyFeed, BodyInput, is_streamed
from wsgicluster.wsgi.input import MEMORY_BYTES

OPENED: list[BodyFeed] = []


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    """As at the end of each request."""
    yield
    while OPENED:
        OPENED.pop().kept.release()


class Arriving:
    """A body of which one piece comes each time that the application would have to wait."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self.feed = BodyFeed()
        self.waits = 0
        self._pieces = list(pieces)

    def receive_body(self) -> None:
        self.waits += 1
        piece = self._pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        self.feed.write(memoryview(piece))
        self.feed.complete = not self._pieces

    def input(self) -> Any:
        OPENED.append(self.feed)
        return BodyInput.opened(self, self.feed)


def test_what_is_there_is_given_without_a_wait() -> None:
    arriving = Arriving(b"world")
    arriving.feed.write(memoryview(b"hello "))
    source = arriving.input()
    assert (source.read(6), arriving.waits) == (b"hello ", 0)
    assert (source.read(6), arriving.waits) == (b"world", 1)
    assert source.read() == source.read(1) == b""


def test_in_every_way_of_pep_3333() -> None:
    pieces = (b"one\ntw", b"o\n", b"three\n", b"four")
    assert Arriving(*pieces).input().read() == b"".join(pieces)
    assert list(Arriving(*pieces).input()) == [b"one\n", b"two\n", b"three\n", b"four"]
    assert Arriving(*pieces).input().readlines() == [b"one\n", b"two\n", b"three\n", b"four"]
    source = Arriving(*pieces).input()
    assert [source.readline(), source.readline(2), source.read(3), source.read1(100)] == [
        b"one\n",
        b"tw",
        b"o\nt",
        b"hree\n",
    ]


BODY = random.Random(1).randbytes(3 * MEMORY_BYTES)


def in_pieces(body: bytes, size: int = 100_000) -> Arriving:
    return Arriving(*(body[start : start + size] for start in range(0, len(body), size)))


@pytest.mark.parametrize("body", [BODY[:1000], BODY[:LARGE_BYTES], BODY], ids=len)
@pytest.mark.parametrize("read", [0, 1, 999, 70_000, -1])
def test_it_is_read_again_from_its_beginning(body: bytes, read: int) -> None:
    source = in_pieces(body).input()
    first = source.read(read)
    assert source.seek(0) == 0
    assert source.read(1500) == body[:1500]
    assert source.tell() == min(1500, len(body))
    source.seek(len(first))
    assert source.read() == body[len(first) :]
    source.seek(0)
    assert source.read() == body
    assert source.read() == b""


def test_positions_as_in_a_file() -> None:
    """The same steps lead to the same results in a stream and in a file."""
    random_steps = random.Random(2)
    for _ in range(40):
        body = BODY[: random_steps.choice((1, 5000, 300_000))]
        source, file = in_pieces(body, random_steps.choice((100, 5000, 99_999))).input(), io.BytesIO(body)
        for _ in range(12):
            count = random_steps.choice((0, 1, 777, 70_000, -1))
            offset = random_steps.choice((0, 1, 999, 60_000, 299_999, 400_000))
            name, arguments = random_steps.choice(
                [
                    ("read", (count,)),
                    ("seek", (offset,)),
                    ("seek", (offset, io.SEEK_CUR)),
                    ("seek", (0, io.SEEK_END)),
                    ("readline", ()),
                    ("tell", ()),
                ]
            )
            assert getattr(source, name)(*arguments) == getattr(file, name)(*arguments)
            assert source.tell() == file.tell()
    with pytest.raises(ValueError):
        in_pieces(BODY).input().seek(-1)


def test_of_a_long_one_nothing_is_kept_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "KEPT_BYTES", 2 * MEMORY_BYTES)
    source = in_pieces(BODY).input()
    assert source.read() == BODY
    assert not source.seekable()
    with pytest.raises(OSError, match="not seekable"):
        source.seek(0)
    for ask in ("tell", "seekable"):
        source = in_pieces(BODY).input()
        assert source.read(MEMORY_BYTES) == BODY[:MEMORY_BYTES]
        getattr(source, ask)()
        source.read()
        source.seek(0)
        assert source.read() == BODY


def test_without_room_it_is_read_on(tmp_path: pathlib.Path) -> None:
    arriving = in_pieces(BODY)
    arriving.feed = BodyFeed(str(tmp_path / "missing"))
    source = arriving.input()
    assert source.read() == BODY
    with pytest.raises(OSError, match="not seekable"):
        source.seek(0)
    # What fits in memory needs no folder.
    arriving = in_pieces(BODY[:LARGE_BYTES])
    arriving.feed = BodyFeed(str(tmp_path / "missing"))
    source = arriving.input()
    assert source.read() == BODY[:LARGE_BYTES]
    source.seek(1)
    assert source.read() == BODY[1:LARGE_BYTES]


def test_a_failure_is_raised_where_the_body_is_read() -> None:
    source = Arriving(b"one\ntwo", BrokenBody("gone")).input()
    assert source.readline() == b"one\n"
    with pytest.raises(ConnectionError, match="gone"):
        source.read()


def test_a_body_that_is_complete_at_once_is_a_file() -> None:
    feed = BodyFeed()
    feed.write(memoryview(b"hello"))
    assert feed.finish().read() == b"hello"


@pytest.mark.parametrize(
    ("mode", "streamed"),
    [("off", ()), ("large", (LARGE_BYTES + 1,)), ("all", (1, LARGE_BYTES, LARGE_BYTES + 1, CHUNKED))],
)
def test_which_bodies_are_streamed(mode: str, streamed: tuple[int, ...]) -> None:
    lengths = (1, LARGE_BYTES, LARGE_BYTES + 1, CHUNKED)
    assert tuple(length for length in lengths if is_streamed(mode, length)) == streamed
