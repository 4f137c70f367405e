"""Counters: exact for what was acknowledged, whichever process is killed, and the same for every process."""

import mmap
import pathlib
import random

import pytest

from tests.cluster.members import Cluster
from tests.conftest import wait_until
from wsgicluster.cluster.embedded.cells import NAME_BYTES, ROWS, SharedCells
from wsgicluster.cluster.errors import MessageTooLarge, StoreFull

ADDS = 100_000
COUNT = """
import mmap, sys
from wsgicluster import cluster
hits = cluster.counter("hits")
path, index, adds = sys.stdin.readline().split()
with open(path, "r+b") as file:
    acknowledged = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
mine = int(index)
for number in range(1, int(adds) + 1):
    hits.add()
    acknowledged[mine] = number
"""
READ = "from wsgicluster import cluster; print(cluster.counter('hits').value)"


def test_adds_of_four_processes_are_exact_to_the_acknowledged_ones_with_kills(
    members: Cluster, tmp_path: pathlib.Path
) -> None:
    """A killed process may have made one add more than it could acknowledge; others take its column.

    (Node: the snippet that sends request counts to the primary.)
    """
    places, kills = 8, 4
    path = tmp_path / "acknowledged"
    path.write_bytes(bytes(8 * places))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        acknowledged = memoryview(mapped).cast("Q")
        chance = random.Random(11)
        running = [members.start(COUNT) for _ in range(places)]
        for index, each in enumerate(running[:kills]):
            each.tell(f"{path} {index} {ADDS * 10_000}")  # more than it can add before its end
        for index in range(kills):
            limit = chance.randint(1, ADDS // 2)
            wait_until(lambda index=index, limit=limit: acknowledged[index] > limit, 30)  # type: ignore[misc]
            running[index].kill()
            running[4 + index].tell(f"{path} {4 + index} {ADDS}")
        for each in running[kills:]:
            each.finish()
        total, sure = int(members.start(READ).finish()), sum(acknowledged)
        assert list(acknowledged[kills:]) == [ADDS] * 4
        assert sure <= total <= sure + kills
        acknowledged.release()


def test_threads_of_one_process_lose_nothing(members: Cluster) -> None:
    code = """
import sys, threading
from wsgicluster import cluster
sys.setswitchinterval(1e-6)
def add():
    for _ in range(20_000):
        cluster.counter("hits").add(2)
threads = [threading.Thread(target=add) for _ in range(5)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(cluster.counter("hits").value)
"""
    assert members.start(code).finish() == "200000"


def test_counters_outlive_the_processes_that_added(members: Cluster) -> None:
    for _ in range(3):
        members.start("from wsgicluster import cluster; cluster.counter('hits').add(5)").finish()
    members.start("from wsgicluster import cluster; cluster.counter('hits').add(-2)").finish()
    assert members.start(READ).finish() == "13"


def test_columns_of_ended_processes_are_used_again(members: Cluster) -> None:
    code = """
from wsgicluster.cluster.state.backend import backend
print(backend().counter_cell("a")[1])
"""
    assert len({members.start(code).finish() for _ in range(3)}) == 1


def test_names_are_found_by_all_in_whatever_order_they_use_them(members: Cluster) -> None:
    code = "from wsgicluster import cluster\nfor name in {names}: cluster.counter(name).add()\nprint({value})"
    members.start(code.format(names=["a", "b"], value=0)).finish()
    members.start(code.format(names=["ü", "b"], value=0)).finish()
    read = "[cluster.counter(name).value for name in ['a', 'b', 'ü', 'none']]"
    assert members.start(code.format(names=["b", "a"], value=read)).finish() == "[2, 3, 1, 0]"


def test_one_name_too_many_is_refused_and_the_others_stay(members: Cluster) -> None:
    cells = SharedCells(members.files)
    for number in range(ROWS):
        cells.words[cells.cell(f"name {number}")] += 1
    with pytest.raises(StoreFull, match="1024 counters"):
        cells.cell("one more")
    assert cells.total("name 1023") == 1
    cells.close()


def test_a_name_that_is_too_long_is_refused(members: Cluster) -> None:
    cells = SharedCells(members.files)
    assert cells.total("n" * NAME_BYTES) == 0
    with pytest.raises(MessageTooLarge, match="255 bytes"):
        cells.cell("n" * (NAME_BYTES + 1))
    cells.close()


def test_processes_that_are_killed_while_they_add_names_leave_the_table_whole(members: Cluster) -> None:
    code = """
import sys
from wsgicluster import cluster
for number in range(1_000):
    cluster.counter(f"name {number}").add()
    print(number)
sys.stdin.read()  # it is there to be killed, however slowly its output is read
"""
    acknowledged = []
    for lines in (1, 7, 40, 200):
        member = members.start(code)
        acknowledged.append([member.line() for _ in range(lines)])
        member.kill()
    assert members.start(code).finish().endswith("999")
    cells = SharedCells(members.files)
    for number in range(1_000):
        sure = 1 + sum(str(number) in lines for lines in acknowledged)
        # A killed process was further than what was read of it.
        assert sure <= cells.total(f"name {number}") <= 5
    assert cells.total("another") == 0
    cells.close()
