"""The calls as an application makes them: where they work, what they refuse, and what they cost while unused."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.cluster.members import ROOT, Cluster


def run_alone(code: str, temporary: pathlib.Path, *, measured: bool = True) -> str:
    """What a program prints that is not a child of a server; it must leave nothing behind.

    One that is not ``measured`` has neither the modules nor the files of a measurement of coverage.
    """
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    if not measured:
        environ = {name: value for name, value in environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=50, check=True
    )
    assert list(temporary.iterdir()) == []
    return done.stdout.strip()


def test_all_of_it_works_in_one_process_alone(tmp_path: pathlib.Path) -> None:
    code = """
import time
from wsgicluster import cluster
cluster.counter("hits").add(3)
cluster.store.set("a", {"b": [1]}, ttl=60)
with cluster.lock("a") as lock: print(lock.token > 0, lock.recovered)
print(cluster.counter("hits").value, cluster.store.get("a"), cluster.store.add("n"))
print(cluster.once("a", lambda: None), cluster.once("a", lambda: None))
@cluster.every(0.05)
def job(): cluster.counter("ticks").add()
while cluster.counter("ticks").value < 2: time.sleep(0.01)
"""
    assert run_alone(code, tmp_path).splitlines() == ["True False", "3 {'b': [1]} 1", "True False"]


def test_to_import_it_costs_no_thread_no_file_and_one_module(tmp_path: pathlib.Path) -> None:
    """In a process that has what every worker has."""
    code = """
import os, sys, threading
import wsgicluster.worker.boot
descriptors, threads, modules = os.listdir("/proc/self/fd"), threading.active_count(), set(sys.modules)
from wsgicluster import cluster
print(*sorted(set(sys.modules) - modules))
assert os.listdir("/proc/self/fd") == descriptors and threading.active_count() == threads
assert "sqlite3" not in sys.modules and "redis" not in sys.modules
hits = cluster.counter("hits")
lock, store = cluster.lock("a"), cluster.store
assert os.listdir("/proc/self/fd") == descriptors and threading.active_count() == threads
assert "sqlite3" not in sys.modules and "redis" not in sys.modules
"""
    assert run_alone(code, tmp_path, measured=False).strip() == "wsgicluster.cluster"


CHILD = """
import os, sys
from wsgicluster import cluster
counter, lock, store = cluster.counter("hits"), cluster.lock("a"), cluster.store
{before}
if os.fork() == 0:
    calls = (
        counter.add, lambda: counter.value, lock.acquire, lock.locked, lambda: store.get("a"),
        lambda: store.add("a"), lambda: cluster.once("a", print), cluster.counter("other").add,
    )
    for call in calls:
        try: call()
        except cluster.NotInCluster: print("NotInCluster", flush=True)
    os._exit(0)
os.wait()
counter.add()
store.set("after", 1)
print(counter.value, lock.acquire(False) or lock.locked(), store.get("after"))
"""


@pytest.mark.parametrize(
    ("before", "value"),
    [("", 1), ("counter.add(); store.set('a', 1); lock.acquire()", 2), ("store.set('a', 1)", 1), ("counter.add()", 2)],
)
def test_a_process_that_the_application_forks_is_no_member(members: Cluster, before: str, value: int) -> None:
    """It neither counts for its parent nor releases what that holds. (Node: a grandchild is not taken for a worker.)"""
    lines = members.start(CHILD.format(before=before)).finish().splitlines()
    assert lines == ["NotInCluster"] * 8 + [f"{value} True 1"]


def test_neither_is_one_of_a_process_that_is_alone(tmp_path: pathlib.Path) -> None:
    lines = run_alone(CHILD.format(before="counter.add(); store.set('a', 1); lock.acquire()"), tmp_path).splitlines()
    assert lines == ["NotInCluster"] * 8 + ["2 True 1"]


def test_a_fork_while_other_threads_use_the_state_ends_neither(members: Cluster) -> None:
    """What such a thread holds at that moment stays held in the child."""
    code = """
import os, threading, warnings
warnings.simplefilter("ignore")  # of forks with threads
from wsgicluster import cluster
hits, store, lock, done = cluster.counter("hits"), cluster.store, cluster.lock("a"), False
def work():
    while not done:
        hits.add()
        store.add("n")
        with lock: pass
threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
for _ in range(30):
    pid = os.fork()
    if pid == 0:
        try: hits.add()
        except cluster.NotInCluster: os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
done = True
[thread.join() for thread in threads]
print("done")
"""
    assert members.start(code).finish() == "done"


def test_a_child_of_the_holder_of_a_lock_may_leave_its_context(members: Cluster) -> None:
    code = """
