"""Once in a generation, and every so often: by one process at a time, and by another one when that ends."""

import itertools
from collections.abc import Iterable

import pytest

from tests.cluster.members import Cluster, Member
from tests.conftest import wait_until
from wsgicluster.cluster.embedded.cells import SharedCells
from wsgicluster.cluster.state.schedule import following, noted_tick
from wsgicluster.cluster.values.stored_values import encode


@pytest.mark.parametrize(
    ("tick", "now", "expected"),
    [
        (10.0, 10.0, 15.0),
        (10.0, 11.0, 15.0),
        (10.0, 14.9, 15.0),
        (10.0, 15.0, 20.0),
        (10.0, 31.0, 35.0),
        (10.0, 9.0, 15.0),
    ],
)
def test_late_ticks_are_one_and_the_rhythm_stays(tick: float, now: float, expected: float) -> None:
    """(Node: setInterval in the primary.)"""
    assert following(tick, 5.0, now) == expected


def test_a_row_says_what_is_due() -> None:
    assert noted_tick(encode([102.0, 103.5]), 5.0, 100.0) == (102.0, 103.5)
    assert noted_tick(encode([90.0, 91.0]), 5.0, 100.0) == (90.0, 91.0)


@pytest.mark.parametrize("row", [[3600.0, 3600.0], [1], "x", {"a": 1}])
def test_a_row_of_a_longer_interval_or_none_of_ours_is_written_anew(row: list[object]) -> None:
    assert noted_tick(encode(row), 5.0, 100.0) is None  # type: ignore[arg-type]
    assert noted_tick(None, 5.0, 100.0) is None


def test_a_job_whose_interval_has_become_shorter_runs_in_the_new_one(members: Cluster) -> None:
    """As when a reload brings the change."""
    code = """
from wsgicluster import cluster
import threading
cluster.every({seconds}, name="job")(cluster.counter("ticks").add)
from wsgicluster.cluster.state.backend import backend
while backend().get("i:every:job") is None or {waits}: threading.Event().wait(0.01)
"""
    members.start(code.format(seconds=3600, waits=False)).finish()
    members.start(code.format(seconds=0.1, waits="cluster.counter('ticks').value < 2")).finish()


ONCE = """
import sys
from wsgicluster import cluster
def run():
    print("runs")
    what = sys.stdin.readline().strip()
    if what == "fail": raise KeyError("it failed")
    cluster.counter("runs").add()
try: print(cluster.once("job", run, wait={wait}))
except KeyError as error: print(error)
"""


def test_one_of_several_processes_runs_and_the_others_do_not_wait(members: Cluster) -> None:
    first = members.start(ONCE.format(wait=False))
    assert first.line() == "runs"
    assert members.start(ONCE.format(wait=False)).finish() == "False"
    first.tell()
    assert first.finish() == "True"
    assert members.start(ONCE.format(wait=False)).finish() == "False"
    assert members.start(ONCE.format(wait=True)).finish() == "False"


def test_processes_that_wait_return_when_it_is_done(members: Cluster) -> None:
    first = members.start(ONCE.format(wait=True))
    assert first.line() == "runs"
    waiting = [members.start(ONCE.format(wait=True)) for _ in range(2)]
    first.tell()
    assert first.finish() == "True"
    assert [each.finish() for each in waiting] == ["False", "False"]


@pytest.mark.parametrize("ends", ["kill", "fail"])
def test_when_the_runner_dies_or_fails_another_one_runs(members: Cluster, ends: str) -> None:
    first = members.start(ONCE.format(wait=True))
    assert first.line() == "runs"
    second = members.start(ONCE.format(wait=True))
    if ends == "kill":
        first.kill()
    else:
        first.tell("fail")
        assert first.finish() == "'it failed'"
    assert second.line() == "runs"
    second.tell()
    assert second.finish() == "True"
    assert members.start(ONCE.format(wait=True)).finish() == "False"


def test_threads_of_one_process_run_it_once(members: Cluster) -> None:
    code = """
import threading
from wsgicluster import cluster
def run():
    cluster.counter("runs").add()
    event.wait(0.2)
event, done = threading.Event(), []
threads = [threading.Thread(target=lambda: done.append(cluster.once("job", run, wait=True))) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sorted(done), cluster.counter("runs").value)
"""
    assert members.start(code).finish() == "[False, False, False, True] 1"


