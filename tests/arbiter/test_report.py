"""Records about children: pure formatting."""

import dataclasses
import signal

import pytest

from wsgicluster.arbiter import report
from wsgicluster.arbiter.backoff import Wait
from wsgicluster.arbiter.child import Ask, Child, End, State
from wsgicluster.arbiter.report import Exit
from wsgicluster.scoreboard import Facts, WorkerState

IDLE = Facts(
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
    return Exit(code, number, 45 << 20)


KILL, TERM, SEGV, QUIT = signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGQUIT


@pytest.mark.parametrize(
    ("fields", "how", "oom", "end"),
    [
        ({}, ended(number=SEGV), False, End.CRASHED),
        ({}, ended(code=1), False, End.CRASHED),
        ({}, ended(number=KILL), True, End.OUT_OF_MEMORY),
        ({}, ended(number=KILL), False, End.KILLED_FROM_OUTSIDE),
        ({}, ended(number=TERM), False, End.KILLED_FROM_OUTSIDE),
        ({}, ended(), False, End.LEFT),
        ({"asked": Ask.DRAIN, "state": State.DRAINING}, ended(), False, End.ASKED),
        ({"asked": Ask.QUICK, "state": State.DRAINING}, ended(number=QUIT), False, End.ASKED),
        ({"asked": Ask.KILL, "state": State.KILLED}, ended(number=KILL), False, End.ASKED),
        ({"asked": Ask.DRAIN, "state": State.DRAINING}, ended(number=SEGV), False, End.CRASHED),
        ({"asked": Ask.DRAIN, "state": State.DRAINING}, ended(number=KILL), True, End.OUT_OF_MEMORY),
        ({"asked": Ask.DRAIN, "state": State.DRAINING}, ended(code=1), False, End.CRASHED),
        (
            {"asked": Ask.DRAIN, "state": State.DRAINING, "recycle": End.RECYCLED_MEMORY},
            ended(),
            False,
            End.RECYCLED_MEMORY,
        ),
        ({"asked": Ask.QUICK, "state": State.DRAINING, "ready_at": None}, ended(code=1), False, End.ASKED),
        ({"end": End.TIMED_OUT, "state": State.KILLED}, ended(number=signal.SIGABRT), False, End.TIMED_OUT),
        ({"end": End.BOOT_FAILED, "ready_at": None}, ended(code=4), False, End.BOOT_FAILED),
        ({"end": End.CUT, "asked": Ask.KILL}, ended(number=KILL), False, End.CUT),
    ],
)
def test_why(fields: dict[str, object], how: Exit, oom: bool, end: End) -> None:
    assert report.why(child(**fields), how, oom) is end


def test_a_crash_says_all_that_is_known() -> None:
    assert report.unasked_end(child(), End.CRASHED, ended(number=SEGV), BUSY, 110.0) == (
        "Worker 3 (pid 77, generation 2) crashed: signal SIGSEGV, up 10.0 s, 512 requests served, "
        "peak memory 45.0 MiB, in POST /pay from 192.0.2.7:5000 for 0.5 s"
    )


def test_other_ends() -> None:
    text = report.unasked_end(child(), End.KILLED_FROM_OUTSIDE, ended(number=KILL), IDLE, 110.0)
    assert "was killed from outside, or by the kernel when out of memory: signal SIGKILL" in text
    assert text.endswith("no request in progress")
    text = report.unasked_end(child(), End.OUT_OF_MEMORY, ended(number=KILL), BUSY, 110.0)
    assert "was killed by the kernel: out of memory" in text
    text = report.unasked_end(child(ready_at=None), End.CRASHED, ended(code=9), None, 110.0)
    assert text == (
        "Worker 3 (pid 77, generation 2) crashed: exit code 9, while booting for 10.0 s, peak memory 45.0 MiB"
    )


def test_a_request_cannot_write_log_lines() -> None:
    facts = dataclasses.replace(BUSY, request_line="GET /\r\n[fake] \x1b[31m\\" + "x" * 1000)
    text = report.request(facts, 110.0)
    assert "\n" not in text
    assert "\x1b" not in text
    assert "GET /\\r\\n[fake] \\x1b[31m\\\\xxx" in text
    assert len(text) < 300


STACKS = """\
Thread 0x00007f (most recent call first):
  File "/app/db.py", line 7 in query
  File "/usr/lib/python3/threading.py", line 1 in run

Current thread 0x00007e (most recent call first):
  File "/app/views.py", line 3 in pay
  File "/x/wsgicluster/worker/base.py", line 9 in boot_worker
  File "/x/wsgicluster/arbiter/family.py", line 5 in run
  File "/x/wsgicluster/arbiter/spawn.py", line 44 in _live
  File "/x/wsgicluster/arbiter/spawn.py", line 33 in fork
  File "/x/wsgicluster/cli.py", line 1 in main
"""


def test_a_hang_names_request_and_stacks() -> None:
    text = report.hang(child(), BUSY, STACKS, 3.0, 112.5)
    first, *rest = text.splitlines()
    assert first == (
        "Worker 3 (pid 77, generation 2) is stuck in POST /pay from 192.0.2.7:5000 for 3.0 s: "
        "timeout of 3.0 s passed, it is ended"
    )
    assert rest[1] == '  File "/app/db.py", line 7 in query'
    assert rest[5] == '  File "/app/views.py", line 3 in pay'
    assert "cli.py" not in text


def test_a_hang_without_stacks_or_request() -> None:
    text = report.hang(child(), IDLE, "", 3.0, 112.5)
    assert "is stuck between requests: timeout" in text
    assert "no stacks" in text
    text = report.hang(child(ready_at=None), BUSY, STACKS, 3.0, 112.5)
    assert "is stuck in its rehearsal, in " in text
    text = report.hang(child(ready_at=None), None, STACKS, 3.0, 103.0)
    assert "is not ready after 3.0 s and boots no longer: timeout of 3.0 s passed" in text


def test_a_cut() -> None:
    assert report.cut(child(), BUSY, 140.0, 30.0) == (
        "Worker 3 (pid 77, generation 2) was cut off after graceful_timeout of 30.0 s, "
        "in POST /pay from 192.0.2.7:5000 for 30.5 s"
    )


def test_waits() -> None:
    assert report.waiting(Wait(3, 1, 0.0, 1.0), 1, 2) == (
        "Worker 3: 1 quick death, next try now; degraded: 1 of 2 workers serve"
    )
    assert report.waiting(Wait(0, 4, 2.0, 1.0), 0, 2) == (
        "Mold: 4 quick deaths in a row, next try in 2 s; degraded: 0 of 2 workers serve"
    )
    assert report.not_made(Wait(3, 2, 0.5, 1.0), "Too many open files", 2, 2) == (
        "Worker 3 cannot be made (Too many open files), next try in 0.5 s; 2 of 2 workers serve"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12 ms"), (0.35, "0.3 s"), (59.94, "59.9 s"), (61.5, "1 min 1 s"), (3725.0, "1 h 2 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text
