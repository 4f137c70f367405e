"""Iterables of applications that have been asked for their first block: what the cycle sees of them afterwards."""

from collections.abc import Iterator

import pytest

from wsgicluster.wsgi.begun import BegunIterable


class Blocks:
    """An application's iterable that says what becomes of it; an exception among its blocks is raised."""

    def __init__(self, *blocks: bytes | Exception, close_fails: bool = False) -> None:
        self._blocks = blocks
        self._close_fails = close_fails
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            if isinstance(block, Exception):
                raise block
            yield block
        self.notes.append("ended")

    def close(self) -> None:
        self.notes.append("closed")
        if self._close_fails:
            raise OSError("close")


@pytest.mark.parametrize("blocks", [(), (b"one",), (b"one", b"two"), (b"", b"two")])
def test_what_was_begun_gives_the_same_blocks_and_closes_once(blocks: tuple[bytes, ...]) -> None:
    result = Blocks(*blocks)
    begun = BegunIterable(result)
    assert tuple(begun) == blocks
    begun.close()
    assert result.notes == ["ended", "closed"]


def test_an_iterable_of_one_block_is_over_when_that_is_taken() -> None:
    result = Blocks(b"one")
    begun = BegunIterable(result)
    begun.first = None
    assert begun.is_over()
    assert result.notes == ["ended", "closed"]
    assert list(begun) == []
    begun.close()
    assert result.notes == ["ended", "closed"]


def test_what_follows_the_first_block_is_left_for_the_cycle() -> None:
    result = Blocks(b"one", b"two", b"three")
    begun = BegunIterable(result)
    begun.first = None
    assert not begun.is_over()
    assert list(begun) == [b"two", b"three"]
    begun.close()
    assert result.notes == ["ended", "closed"]


def test_a_failure_comes_where_the_cycle_expects_it_and_the_iterable_is_closed_all_the_same() -> None:
    for result, first in ((Blocks(OSError("first")), True), (Blocks(b"one", OSError("second")), False)):
        begun = BegunIterable(result)
        if not first:
            begun.first = None
            assert not begun.is_over()
        with pytest.raises(OSError, match="first" if first else "second"):
            list(begun)
        begun.close()
        assert result.notes == ["closed"]


def test_what_is_no_iterable_fails_when_it_is_iterated() -> None:
    begun = BegunIterable(5)
    with pytest.raises(TypeError):
        list(begun)
    begun.close()


def test_a_close_that_fails_is_called_once_and_fails_for_the_cycle() -> None:
    result = Blocks(b"one", close_fails=True)
    begun = BegunIterable(result)
    begun.first = None
    assert not begun.is_over()
    assert list(begun) == []
    with pytest.raises(OSError, match="close"):
        begun.close()
    assert result.notes == ["ended", "closed"]


def test_a_client_that_has_left_ends_it() -> None:
    result = Blocks(b"one", b"two")
    begun = BegunIterable(result)
    begun.first = None
    begun.fail(ConnectionError("left"))
    with pytest.raises(ConnectionError, match="left"):
        list(begun)
    begun.close()
    assert result.notes == ["closed"]
