"""What a socket does not take at once: order, bounded memory, files."""

import contextlib
import os
import resource
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsgicluster.errors import ClientGone
from wsgicluster.worker.transport.outbox import FileFault, Outbox, SpoolError, Storage
from wsgicluster.worker.transport.transport import PlainTransport, plain_transport
from wsgicluster.wsgi.files import FileRegion

pytestmark = pytest.mark.usefixtures("no_collection")

Pair = tuple[PlainTransport, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    raw, theirs = socket.socketpair()
    ours = plain_transport(raw.detach())
    theirs.settimeout(5)
    with contextlib.closing(ours), theirs:
        yield ours, theirs


def drain(outbox: Outbox, ours: PlainTransport, theirs: socket.socket) -> bytes:
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
    outbox = Outbox(Storage(str(tmp_path)))
    blocks = [bytes([65 + i]) * 200_000 for i in range(12)]
    for block in blocks:
        outbox.put(block)
    assert outbox.memory_bytes <= Storage().buffer_bytes
    with path.open("rb") as file:
        outbox.put_file(FileRegion(file.fileno(), 1000, 200_000))
    outbox.put(b"the end")
    assert drain(outbox, *pair) == b"".join(blocks) + b"f" * 200_000 + b"the end"
    assert os.listdir(tmp_path) == ["file"]


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    outbox = Outbox(Storage(str(tmp_path)))
    with tempfile.TemporaryFile() as file:
        outbox.put_file(FileRegion(file.fileno(), 0, 10))
    outbox.put(b"x" * (Storage().buffer_bytes + 1))
    outbox.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_client_that_left_is_told(pair: Pair, tmp_path: Path) -> None:
    ours, theirs = pair
    theirs.close()
    outbox = Outbox(Storage(str(tmp_path)))
    outbox.put(b"x")
    with pytest.raises(ClientGone):
        outbox.flush(ours)


def test_a_folder_without_room_is_named_and_memory_takes_the_block(pair: Pair, tmp_path: Path) -> None:
    faults: list[SpoolError] = []
    outbox = Outbox(Storage(str(tmp_path / "missing"), 1000, 1_000_000, report=faults.append))
    block = os.urandom(2000)
    outbox.put(block)
    outbox.put(block)
    (fault,) = faults
    assert "missing (tmp_upload_dir)" in str(fault)
    assert (outbox.memory_bytes, outbox.spool_bytes) == (4000, 0)
    assert not outbox.has_room(1)
    assert drain(outbox, *pair) == 2 * block


def test_a_folder_that_is_full_has_room_for_a_part(pair: Pair, tmp_path: Path) -> None:
    pid = os.fork()  # limits hold for a whole process
    if not pid:
        faults: list[SpoolError] = []
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
        outbox = Outbox(Storage(str(tmp_path), 1000, 1_000_000, report=faults.append))
        outbox.put(b"a" * 500)
        outbox.put(b"b" * 2000)
        outbox.put(b"c" * 10)
        found = (outbox.memory_bytes, outbox.spool_bytes, outbox.has_room(1), len(faults))
        sent = drain(outbox, *pair)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)  # a measured process writes what it has covered
        os._exit(found != (1010, 1500, False, 1) or sent != b"a" * 500 + b"b" * 2000 + b"c" * 10)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("spools", [True, False])
def test_a_block_that_is_larger_than_what_may_be_stored_stays_in_memory(tmp_path: Path, spools: bool) -> None:
    outbox = Outbox(Storage(str(tmp_path), 1 << 20, 4 << 20, spools))
    outbox.put(b"head")
    assert outbox.has_room(5 << 20)
    outbox.put(bytes(5 << 20))
    assert outbox.spool_bytes == 0
    assert not outbox.has_room(5 << 20)
    outbox.close()


def test_a_response_that_is_spooled_takes_no_more_than_the_limit_and_gives_its_room_back(
    pair: Pair, tmp_path: Path
) -> None:
    ours, theirs = pair
    storage = Storage(str(tmp_path), 100_000, 8 << 20)
    outbox = Outbox(storage)
    blocks = [os.urandom(70_000) for _ in range(400)]
    got = bytearray()
    most_descriptors = 0
    usual = len(os.listdir("/proc/self/fd"))
    for block in blocks:
        while not outbox.has_room(len(block)):
            outbox.flush(ours)
            got += theirs.recv(1 << 20)
        outbox.put(block)
        assert outbox.memory_bytes <= storage.buffer_bytes
        assert outbox.spool_bytes <= storage.spool_bytes
        most_descriptors = max(most_descriptors, len(os.listdir("/proc/self/fd")) - usual)
    assert 4 <= most_descriptors <= 5
    got += drain(outbox, ours, theirs)
    assert got == b"".join(blocks)
    assert len(os.listdir("/proc/self/fd")) == usual


def test_where_the_application_waits_small_blocks_stay_in_memory_and_a_large_one_is_stored(tmp_path: Path) -> None:
    outbox = Outbox(Storage(str(tmp_path), 100_000, 1 << 20, spools=False))
    outbox.put(bytes(90_000))
    assert outbox.has_room(90_000)
    outbox.put(bytes(90_000))
    assert not outbox.has_room(1)
    assert (outbox.memory_bytes, outbox.spool_bytes) == (180_000, 0)
    outbox.put(bytes(200_000))  # the end of a response, which nobody waits for
    assert (outbox.memory_bytes, outbox.spool_bytes) == (180_000, 200_000)
    outbox.close()