def test_each_generation_and_each_start_of_a_server_runs_it_again(members: Cluster) -> None:
    code = """
from wsgicluster import cluster
print(cluster.once("job", lambda: None), cluster.once("job", lambda: None))
"""
    assert members.start(code, generation=1).finish() == "True False"
    assert members.start(code, generation=2).finish() == "True False"
    # One of the first that was replaced after the reload.
    assert members.start(code, generation=1).finish() == "False False"


EVERY = """
import sys, time
from wsgicluster import cluster
@cluster.every({seconds}, name="job")
def job():
    print("from", time.monotonic())
    cluster.counter("ticks").add()
    {work}
    print("to", time.monotonic())
print("registered")
sys.stdin.readline()
# So that no run is left half done.
from wsgicluster.cluster.state.backend import backend
from wsgicluster.cluster.state.locks import named_lock
named_lock("i:every:", "job", backend).acquire()
"""


def wait_ticks(members: Cluster, count: int) -> None:
    """Wait until jobs have begun so many times in all."""
    cells = SharedCells(members.files)
    wait_until(lambda: cells.total("ticks") >= count, 20, f"{count} ticks")
    cells.close()


def begun(outputs: Iterable[str]) -> list[float]:
    """When a job was begun, in order; no run may begin before the one before has ended."""
    lines = [line.split() for output in outputs for line in output.splitlines()]
    moments = sorted((float(at), word) for word, at in lines)
    for (_, before), (_, word) in itertools.pairwise(moments):
        assert (before, word) != ("from", "from"), moments
    return [at for at, word in moments if word == "from"]


def stop(running: list[Member]) -> list[str]:
    """End the processes; what each has printed."""
    for each in running:
        each.tell()
    return [each.finish() for each in running]


def test_a_job_runs_in_one_process_at_a_time(members: Cluster) -> None:
    running = [members.start(EVERY.format(seconds=0.2, work="")) for _ in range(3)]
    for each in running:
        assert each.line() == "registered"
    wait_ticks(members, 6)
    found = begun(stop(running))
    assert len(found) >= 6
    # On a busy machine a run may be late, but not all of them.
    gaps = [after - before for before, after in itertools.pairwise(found)]
    assert sum(gaps) / len(gaps) >= 0.1
    assert min(gaps) < 1.0


def test_a_job_that_takes_longer_than_its_interval_is_not_run_twice_at_once(members: Cluster) -> None:
    running = [members.start(EVERY.format(seconds=0.1, work="time.sleep(0.25)")) for _ in range(3)]
    for each in running:
        assert each.line() == "registered"
    wait_ticks(members, 4)
    found = begun(stop(running))
    assert all(after - before >= 0.25 for before, after in itertools.pairwise(found))


def test_the_death_of_the_process_that_runs_it_moves_the_job(members: Cluster) -> None:
    first = members.start(EVERY.format(seconds=0.1, work="time.sleep(60)"))
    assert first.line() == "registered"
    assert first.line().startswith("from")
    second = members.start(EVERY.format(seconds=0.1, work=""))
    assert second.line() == "registered"
    first.kill()
    assert second.line().startswith("from")
    second.tell()
    second.finish()


def test_a_job_that_fails_is_logged_and_runs_again(members: Cluster) -> None:
    code = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from wsgicluster import cluster
runs = 0
@cluster.every(0.05)
def job():
    global runs
    runs += 1
    if runs == 1: raise KeyError("first")
    print("again")
sys.stdin.readline()
"""
    member = members.start(code)
    assert "the periodic job 'member.job' failed" in member.line()
    lines = iter(member.line, "")
    assert any("KeyError: 'first'" in line for line in lines)
    assert any(line == "again" for line in lines)
    member.kill()


def test_a_job_past_the_time_limit_has_its_worker_replaced_with_its_stack_in_the_log(members: Cluster) -> None:
    code = """
import logging, sys, time
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from wsgicluster import cluster
@cluster.every(0.05, name="slow")
def job():
    this_line_hangs = [time.sleep(0.05) for _ in range(1000)]
