"""Where bodies are kept."""

import os
from pathlib import Path

import pytest

from wsgicluster.errors import ProtocolError
from wsgicluster.wsgi.input import MEMORY_BYTES, StoredBody


@pytest.mark.parametrize("length", [-1, 3 * MEMORY_BYTES])
def test_a_large_body_goes_to_a_file_without_a_name(tmp_path: Path, length: int) -> None:
    body = StoredBody(str(tmp_path), length)
    for number in range(3):
        body.write(memoryview(bytes([number]) * MEMORY_BYTES))
    file = body.finish()
    assert os.listdir(tmp_path) == []
    assert file.read() == b"".join(bytes([number]) * MEMORY_BYTES for number in range(3))
    file.close()


def test_a_small_body_stays_in_memory_and_reads_like_a_file() -> None:
    body = StoredBody("/nonexistent", -1)
    body.write(memoryview(b"one\ntwo\r\n"))
    body.write(memoryview(b"three"))
    assert list(body.finish()) == [b"one\n", b"two\r\n", b"three"]


def test_a_folder_without_room_is_a_503_that_names_it(tmp_path: Path) -> None:
    body = StoredBody(str(tmp_path / "missing"), -1)
    with pytest.raises(ProtocolError, match="tmp_upload_dir") as caught:
        body.write(memoryview(b"x" * (MEMORY_BYTES + 1)))
    assert caught.value.status == 503


@pytest.mark.usefixtures("no_collection")
def test_discard_closes_the_file(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    body = StoredBody(str(tmp_path), 2 * MEMORY_BYTES)
    body.write(memoryview(b"x"))
    body.discard()
    assert set(os.listdir("/proc/self/fd")) == before
