"""Why children ended, and what is kept of each death: pure decisions."""

import dataclasses
import os
import pathlib
import signal
from collections.abc import Iterator

import pytest

from wsgicluster.arbiter.plan.child import Ask, Child, End, State
from wsgicluster.arbiter.postmortem import diagnosis
from wsgicluster.arbiter.postmortem.diagnosis import Exit, FailureDeduplicator, Hang, InFlight, OomKillCounter, why
from wsgicluster.arbiter.postmortem.evidence import ExitInvestigator
from wsgicluster.ipc.scoreboard import PageSnapshot, WorkerState
from wsgicluster.system.kernel_log import KernelLog

FACTS = PageSnapshot(
    deadline=0.0, started=109.5, state=WorkerState.READY, pid=77, generation=2, slot=3, requests=512, failed=1,
    bytes_in=0, bytes_out=0, connections=0, resident_bytes=0, client="192.0.2.7:5000",
    request_line="POST /pay?a HTTP/1.1",
)  # fmt: skip


class Hands:
    """A clock whose hands stand where they are put; the one on the wall has been set back."""

    def __init__(self) -> None:
        self.now = 110.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 - self.now


def child(**fields: object) -> Child:
    made = Child(key=1, slot=3, generation=2, forked_at=100.0, state=State.READY, pid=77, ready_at=101.0)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def ended(code: int = 0, number: int = 0) -> Exit:
    return Exit(code, number, 45 << 20, 2.5)


@pytest.fixture
def coroner() -> Iterator[ExitInvestigator]:
    made = ExitInvestigator(Hands())
    yield made
    made.close()


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
    assert why(child(**fields), how, oom) is end


@pytest.mark.parametrize(
    ("how", "end"),
    [
        (ended(), End.ASKED),
        (ended(number=TERM), End.ASKED),
        (ended(number=QUIT), End.ASKED),
        (ended(code=1), End.CRASHED),
        (ended(number=SEGV), End.CRASHED),
        (ended(number=KILL), End.KILLED_FROM_OUTSIDE),
    ],
)
def test_why_in_a_stop_of_which_a_child_knows_already(how: Exit, end: End) -> None:
    assert why(child(), how, False, is_stopping=True) is end


def test_how_a_process_ended() -> None:
    assert str(ended(code=7)) == "exit code 7"
    assert str(ended(number=signal.SIGBUS)) == "signal SIGBUS"
    assert str(Exit(0, signal.SIGSEGV, 0, core_dumped=True)) == "signal SIGSEGV (core dumped)"
    assert diagnosis.signal_name(35) == "35"


def test_a_victim_explains_one_death_and_only_soon() -> None:
    victims = OomKillCounter(4)
    assert not victims.claim(100.0)
    victims.counted(5, 100.0)
    assert victims.claim(101.0)
    assert not victims.claim(101.0)
    victims.counted(7, 102.0)
    victims.counted(7, 140.0)
    assert not victims.claim(140.0), "those may have been any process"
    victims.counted(None, 141.0)
    victims.counted(8, 142.0)
    assert victims.claim(142.0)
    silent = OomKillCounter(None)
    silent.counted(None, 100.0)
    assert not silent.claim(100.0)


def test_repeats() -> None:
    repeats = FailureDeduplicator()
    assert [repeats.another("no database", "trace") for _ in range(3)] == [0, 1, 2]
    assert repeats.another("no database", "another trace") == 0
    assert repeats.another("no database", "trace") == 3
    repeats.forget()
    assert repeats.another("no database", "trace") == 0
    assert sum(repeats.another("no database", str(number)) for number in range(1000)) == 0


STACKS = """\
Thread 0x00007f (most recent call first):
  File "/app/db.py", line 7 in query
  File "/usr/lib/python3/threading.py", line 1 in run

Current thread 0x00007e (most recent call first):
  File "/app/views.py", line 3 in pay
  File "/x/wsgicluster/worker/boot.py", line 9 in boot_worker
  File "/x/wsgicluster/arbiter/children/processes.py", line 5 in run
  File "/x/wsgicluster/arbiter/children/fork.py", line 44 in _live
  File "/x/wsgicluster/arbiter/children/fork.py", line 33 in fork
  File "/x/wsgicluster/cli.py", line 1 in main
"""
FATAL = """
Fatal Python error: Segmentation fault

Current thread 0x00007e (most recent call first):
  File "/app/views.py", line 3 in pay
  File "/x/wsgicluster/arbiter/children/fork.py", line 44 in _live
  File "/x/wsgicluster/cli.py", line 1 in main

Extension modules: gevent.hub, greenlet (total: 2)
"""


def test_stacks_are_shown_without_the_frames_of_the_arbiter() -> None:
    lines = diagnosis.hang_stacks(STACKS).splitlines()
    assert lines[1] == '  File "/app/db.py", line 7 in query'
    assert lines[5] == '  File "/app/views.py", line 3 in pay'
    assert "cli.py" not in diagnosis.hang_stacks(STACKS)
    assert diagnosis.hang_stacks(STACKS + FATAL) == diagnosis.hang_stacks(STACKS)


def test_a_hang_shows_each_thread_once_though_a_profile_has_written_them_too() -> None:
    assert diagnosis.hang_stacks(STACKS + STACKS) == diagnosis.hang_stacks(STACKS)
    torn = '  File "/app/torn.py", line 7 in torn\n\n'
    assert diagnosis.hang_stacks(torn + STACKS).splitlines() == diagnosis.hang_stacks(STACKS).splitlines()


