"""Records about children: pure formatting."""

import dataclasses
import signal

import pytest

from wsgicluster.arbiter.plan.backoff import Wait
from wsgicluster.arbiter.plan.child import Child, End, Role, State
from wsgicluster.arbiter.postmortem import report
from wsgicluster.arbiter.postmortem.diagnosis import Death, Exit, InFlight
from wsgicluster.ipc.scoreboard import PageSnapshot, WorkerState

IDLE = PageSnapshot(
    deadline=0.0, started=0.0, state=WorkerState.READY, pid=77, generation=2, slot=3, requests=512, failed=1,
    bytes_in=0, bytes_out=0, connections=0, resident_bytes=0, client="", request_line="",
)  # fmt: skip
BUSY = dataclasses.replace(IDLE, started=109.5, client="192.0.2.7:5000", request_line="POST /pay")


def child(**fields: object) -> Child:
    made = Child(key=1, slot=3, generation=2, forked_at=100.0, state=State.READY, pid=77, ready_at=101.0)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def ended(code: int = 0, number: int = 0) -> Exit:
    return Exit(code, number, 45 << 20, 2.5)


DEATH = Death(
    slot=3, pid=77, generation=2, role=Role.WORKER, end=End.CRASHED, exit=Exit(0, 11, 45 << 20, 2.5, core_dumped=True),
    at=1e9, up_s=10.0, was_ready=True, requests=512, request=InFlight("POST", "/pay", "", "192.0.2.7:5000", 0.5),
)  # fmt: skip


def test_a_crash_says_all_that_is_known() -> None:
    assert report.death(DEATH) == (
        "Worker 3 (pid 77, generation 2) crashed: signal SIGSEGV (core dumped), up 10.0 s, 512 requests served, "
        "peak memory 45.0 MiB, processor time 2.5 s, in POST /pay from 192.0.2.7:5000 for 0.5 s"
    )
    broken = dataclasses.replace(DEATH, exit=ended(code=3), detail="OSError: [Errno 9] Bad", stacks="Traceback ...")
    first, second = report.death(broken).splitlines()
    assert "crashed: exit code 3 (OSError: [Errno 9] Bad), up" in first
    assert second == "Traceback ..."


def test_other_ends() -> None:
    idle = dataclasses.replace(DEATH, end=End.KILLED_FROM_OUTSIDE, exit=ended(number=signal.SIGKILL), request=None)
    assert "was killed from outside, or by the kernel when out of memory: signal SIGKILL" in report.death(idle)
    assert report.death(idle).endswith("no request in progress")
    known = dataclasses.replace(idle, kernel_counts=True)
    assert "was killed from outside: signal SIGKILL" in report.death(known)
    told = "Memory cgroup out of memory: Killed process 77 (python3)"
    text = report.death(dataclasses.replace(idle, end=End.OUT_OF_MEMORY, kernel=told))
    assert "was killed by the kernel: out of memory" in text
    assert text.endswith(f"the kernel says: {told}")
    young = dataclasses.replace(DEATH, exit=ended(code=9), was_ready=False, request=None)
    assert report.death(young) == (
        "Worker 3 (pid 77, generation 2) crashed: exit code 9, while booting for 10.0 s, "
        "peak memory 45.0 MiB, processor time 2.5 s"
    )
    mold = report.death(dataclasses.replace(DEATH, role=Role.MOLD, request=None))
    assert mold.startswith("Mold (pid 77, generation 2) crashed: ")
    assert "request" not in mold


def test_a_request_cannot_write_log_lines() -> None:
    found = InFlight("GET", "/\r\n[fake] \x1b[31m\\" + "x" * 1000, "HTTP/1.1", "192.0.2.7:5000", 1.0)
    text = report.request(found)
    assert "\n" not in text
    assert "\x1b" not in text
    assert "GET /\\r\\n[fake] \\x1b[31m\\\\xxx" in text
    assert len(text) < 300


def test_a_hang_names_request_and_stacks() -> None:
    hang = dataclasses.replace(
        DEATH, end=End.TIMED_OUT, exit=ended(number=signal.SIGKILL), timeout_s=3.0, state_letter="R", stacks="Thread 1"
    )
    first, second = report.death(hang).splitlines()
    assert first == (
        "Worker 3 (pid 77, generation 2) hung in POST /pay from 192.0.2.7:5000 for 0.5 s: timeout of 3.0 s passed, "
        "it was busy and was ended by KILL, up 10.0 s, 512 requests served, peak memory 45.0 MiB, processor time 2.5 s"
    )
    assert second == "Thread 1"


def test_a_hang_without_stacks_or_request() -> None:
    hang = dataclasses.replace(DEATH, end=End.TIMED_OUT, exit=ended(code=1), timeout_s=3.0, request=None)
    text = report.death(hang)
    assert "hung between requests: timeout of 3.0 s passed, it was ended, up 10.0 s" in text
    assert text.endswith("(no stacks: the process could not write them)")
    boot = report.death(dataclasses.replace(hang, was_ready=False))
    assert "did not become ready in time: timeout of 3.0 s passed, it was ended, while booting for 10.0 s" in boot
    mold = report.death(dataclasses.replace(hang, role=Role.MOLD))
    assert "Mold (pid 77, generation 2) did not fork the worker that was ordered: timeout" in mold


def test_a_failure_to_boot_is_shown_once() -> None:
    assert report.cannot_boot(child(), "no database", "Traceback\n  ...\n", 0) == (
        "Worker 3 (pid 77, generation 2) cannot boot: no database\nTraceback\n  ..."
    )
    assert report.cannot_boot(child(), "no database", "Traceback", 1) == (
        "Worker 3 (pid 77, generation 2) cannot boot: no database (the same traceback as before, once)"
    )
    assert report.cannot_boot(child(), "no database", "Traceback", 3).endswith("as before, 3 times)")
    assert report.cannot_boot(child(), "no such user", "", 3).endswith("cannot boot: no such user")


def test_a_cut() -> None:
    assert report.cut(child(), BUSY, 140.0, 30.0) == (
        "Worker 3 (pid 77, generation 2) was cut off after graceful_timeout of 30.0 s, "
        "in POST /pay from 192.0.2.7:5000 for 30.5 s"
    )


def test_waits() -> None:
    assert report.waiting(Wait(3, 1, 0.0, 1.0, 1.0), 1, 2) == (
        "Worker 3: 1 quick death, next try now; degraded: 1 of 2 workers serve"
    )
    assert report.waiting(Wait(0, 4, 2.0, 1.0, 1.0), 0, 2) == (
        "Mold: 4 quick deaths in a row, next try in 2 s; degraded: 0 of 2 workers serve"
    )
    assert report.waiting(Wait(2, 0, 0.25, 1.0, 1.0), 1, 2) == (
        "Worker 2: more than 10 workers have died in requests within 1 s, next try in 0.25 s; "
        "degraded: 1 of 2 workers serve"
    )
    assert report.not_started(Wait(3, 2, 0.5, 1.0, 1.0), "Too many open files", 2, 2) == (
        "Worker 3 could not be started (Too many open files), next try in 0.5 s; 2 of 2 workers serve"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12 ms"), (0.35, "0.3 s"), (59.94, "59.9 s"), (61.5, "1 min 1 s"), (3725.0, "1 h 2 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text
