"""What a socket does not take at once: order, bounded memory, files."""

import gc
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsgicluster.errors import ClientGone
from wsgicluster.worker.outbox import MEMORY_BYTES, FileFault, Outbox, SpoolError
from wsgicluster.wsgi.files import FileRegion

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, theirs


def drain(outbox: Outbox, ours: socket.socket, theirs: socket.socket) -> bytes:
    got = bytearray()
    while not outbox.flush(ours):
        got += theirs.recv(1 << 20)
    ours.shutdown(socket.SHUT_WR)
    while data := theirs.recv(1 << 20):
        got += data
    return bytes(got)


def test_memory_file_and_spool_keep_their_order(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"f" * 300_000)
    outbox = Outbox(str(tmp_path))
    blocks = [bytes([65 + i]) * 200_000 for i in range(12)]
    for block in blocks:
        outbox.put(block)
    assert outbox.memory_bytes <= MEMORY_BYTES
    with path.open("rb") as file:
        outbox.put_file(FileRegion(file.fileno(), 1000, 200_000))
    outbox.put(b"the end")
    assert drain(outbox, *pair) == b"".join(blocks) + b"f" * 200_000 + b"the end"
    assert os.listdir(tmp_path) == ["file"]


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    gc.collect()  # what other tests have left must not go meanwhile
    before = set(os.listdir("/proc/self/fd"))
    outbox = Outbox(str(tmp_path))
    with tempfile.TemporaryFile() as file:
        outbox.put_file(FileRegion(file.fileno(), 0, 10))
    outbox.put(b"x" * (MEMORY_BYTES + 1))
    outbox.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_client_that_left_is_told(pair: Pair, tmp_path: Path) -> None:
    ours, theirs = pair
    theirs.close()
    outbox = Outbox(str(tmp_path))
    outbox.put(b"x")
    with pytest.raises(ClientGone):
        outbox.flush(ours)


def test_a_folder_without_room_is_named(tmp_path: Path) -> None:
    outbox = Outbox(str(tmp_path / "missing"))
    with pytest.raises(SpoolError, match=r"missing.*tmp_upload_dir"):
        outbox.put(b"x" * (MEMORY_BYTES + 1))


def test_a_file_that_became_shorter_is_our_fault(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    outbox = Outbox(str(tmp_path))
    with path.open("rb") as file:
        outbox.put_file(FileRegion(file.fileno(), 0, 10))
    with pytest.raises(FileFault, match="shorter"):
        while not outbox.flush(pair[0]):
            pass