def test_a_crash_shows_each_thread_once_though_a_signal_has_come_in_the_middle() -> None:
    begin, frames, rest = FATAL.partition('  File "/app/views.py", line 3 in pay\n')
    again = "Current thread 0x00007e (most recent call first):\n" + frames + rest.partition("\n\n")[0] + "\n"
    for at in range(len(frames) + 1):
        mixed = begin + frames[:at] + again + frames[at:] + rest
        assert diagnosis.crash_stacks(mixed).splitlines() == diagnosis.crash_stacks(FATAL).splitlines(), at


def test_crash_stacks_are_those_of_the_fault() -> None:
    assert diagnosis.crash_stacks(STACKS + FATAL).splitlines() == [
        "Fatal Python error: Segmentation fault",
        "",
        "Current thread 0x00007e (most recent call first):",
        '  File "/app/views.py", line 3 in pay',
    ]
    assert diagnosis.crash_stacks(STACKS) == ""


def test_the_record_of_a_crash(coroner: ExitInvestigator) -> None:
    crashed = child(end=End.CRASHED)
    coroner.reported(crashed, "OSError: closed", "Traceback\n")
    death = coroner.examine(crashed, ended(code=3), FACTS, "")
    assert death.name == "Worker 3 (pid 77, generation 2)"
    assert (death.end, death.up_s, death.requests, death.was_ready) == (End.CRASHED, 10.0, 512, True)
    assert (death.detail, death.stacks) == ("OSError: closed", "Traceback")
    assert death.request == InFlight("POST", "/pay?a", "HTTP/1.1", "192.0.2.7:5000", 0.5)
    assert list(coroner.deaths) == [death]


def test_the_record_of_a_hang_is_of_the_moment_it_was_found(coroner: ExitInvestigator) -> None:
    hung = child(end=End.TIMED_OUT)
    coroner.hangs(hung, Hang(3.0, FACTS, 112.5, "S"))
    death = coroner.examine(hung, ended(number=signal.SIGKILL), None, STACKS + FATAL)
    assert death.request is not None
    assert (death.request.seconds, death.timeout_s, death.state_letter) == (3.0, 3.0, "S")
    assert death.requests is None
    assert death.stacks == diagnosis.hang_stacks(STACKS)


def test_the_last_records_are_kept(coroner: ExitInvestigator) -> None:
    for number in range(diagnosis.KEPT + 5):
        crashed = child(end=End.CRASHED, slot=number)
        coroner.reported(crashed, "", "frame\n" * 20_000)
        assert len(coroner.examine(crashed, ended(code=1), FACTS, "").stacks) > 100_000
    assert max(len(death.stacks) for death in coroner.deaths) < 10_000, "the log has all of it"
    assert [death.slot for death in coroner.deaths] == list(range(5, diagnosis.KEPT + 5))


def test_the_kernel_s_word(tmp_path: pathlib.Path) -> None:
    log, name_space = tmp_path / "kmsg", tmp_path / "pid"
    log.write_text("3,1,1,-;Killed process 77 (old)\n")
    os.symlink("pid:[4026531836]", name_space)
    kernel = KernelLog(str(log), str(name_space))
    assert kernel.about(77) == "", "what was said before is about another process"
    with log.open("a") as more:
        more.write(
            "4,1200,1,-;systemd[1]: Reached target\n"
            "3,1201,2,-;Memory cgroup out of memory: Killed process 77 (python3) anon-rss:9kB\n"
            " SUBSYSTEM=memory\n"
            "6,1202,3,-;python3[78]: segfault at 0 ip 00007f sp 00007f error 4 in lib.so[7f+1]\n"
        )
    assert kernel.about(77) == "Memory cgroup out of memory: Killed process 77 (python3) anon-rss:9kB"
    assert kernel.about(78).startswith("python3[78]: segfault at 0")
    assert kernel.about(1) == ""
    kernel.close()
    assert kernel.about(78) == "python3[78]: segfault at 0 ip 00007f sp 00007f error 4 in lib.so[7f+1]"


def test_the_kernel_s_word_is_not_taken_in_a_container(tmp_path: pathlib.Path) -> None:
    log, name_space = tmp_path / "kmsg", tmp_path / "pid"
    log.touch()
    os.symlink("pid:[4026532000]", name_space)
    kernel = KernelLog(str(log), str(name_space))
    log.write_text("3,1,1,-;Killed process 77 (another's)\n")
    assert kernel.about(77) == ""
    kernel.close()


@pytest.mark.parametrize(
    ("end", "started", "requests", "blameless"),
    [
        (End.CRASHED, 109.5, 0, True),
        (End.CRASHED, 0.0, 1, True),
        (End.CRASHED, 0.0, 0, False),
        (End.OUT_OF_MEMORY, 0.0, 0, False),
        (End.OUT_OF_MEMORY, 109.5, 0, True),
        (End.TIMED_OUT, 109.5, 0, True),
        (End.KILLED_FROM_OUTSIDE, 0.0, 0, True),
    ],
)
def test_whether_a_boot_is_to_blame(end: End, started: float, requests: int, blameless: bool) -> None:
    facts = dataclasses.replace(FACTS, started=started, requests=requests)
    assert diagnosis.in_service(end, facts) is blameless
    assert not diagnosis.in_service(End.CRASHED, None), "a page that makes no sense proves nothing"
