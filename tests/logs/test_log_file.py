"""A log file neither raises nor waits, whatever happens to what is behind it, and counts what is lost."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from wsgicluster.logs.log_file import LogFile


def read_all(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    found = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(descriptor, 65536):
            found += piece
    return found


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Reading and writing end of a pipe."""
    ends = os.pipe()
    yield ends
    for descriptor in ends:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_closed_pipe(pipe: tuple[int, int]) -> None:
    file = _stream(pipe[1])
    os.close(pipe[0])
    file.write(b"lost\n")
    file.close()


@pytest.mark.parametrize("descriptors", ["/proc/self/fd", "/none"], ids=["own", "shared"])
def test_full_pipe(pipe: tuple[int, int], descriptors: str) -> None:
    reader, writer = pipe
    # Where a pipe cannot be opened once more, it is asked before each write.
    file = LogFile("-", writer, None, descriptors)
    told: list[int] = []

    def tell(count: int) -> bool:
        told.append(count)
        return file.put(b"told\n")

    file.report_dropped = tell
    line = b"x" * 999 + b"\n"
    for _ in range(100):
        file.write(line)
    assert os.get_blocking(writer), "others who share the pipe are not affected"
    kept = read_all(reader)
    whole = kept.count(line)
    assert 50 < whole < 100
    file.write(b"again\n")
    assert read_all(reader).endswith(b"again\ntold\n")
    assert told == [100 - whole]
    file.write(b"and on\n")
    assert read_all(reader) == b"and on\n"
    assert len(told) == 1
    file.close()


def test_a_torn_line_does_not_spoil_the_next(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    file = _stream(writer)
    file.write(b"y" * 200_000 + b"\n")
    kept = read_all(reader)
    assert 0 < len(kept) < 200_000
    file.write(b"next\n")
    assert read_all(reader).startswith(b"\nnext\n")
    file.close()


def test_text_is_dropped_and_counted_like_lines(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    file = _stream(writer)
    file.write(b"y" * 200_000 + b"\n", whole=False)
    read_all(reader)
    file.write(b"next\n", whole=False)
    assert read_all(reader).startswith(b"\nnext\n")
    file.close()


def test_batches_larger_than_a_piece_arrive_whole(pipe: tuple[int, int]) -> None:
    file = _stream(pipe[1])
    lines = b"".join(b"%06d %s\n" % (number, b"z" * (number % 500)) for number in range(200))
    assert len(lines) < 60_000
    file.write(lines)
    assert read_all(pipe[0]) == lines
    file.close()


def test_full_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        file = _stream(ours.fileno())
        for number in range(20_000):
            file.write(b"%099d\n" % number)
        assert ours.gettimeout() is None
        received = read_all(theirs.fileno())
        assert received.startswith(b"%099d\n" % 0)
        file.write(b"again\n")
        assert read_all(theirs.fileno()).endswith(b"again\n")
        file.close()


def test_several_writers_of_one_full_pipe(pipe: tuple[int, int]) -> None:
    # Between asking and writing another one may take the last room; no process may wait for it.
    files = [_stream(pipe[1]) for _ in range(4)]
    threads = [threading.Thread(target=_write_often, args=(file,), daemon=True) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    for file in files:
        file.close()


def _write_often(file: LogFile) -> None:
    for _ in range(2000):
        file.write(b"w" * 99 + b"\n")


def _stream(descriptor: int) -> LogFile:
    """A log on a descriptor, as on a standard stream."""
    return LogFile("-", descriptor)