import os
from wsgicluster import cluster
pid = 0
try:
    with cluster.lock("a"):
        cluster.store.set("a", 1)
        pid = os.fork()
except cluster.NotInCluster:
    os._exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), cluster.lock("a").locked(), cluster.lock("a").acquire(False))
"""
    assert members.start(code).finish() == "3 False True"


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        ("cluster.counter('')", "ValueError", "empty"),
        ("cluster.lock('')", "ValueError", "empty"),
        ("cluster.store.set('', 1)", "ValueError", "empty"),
        ("cluster.counter(7)", "TypeError", "not int"),
        ("cluster.counter('a').add(1.5)", "TypeError", "whole numbers, not float"),
        ("cluster.counter('a').add(2**63)", "OverflowError", "64 bits"),
        ("[cluster.counter('a').add(n) for n in (1, '')]", "TypeError", "whole numbers, not str"),
        ("cluster.store.add('a', 1.5)", "TypeError", "whole number"),
        ("cluster.store.set('a', 1, ttl=0)", "ValueError", "ttl"),
        ("cluster.store.set('a', 1, ttl=float('nan'))", "ValueError", "ttl"),
        ("cluster.store.set('k' * 1025, 1)", "MessageTooLarge", "1024 bytes"),
        ("cluster.store.set('a', b'x' * (2**20 + 1))", "MessageTooLarge", "1048577 bytes"),
        ("cluster.store.set('a', {'b': {1}})", "TypeError", "value['b']: set is neither JSON nor bytes"),
        ("cluster.store.compare_and_set('a', None, object())", "TypeError", "value: object is neither JSON nor bytes"),
        ("cluster.none", "AttributeError", "'none'"),
    ],
)
def test_what_is_wrong_is_refused(members: Cluster, call: str, error: str, complaint: str) -> None:
    code = (
        f"from wsgicluster import cluster\ntry: {call}\nexcept Exception as error: print(type(error).__name__, error)"
    )
    said = members.start(code).finish()
    assert said.startswith(f"{error} ")
    assert complaint in said


def test_the_largest_value_is_stored_whole(members: Cluster) -> None:
    code = """
from wsgicluster import cluster
value = bytes(range(256)) * 4096
cluster.store.set("a", value)
print(cluster.store.get("a") == value)
"""
    assert members.start(code).finish() == "True"


def test_defaults_stand_for_what_is_not_there(members: Cluster) -> None:
    code = """
from wsgicluster import cluster
store = cluster.store
print(store.get("a"), store.get("a", 5), store.pop("a", 6), store.compare_and_set("a", None, None), store.get("a", 7))
"""
    assert members.start(code).finish() == "None 5 6 True None"


def test_a_process_that_loads_the_application_for_workers_shares_their_state(members: Cluster) -> None:
    """As the mold does with ``preload_app``: what it has stored is there for the workers that it forks."""
    code = """
import os
from tests.cluster.members import become_member
from wsgicluster import cluster
from wsgicluster.ipc import membership
membership.expect()
membership.lend(membership.SharedState(files, None, 1 << 20))
cluster.store.set("from", "the mold")
cluster.counter("hits").add(5)
pid = os.fork()
if pid == 0:
    become_member(files, {})
    cluster.counter("hits").add(2)
    print(cluster.store.get("from"), cluster.counter("hits").value, cluster.store.add("n"), flush=True)
    os._exit(0)
os.wait()
print(cluster.store.get("n"), cluster.counter("hits").value)
if os.fork() == 0:
    try: cluster.store.get("n")
    except cluster.NotInCluster: print("NotInCluster", flush=True)
    os._exit(0)
os.wait()
"""
    assert members.start(code, joins=False).finish().splitlines() == ["the mold 7 1", "1 7", "NotInCluster"]


def test_a_program_that_a_member_starts_is_alone_whatever_its_environment(members: Cluster) -> None:
    """(Node: test-cluster-basic and test-cluster-worker-init, NODE_UNIQUE_ID.)"""
    code = """
import os, subprocess, sys
from wsgicluster import cluster
cluster.counter("hits").add(5)
program = "from wsgicluster import cluster; hits = cluster.counter('hits'); hits.add(); print(hits.value)"
environ = {**os.environ, "WSGICLUSTER_SLOT": "1", "WSGICLUSTER_STORE": "redis://none"}
for close_fds in (True, False):
    print(subprocess.check_output([sys.executable, "-c", program], env=environ, text=True, close_fds=close_fds).strip())
print(cluster.counter("hits").value)
"""
    assert members.start(code).finish().split() == ["1", "1", "5"]
