"""What has happened to workers, counted by events."""

import pytest

from wsgicluster.arbiter.plan.child import End, Role
from wsgicluster.arbiter.supervision.tallies import Tallies
from wsgicluster.ipc.events import ExitEvent, ReadyEvent, ReloadEvent


def exit_of(pid: int, end: End, asked: bool = False, role: Role = Role.WORKER) -> ExitEvent:
    return ExitEvent(at=1.0, role=role.value, slot=1, generation=1, pid=pid, reason=end.value, asked=asked, code=0)


def ready(pid: int, role: Role = Role.WORKER) -> ReadyEvent:
    return ReadyEvent(at=1.0, role=role.value, slot=1, generation=1, pid=pid, boot_s=0.5)


def not_zero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("end", End)
def test_each_end_has_a_word_that_is_there_from_the_start(end: End) -> None:
    tallies = Tallies()
    assert tallies.exits[end.name.lower()] == 0
    tallies.note(exit_of(7, end))
    assert not_zero(tallies.exits) == {end.name.lower(): 1}


@pytest.mark.parametrize(
    ("end", "asked", "result"),
    [
        (End.BOOT_FAILED, False, "failed"),
        (End.CRASHED, False, "failed"),
        (End.TIMED_OUT, False, "timed_out"),
        (End.ASKED, True, "called_off"),
    ],
)
def test_a_boot_has_one_result(end: End, asked: bool, result: str) -> None:
    tallies = Tallies()
    tallies.note(exit_of(7, end, asked=asked))
    assert not_zero(tallies.boots) == {result: 1}
    # A pid may be used again, and how one exits that has been ready is none of its boot's.
    tallies.note(ready(7))
    tallies.note(exit_of(7, end, asked=asked))
    assert not_zero(tallies.boots) == {result: 1, "ready": 1}
    tallies.note(exit_of(7, end, asked=asked))
    assert not_zero(tallies.boots) == {result: 2, "ready": 1}


def test_only_workers_count() -> None:
    tallies = Tallies()
    tallies.note(ready(7, Role.JOBS))
    tallies.note(exit_of(7, End.CRASHED, role=Role.JOBS))
    assert not_zero(tallies.boots) == not_zero(tallies.exits) == {}


def test_reloads_are_counted_by_how_they_end() -> None:
    tallies = Tallies()
    for result in ("begun", "complete", "begun", "aborted", "refused", "refused", "begun", "superseded"):
        tallies.note(ReloadEvent(at=1.0, generation=2, result=result))
    assert tallies.reloads == {"complete": 1, "refused": 2, "aborted": 1, "superseded": 1}
