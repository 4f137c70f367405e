"""The cluster of a process that is alone: the same calls, in programs of their own, whose threads end with them."""

import dataclasses
import pickle
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from wsgicluster.cluster import errors
from wsgicluster.cluster.server.members import MemberSnapshot

BEGIN = """
import os, sys, threading, time
from wsgicluster import cluster
seen = []
def wait(count, timeout_s=10.0):
    ends = time.monotonic() + timeout_s
    while len(seen) < count and time.monotonic() < ends:
        time.sleep(0.005)
    assert len(seen) >= count, seen
@cluster.on_message("note")
def note(message):
    seen.append(message.value)
"""


def run(text: str) -> str:
    """What a program prints; it must end well, and without a warning."""
    command = [sys.executable, "-W", "error", "-c", BEGIN + text]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_nothing_is_started_before_it_is_needed() -> None:
    """(Node: basic)"""
    text = """
before = len(os.listdir("/proc/self/fd"))
print(cluster.role, cluster.worker, cluster.workers(), threading.active_count())
cluster.send(1, "x", topic="note"); wait(1); print(threading.active_count())
"""
    assert run(text) == "alone None [] 1\n2\n"


def test_the_import_loads_next_to_nothing() -> None:
    text = "import sys; from wsgicluster import cluster; print([n for n in sys.modules if n.startswith('wsgicluster')])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "['wsgicluster.version', 'wsgicluster', 'wsgicluster.cluster']\n"
    assert not {"typing", "socket", "json", "threading"} & set(sys.stdlib_module_names).intersection(
        subprocess.run(
            [sys.executable, "-S", "-c", "import sys; from wsgicluster import cluster; print(*sys.modules)"],
            capture_output=True, text=True, check=True, cwd=ROOT,
        ).stdout.split()
    )  # fmt: skip


def test_messages_and_retained_values_of_one_sender_keep_their_order() -> None:
    # Once its thread receives: at its start it catches up with the newest retained value first.
    text = """
cluster.broadcast("note", -1)
wait(1)
seen.clear()
for number in range(40):
    cluster.broadcast("note", number, retain=number % 3 == 0)
wait(40)
print(seen == list(range(40)))
late = []
@cluster.on_message("note")
def later(message): late.append((message.value, message.retained))
while not late: time.sleep(0.005)
print(late)
"""
    assert run(text) == "True\n[(39, True)]\n"


def test_a_full_mailbox_says_so_at_once() -> None:
    """(Node 61: send-returns-boolean)"""
    text = """
hold, begun = threading.Event(), threading.Event()
@cluster.on_message("hold")
def wait_for_it(message):
    begun.set()
    hold.wait()
cluster.send(1, None, topic="hold")
begun.wait()
began = time.monotonic()
try:
    for number in range(100_000): cluster.send(1, number, topic="note")
except cluster.QueueFull as error:
    print(error, 50 < number < 2000, time.monotonic() - began < 30)
print(cluster.broadcast("note", "missed"))
hold.set()
wait(number)
print(seen == list(range(number)))
"""
    assert run(text) == "the mailbox of 1 is full True True\n0\nTrue\n"


def test_a_handler_that_raises_is_logged_and_others_run() -> None:
    """(Node 56: worker-events)"""
    text = """
@cluster.on_message("odd")
def odd(message): raise SystemExit("out of here")
@cluster.on_message("odd")
def even(message): seen.append("even")
cluster.send("jobs", 1, topic="odd"); cluster.send("steward", 2, topic="note"); wait(2)
print(seen)
"""
    output = run(text)
    assert output.startswith("['even', 2]")
    assert "the message handler odd failed (topic 'odd')" in output
    assert "SystemExit: out of here" in output


def test_each_handler_has_a_copy_of_its_own() -> None:
    text = """
@cluster.on_message("list")
def first(message): message.value.append("changed")
@cluster.on_message("list")
def second(message): seen.append(message.value)
value = [1]
cluster.send(1, value, topic="list"); wait(1); print(seen, value)
"""
    assert run(text) == "[[1]] [1]\n"


def test_a_process_that_is_forked_is_alone_by_itself() -> None:
    """Where no server is: what pytest and development servers do."""
    text = """
import warnings; warnings.simplefilter("ignore")
cluster.send(1, "parent", topic="note"); wait(1)
pid = os.fork()
if pid == 0:
    cluster.send(1, "child", topic="note"); wait(2)
    os._exit(seen != ["parent", "child"])
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
cluster.send(1, "again", topic="note"); wait(2); print(seen)
"""
    assert run(text) == "0\n['parent', 'again']\n"


