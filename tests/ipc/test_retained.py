"""Retained packets: the newest for each topic, for every reader of the file, whatever becomes of a writer."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from wsgicluster.ipc import retained
from wsgicluster.ipc.retained import LIMIT_BYTES, MOVE_BYTES, RetainedFull, RetainedLog
from wsgicluster.system.anonymous_files import anonymous_file


@pytest.fixture
def number() -> Iterator[int]:
    made = anonymous_file("test")
    yield made
    os.close(made)


def packets(log: RetainedLog) -> dict[str, bytes]:
    return {topic: each.packet for topic, each in log.newest().items()}


def test_readers_get_the_newest_of_each_topic(number: int) -> None:
    writer, reader = RetainedLog(number), RetainedLog(number)
    assert (writer.version, packets(reader)) == (0, {})
    assert [writer.add("a", b"1"), writer.add("é", b"2"), writer.add("a", b"3")] == [1, 2, 3]
    assert packets(reader) == {"a": b"3", "é": b"2"}
    assert reader.add("a", b"4") == 4
    assert packets(writer) == {"a": b"4", "é": b"2"}
    assert writer.newest()["a"].version == writer.version == 4
    assert (writer.added, reader.added) == (3, 4)
    assert packets(RetainedLog(number)) == packets(reader)


def test_the_file_does_not_grow_for_ever(number: int) -> None:
    writer, reader, late = RetainedLog(number), RetainedLog(number), RetainedLog(number)
    large = bytes(1024 * 1024)
    writer.add("small", b"kept")
    for turn in range(150):
        writer.add(f"topic {turn % 3}", large + b"%d" % turn)
        if turn % 7 == 0:
            assert packets(reader)[f"topic {turn % 3}"].endswith(b"\0%d" % turn)
    for log in (writer, reader, late, RetainedLog(number)):
        assert packets(log)["small"] == b"kept"
        assert packets(log)["topic 2"].endswith(b"\x00149")
        assert log.version == 151
    assert os.fstat(number).st_blocks * 512 < 6 * LIMIT_BYTES


def test_outdated_values_take_little_room(number: int) -> None:
    """What each process has to read when it starts: a small value that changes again and again stays small."""
    writer, reader = RetainedLog(number), RetainedLog(number)
    writer.add("large", bytes(MOVE_BYTES // 4))
    for turn in range(10_000):
        writer.add(f"topic {turn % 3}", b"%d" % turn)
        if turn % 1000 == 0:
            assert packets(reader)[f"topic {turn % 3}"] == b"%d" % turn
    assert os.fstat(number).st_blocks * 512 < 4 * MOVE_BYTES
    for log in (writer, reader, RetainedLog(number)):
        found = packets(log)
        assert (found["topic 0"], found["topic 1"], len(found["large"])) == (b"9999", b"9997", MOVE_BYTES // 4)
    assert writer.version == 10_001


def test_it_is_full_at_its_limit_and_takes_what_replaces(number: int) -> None:
    log = RetainedLog(number)
    large = bytes(LIMIT_BYTES // 4)
    for topic in ("a", "b", "c"):
        log.add(topic, large)
    with pytest.raises(RetainedFull):
        log.add("d", large)
    assert log.add("a", large) == 4
    assert log.add("e", b"small") == 5


def test_a_writer_that_dies_frees_the_lock_and_leaves_the_log_whole(number: int) -> None:
    RetainedLog(number).add("a", b"whole")
    text = (
        "import fcntl, os, signal\n"
        f"fcntl.lockf({number}, fcntl.LOCK_EX, 32)\n"
        f"os.pwrite({number}, b'torn' * 100, os.fstat({number}).st_size)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", text], pass_fds=[number], check=False)
    log = RetainedLog(number)
    assert packets(log) == {"a": b"whole"}
    assert log.add("a", b"next") == 2


def test_a_holder_that_has_stopped_is_not_waited_for_without_end(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retained, "LOCK_S", 0.05)
    text = f"import fcntl\nfcntl.lockf({number}, fcntl.LOCK_EX, 32)\nprint('held', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", text], pass_fds=[number], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RetainedFull):
            RetainedLog(number).add("a", b"1")
        holder.communicate(b"\n")
    assert RetainedLog(number).add("a", b"1") == 1
    fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB, 32)
