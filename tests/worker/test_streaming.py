"""What an application reads of a body that arrives piece by piece, without a client and without a worker."""

import io
from typing import Any

import pytest

from wsgicluster.errors import BrokenBody
from wsgicluster.http.head import CHUNKED
from wsgicluster.worker.streaming import LARGE_BYTES, BodyFeed, BodyInput, is_streamed


class Arriving:
    """A connection from which one piece comes each time that somebody would have to wait."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self.feed = BodyFeed()
        self.waits = 0
        self._pieces = list(pieces)

    def receive_body(self, feed: BodyFeed) -> None:
        assert feed is self.feed
        self.waits += 1
        piece = self._pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        feed.write(memoryview(piece))
        feed.complete = not self._pieces

    def input(self) -> Any:
        return io.BufferedReader(BodyInput(self, self.feed))  # type: ignore[arg-type]


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