def test_descriptors_do_not_grow() -> None:
    text = """
@cluster.on_message("echo")
def echo(message): return message.value
def late(message): time.sleep(0.05)
cluster.on_message("late")(late)
cluster.request(1, "x", 5.0, topic="echo")
before = len(os.listdir("/proc/self/fd"))
for _ in range(300):
    cluster.request(1, "x", 5.0, topic="echo")
    cluster.request(1, b"x" * 100_000, 5.0, topic="echo")
    try: cluster.request(1, "x", 5.0, topic="nothing")
    except cluster.NoHandler: pass
for _ in range(5):
    try: cluster.request(1, "x", 0.001, topic="late")
    except cluster.RequestTimeout: pass
ends = time.monotonic() + 10
while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < ends: time.sleep(0.01)
print(len(os.listdir("/proc/self/fd")) <= before)
"""
    assert run(text) == "True\n"


def test_the_time_for_a_message_grows_with_its_size_and_no_faster() -> None:
    """Processor time of one mebibyte against that of 16 messages of 64 KiB. (Node issue 3145)"""
    text = """
@cluster.on_message("echo")
def echo(message): return message.value
def took(size, times):
    began = time.process_time()
    for _ in range(times): cluster.request(1, b"x" * size, 20.0, topic="echo")
    return time.process_time() - began
took(1024, 10)
print(took(1024 * 1024, 20) < 5 * took(64 * 1024, 320))
"""
    assert run(text) == "True\n"


def test_wrong_arguments() -> None:
    text = """
def raised(call, *arguments, **named):
    try: call(*arguments, **named)
    except Exception as error: return f"{type(error).__name__}: {error}"
print(raised(cluster.send, 7, 1))
print(raised(cluster.send, "nobody", 1))
print(raised(cluster.send, True, 1))
print(raised(cluster.send, "host/1", 1))
print(raised(cluster.request, 1, 1, 0))
print(raised(cluster.broadcast, "", 1))
print(raised(cluster.on_message, ""))
print(raised(cluster.broadcast, "note", b"x" * 1024 * 1024 + b"x", retain=True))
print(raised(getattr, cluster, "no_such_name"))
"""
    assert run(text).splitlines() == [
        "WorkerGone: there is no slot 7",
        "WorkerGone: there is no nobody",
        "TypeError: slot is a number or the name of a role, not True",
        "WorkerGone: there is no bus that leads to host/1 (setting bus)",
        "ValueError: timeout is a number of seconds above 0, not 0",
        "ValueError: a broadcast needs a topic",
        "ValueError: on_message needs a topic; use @on_message itself for messages that are sent without one",
        "MessageTooLarge: the value takes 1048577 bytes, at most 1048576 can be sent",
        "AttributeError: module 'wsgicluster.cluster' has no attribute 'no_such_name'",
    ]


def test_snapshots_are_frozen_and_can_be_pickled() -> None:
    """(Node 6: worker-constructor)"""
    snapshot = MemberSnapshot(slot=2, seat=3, generation=1, pid=99, state="ready", requests=5)
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    assert snapshot.is_accepting
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.slot = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("error", "standard"),
    [
        (errors.RequestTimeout, TimeoutError), (errors.WorkerGone, LookupError), (errors.MessageTooLarge, ValueError),
        (errors.BusDown, ConnectionError), (errors.NotInCluster, RuntimeError), (errors.NoHandler, LookupError),
    ],
)  # fmt: skip
def test_errors_are_those_that_a_python_developer_would_catch(error: type[Exception], standard: type) -> None:
    assert issubclass(error, standard)
    assert issubclass(error, errors.ClusterError)


def test_a_job_that_is_due_at_the_end_of_the_process_is_not_complained_about() -> None:
    """Its store is removed at exit, while the thread of the job may still be asking for its turn."""
    text = """
from wsgicluster.cluster.state import schedule
schedule.ASK_AGAIN_S = 0.0
for number in range(20):
    cluster.every(60, name=f"job {number}")(lambda: None)
while not os.listdir("/proc/self/task")[20:]: time.sleep(0.001)
"""
    for _ in range(5):
        assert run(text) == ""
