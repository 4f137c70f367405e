"""The built-in store: what is written is there for all, within its size and time to live."""

import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cluster.members import Cluster
from wsgicluster.cluster.embedded.sqlite_store import SqliteStore
from wsgicluster.cluster.errors import StoreFull

SIZE = 1 << 20


class Clock:
    """Shows what it was set to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: pathlib.Path, clock: Clock) -> Iterator[SqliteStore]:
    opened = SqliteStore(str(tmp_path), SIZE, clock)
    yield opened
    opened.close()


def test_values_are_set_read_and_removed(store: SqliteStore) -> None:
    for value in (1, -(2**63), '"text"', b"\0bytes", ""):
        store.set("k", value, None)
        assert store.get("k") == value
        assert store.pop("k") == value
        assert store.get("k") is None
        assert store.pop("k") is None


def test_a_second_connection_sees_what_the_first_has_written(store: SqliteStore, tmp_path: pathlib.Path) -> None:
    store.set("k", 1, None)
    other = SqliteStore(str(tmp_path), SIZE, Clock())
    assert other.add("k", 1, None) == 2
    other.close()
    assert store.get("k") == 2


def test_a_value_ends_with_its_time_to_live(store: SqliteStore, clock: Clock) -> None:
    store.set("k", "x", 10)
    clock.now += 9.99
    assert store.get("k") == "x"
    clock.now += 0.01
    assert store.get("k") is None
    assert store.pop("k") is None


def test_a_value_that_is_set_anew_has_a_new_time_to_live(store: SqliteStore, clock: Clock) -> None:
    store.set("k", "x", 10)
    store.set("k", "y", None)
    clock.now += 100
    assert store.get("k") == "y"


def test_the_time_to_live_of_a_number_counts_from_the_first_add(store: SqliteStore, clock: Clock) -> None:
    """Else a client that never pauses would never be let in again by a rate limiter."""
    assert store.add("k", 1, 10) == 1
    clock.now += 6
    assert store.add("k", 2, 10) == 3
    clock.now += 4
    assert store.get("k") is None
    assert store.add("k", 5, 10) == 5


def test_only_whole_numbers_can_be_added_to(store: SqliteStore) -> None:
    for value in ("1.5", '"1"', b"1", "true"):
        store.set("k", value, None)
        with pytest.raises(TypeError, match="'k' is not a whole number"):
            store.add("k", 1, None)
        assert store.get("k") == value


def test_a_sum_beyond_64_bits_is_refused_and_changes_nothing(store: SqliteStore) -> None:
    store.set("k", 2**63 - 1, None)
    with pytest.raises(OverflowError):
        store.add("k", 1, None)
    assert store.get("k") == 2**63 - 1
    assert store.add("k", -1, None) == 2**63 - 2


def test_compare_and_set(store: SqliteStore, clock: Clock) -> None:
    assert not store.compare_and_set("k", 0, 1, None)
    assert store.compare_and_set("k", None, '{"a":1,"b":2}', None)
    assert not store.compare_and_set("k", None, 1, None)
    assert store.compare_and_set("k", '{"b":2,"a":1}', b"x", 10)
    assert not store.compare_and_set("k", '"x"', 1, None)
    clock.now += 10
    assert store.compare_and_set("k", None, 1, None)


def test_a_full_store_refuses_and_keeps_what_it_has(store: SqliteStore) -> None:
    with pytest.raises(StoreFull, match="store_size"):
        for number in range(SIZE // 1000):
            store.set(f"k{number}", bytes(10_000), None)
    assert store.get("k0") == bytes(10_000)
    store.pop("k0")
    store.set("again", bytes(9_000), None)
    assert store.get("again") == bytes(9_000)


def test_what_has_expired_makes_room(store: SqliteStore, clock: Clock) -> None:
    stored = 0
    with pytest.raises(StoreFull):
        while True:
            store.set(f"k{stored}", bytes(1000), 10)
            stored += 1
    # More than one turn of removing, and all of it in the call that needs the room.
    assert stored > 500
    clock.now += 10
    for number in range(stored):
        store.set(f"n{number}", bytes(1000), 10)


def test_expired_values_are_removed_along_with_other_writes(store: SqliteStore, clock: Clock) -> None:
    """By the size of what they would take: the store never becomes full of them."""
    for turn in range(100):
        for number in range(50):
            store.set(f"{turn} {number}", bytes(1000), 0.5)
        clock.now += 1
    assert store.get("99 49") is None


def test_the_files_stay_within_their_limits(store: SqliteStore, tmp_path: pathlib.Path) -> None:
    for turn in range(30):
        for number in range(50):
            store.set(f"k{number}", bytes([turn]) * 10_000, None)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes["store.db"] <= SIZE
    assert sizes["store.db-wal"] <= 2 * SIZE


def test_four_writers_lose_nothing(members: Cluster) -> None:
    code = """
from wsgicluster import cluster
for number in range(2_000):
    cluster.store.add("n")
    cluster.store.add(f"k{number % 10}", 2)
"""
    running = [members.start(code) for _ in range(4)]
    for each in running:
        each.finish()
    read = "from wsgicluster import cluster\nprint(cluster.store.get('n'), cluster.store.get('k3'))"
    assert members.start(read).finish() == "8000 1600"


def test_a_killed_writer_leaves_what_was_acknowledged(members: Cluster) -> None:
    code = """
from wsgicluster import cluster
while True:
    print(cluster.store.add("n"))
"""
    last = 0
    for _ in range(3):
        writer = members.start(code)
        for _ in range(200):
            last = int(writer.line())
        writer.kill()
        rest = [int(line) for line in iter(writer.line, "") if line]
        last = max([last, *rest[:-1]])
        found = int(members.start("from wsgicluster import cluster\nprint(cluster.store.get('n'))").finish())
        # It may have added once more than it could print, and the last line may be cut.
        assert last <= found <= last + 2
        last = found


def test_threads_share_a_connection(members: Cluster) -> None:
    code = """
import threading
from wsgicluster import cluster
def work():
    for _ in range(500): cluster.store.add("n")
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(cluster.store.get("n"))
"""
    assert members.start(code).finish() == "2000"


def test_greenlets_that_wait_to_write_let_others_run(members: Cluster) -> None:
    pytest.importorskip("gevent")
    code = """
import gevent.monkey; gevent.monkey.patch_all()
import fcntl, os, gevent
from wsgicluster import cluster
cluster.store.set("a", 1)
other = os.open(os.path.join(place.shared_files.folder, "store.lock"), os.O_RDWR)
fcntl.flock(other, fcntl.LOCK_EX)
writing = gevent.spawn(cluster.store.add, "a")
for _ in range(20): gevent.sleep(0.001)
print(writing.ready())
fcntl.flock(other, fcntl.LOCK_UN)
print(writing.get())
"""
    assert members.start(code).finish().split() == ["False", "2"]


CLOSES_WHILE_USED = """
import sys, threading, time
from wsgicluster.cluster.embedded.sqlite_store import SqliteStore

store = SqliteStore(sys.argv[1], 1 << 20, time.time)
begun = threading.Event()

def use():
    while True:
        store.add("n", 1, None)
        begun.set()

for _ in range(4):
    threading.Thread(target=use, daemon=True).start()
begun.wait()
store.close_at_exit()
print("closed")
"""


def test_a_process_exits_while_its_threads_use_the_store(tmp_path: pathlib.Path) -> None:
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", CLOSES_WHILE_USED, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")