while (wanted := arbiter.receive()) is None: time.sleep(0.01)
print(wanted.reason, wanted.detail)
"""
    member = members.start(code, timeout_s=0.3)
    text = member.finish()
    assert "every 'slow' has run for more than 0.3 s (timeout); this worker is replaced" in text
    assert "in job" in text
    assert text.splitlines()[-1] == "application every 'slow' has run for more than 0.3 s (timeout)"


@pytest.mark.parametrize("cause", ["arbiter.close()", "place.page.cells[Cell.STATE] = WorkerState.BOOTING"])
def test_once_past_the_time_limit_ends_a_process_that_cannot_be_replaced(members: Cluster, cause: str) -> None:
    code = f"""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("TERM"), sys.exit(0)))
from wsgicluster import cluster
from wsgicluster.ipc.scoreboard import Cell, WorkerState
{cause}
cluster.once("slow", lambda: time.sleep(60))
"""
    assert members.start(code, timeout_s=0.3).finish().splitlines()[-1] == "TERM"


def test_jobs_wait_until_their_worker_serves_and_end_when_it_drains(members: Cluster) -> None:
    code = """
import sys, time
from wsgicluster import cluster
from wsgicluster.ipc.scoreboard import Cell, WorkerState
place.page.cells[Cell.STATE] = WorkerState.BOOTING
ticks = cluster.counter("ticks")
@cluster.every(0.05)
def job(): ticks.add()
time.sleep(0.5)
print(ticks.value)
place.page.cells[Cell.STATE] = WorkerState.READY
while not ticks.value: time.sleep(0.01)
place.page.cells[Cell.STATE] = WorkerState.DRAINING
import threading
[thread] = [each for each in threading.enumerate() if each.name.startswith("wsgicluster-every")]
thread.join(10)
print(thread.is_alive())
"""
    assert members.start(code).finish().split() == ["0", "False"]


def test_a_worker_that_leaves_lets_a_run_end(members: Cluster) -> None:
    code = """
import sys, time
from wsgicluster import cluster
@cluster.every(0.05)
def job():
    print("begins")
    time.sleep(0.3)
    print("ends")
    sys.stdout.flush()
sys.stdin.readline()
"""
    member = members.start(code)
    assert member.line() == "begins"
    member.tell()
    assert member.finish().splitlines()[-1] == "ends"


def test_jobs_run_elsewhere_where_there_is_a_process_for_them(members: Cluster) -> None:
    code = """
import threading
from wsgicluster import cluster
cluster.every(0.05)(lambda: None)
print(threading.active_count())
"""
    assert members.start(code, jobs_elsewhere=True).finish() == "1"
    assert members.start(code).finish() == "2"


def test_jobs_begin_when_a_process_that_loads_the_application_has_become_a_member(members: Cluster) -> None:
    """As with ``preload_app``; under ``--check-config`` that never happens."""
    code = """
import threading
from tests.cluster.members import become_member
from wsgicluster import cluster
from wsgicluster.ipc import membership
membership.expect()
cluster.every(0.05)(cluster.counter("ticks").add)
print(threading.active_count())
become_member(files, {})
print(threading.active_count())
while not cluster.counter("ticks").value: threading.Event().wait(0.01)
"""
    assert members.start(code, joins=False).finish().split() == ["1", "2"]


def test_the_steward_runs_no_jobs(members: Cluster) -> None:
    code = """
import threading
from wsgicluster import cluster
cluster.every(0.05)(lambda: None)
print(threading.active_count())
"""
    assert members.start(code, role="steward").finish() == "1"


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("cluster.every(0)", "not a time"),
        ("cluster.every(float('inf'))", "not a time"),
        ("cluster.every(1, jitter=1)", "jitter"),
        ("cluster.every(1, jitter=-1)", "jitter"),
        ("cluster.every(1, name='')(print)", "must not be empty"),
        ("(cluster.every(1, name='a')(print), cluster.every(2, name='a')(print))", "'a' already"),
    ],
)
def test_wrong_jobs_are_refused(members: Cluster, call: str, complaint: str) -> None:
    code = f"from wsgicluster import cluster\ntry: {call}\nexcept ValueError as error: print(error)"
    assert complaint in members.start(code).finish()