def _take_memory(outbox: Outbox, pair: Pair, least_bytes: int) -> bytes:
    """Be a client that takes what waits in memory at the front, until no more than that is left of it."""
    ours, theirs = pair
    got = bytearray()
    while outbox.memory_bytes > least_bytes:
        outbox.flush(ours)
        got += theirs.recv(1 << 20)
    return bytes(got)


@pytest.fixture
def narrow(pair: Pair) -> Pair:
    """A socket that takes little at a time."""
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return pair


def test_memory_is_used_again_behind_a_temp_file_once_half_of_it_is_free(narrow: Pair, tmp_path: Path) -> None:
    outbox = Outbox(Storage(str(tmp_path), 100_000, 8 << 20))
    blocks = [os.urandom(size) for size in (90_000, 40_000, 5000, 20_000, 60_000, 30_000)]
    outbox.put(blocks[0])
    outbox.put(blocks[1])
    assert (outbox.memory_bytes, outbox.spool_bytes) == (90_000, 40_000)
    outbox.put(blocks[2])  # fits, but the file is there already
    assert (outbox.memory_bytes, outbox.spool_bytes) == (90_000, 45_000)
    got = _take_memory(outbox, narrow, 30_000)
    left_bytes = outbox.memory_bytes
    assert 0 < left_bytes <= 30_000
    outbox.put(blocks[3])
    assert (outbox.memory_bytes, outbox.spool_bytes) == (left_bytes + 20_000, 45_000)
    outbox.put(blocks[4])  # up to the mark, nothing before it being a file
    outbox.put(blocks[5])
    assert outbox.memory_bytes <= 100_000
    assert outbox.spool_bytes >= 45_000 + 30_000
    assert got + drain(outbox, *narrow) == b"".join(blocks)


def test_a_client_that_keeps_up_again_is_sent_little_from_temp_files(narrow: Pair, tmp_path: Path) -> None:
    ours, theirs = narrow
    outbox = Outbox(Storage(str(tmp_path), 100_000, 8 << 20))
    blocks = [os.urandom(10_000) for _ in range(400)]
    usual = len(os.listdir("/proc/self/fd"))
    most_descriptors = spooled_blocks = 0
    got = bytearray()
    for i, block in enumerate(blocks):
        before = outbox.spool_bytes
        outbox.put(block)
        spooled_blocks += outbox.spool_bytes > before
        most_descriptors = max(most_descriptors, len(os.listdir("/proc/self/fd")) - usual)
        assert outbox.memory_bytes <= 100_000
        # It is held up for twenty blocks, catches up a little with each, and is eight blocks behind from then on.
        due_bytes = (i + 1) * 10_000 - max(80_000, 200_000 - i * 1000)
        while len(got) < due_bytes:
            outbox.flush(ours)
            got += theirs.recv(due_bytes - len(got))
    assert 10 <= spooled_blocks <= 100
    assert 1 <= most_descriptors <= 4
    assert bytes(got) + drain(outbox, ours, theirs) == b"".join(blocks)
    assert len(os.listdir("/proc/self/fd")) == usual


def test_a_client_lags_until_it_has_taken_what_is_stored(pair: Pair, tmp_path: Path) -> None:
    ours, theirs = pair
    outbox = Outbox(Storage(str(tmp_path), 10_000, 8 << 20))
    outbox.put(b"a" * 9000)
    outbox.lagging = True
    outbox.put(b"b" * 400_000)
    outbox.flush(ours)
    assert outbox.spool_bytes
    assert outbox.lagging
    assert drain(outbox, ours, theirs) == b"a" * 9000 + b"b" * 400_000
    assert not outbox.lagging


def test_when_no_more_may_be_stored_there_is_room_as_soon_as_memory_has_some(narrow: Pair, tmp_path: Path) -> None:
    outbox = Outbox(Storage(str(tmp_path), 100_000, 150_000))
    outbox.put(bytes(90_000))
    outbox.put(bytes(140_000))
    assert not outbox.has_room(40_000)
    _take_memory(outbox, narrow, 10_000)
    assert outbox.has_room(40_000)
    assert not outbox.has_room(60_000)
    outbox.put(bytes(40_000))
    assert outbox.spool_bytes == 140_000
    outbox.close()


def test_behind_a_block_that_is_missing_nothing_is_sent(pair: Pair, tmp_path: Path) -> None:
    outbox = Outbox(Storage(str(tmp_path)))
    outbox.put(b"x")
    outbox.given_up = True
    with pytest.raises(ClientGone):
        outbox.flush(pair[0])


def test_a_file_that_became_shorter_is_our_fault(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    outbox = Outbox(Storage(str(tmp_path)))
    with path.open("rb") as file:
        outbox.put_file(FileRegion(file.fileno(), 0, 10))
    with pytest.raises(FileFault, match="shorter"):
        while not outbox.flush(pair[0]):
            pass


def test_nothing_waits_when_nothing_was_put(pair: Pair, tmp_path: Path) -> None:
    ours, _ = pair
    outbox = Outbox(Storage(str(tmp_path)))
    outbox.put(b"")
    outbox.put(b"x")
    outbox.put(memoryview(b""))
    assert outbox.flush(ours)
