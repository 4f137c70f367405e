"""What counts as a stop by force, and how it is reported."""

import dataclasses

import pytest

from tests.arbiter.postmortem.test_report import BUSY, IDLE
from wsgicluster.arbiter.plan.child import Ask, Child, End, Role
from wsgicluster.arbiter.postmortem.forced_stop import ForcedStopReport
from wsgicluster.ipc.scoreboard import PageSnapshot


def noted(*entries: tuple[Ask, End, PageSnapshot | None]) -> ForcedStopReport:
    forced = ForcedStopReport()
    for key, (asked, end, facts) in enumerate(entries):
        forced.note(Child(key, key, 1, 0.0, asked=asked), end, facts)
    return forced


@pytest.mark.parametrize(
    "entry",
    [
        (Ask.DRAIN, End.ASKED, IDLE),
        (Ask.QUICK, End.ASKED, BUSY),  # a quick stop was requested, and it exited
        (Ask.DRAIN, End.CRASHED, BUSY),  # not by force
        (Ask.DRAIN, End.ASKED, None),
    ],
)
def test_what_went_as_asked(entry: tuple[Ask, End, PageSnapshot | None]) -> None:
    assert not noted(entry)


def cut(line: str, count: int, started: float = 1.0) -> PageSnapshot:
    return dataclasses.replace(IDLE, request_line=line, cut=count, started=started)


def test_requests_that_were_cut_are_counted_and_named() -> None:
    assert str(noted((Ask.DRAIN, End.ASKED, cut("GET /a?key=secret HTTP/1.1", 1)))) == "1 request was cut off (GET /a)"
    forced = noted((Ask.DRAIN, End.ASKED, cut("GET /a HTTP/1.1", 3)), (Ask.DRAIN, End.ASKED, cut("PUT /\x1b", 1)))
    assert str(forced) == "4 requests were cut off (GET /a, PUT /\\x1b and 2 more)"
    assert str(noted((Ask.DRAIN, End.ASKED, cut("", 2, started=0.0)))) == "2 requests were cut off"


@pytest.mark.parametrize(("asked", "end"), [(Ask.KILL, End.CUT), (Ask.KILL, End.ASKED), (Ask.DRAIN, End.TIMED_OUT)])
def test_workers_that_had_to_be_killed(asked: Ask, end: End) -> None:
    assert str(noted((asked, end, BUSY))) == "1 request was cut off (POST /pay), 1 worker had to be killed"
    assert str(noted((asked, end, IDLE), (asked, end, None))) == "2 workers had to be killed"


def test_a_mold_is_always_killed() -> None:
    forced = ForcedStopReport()
    forced.note(Child(1, 0, 1, 0.0, Role.MOLD, asked=Ask.KILL), End.ASKED, BUSY)
    assert not forced


def test_a_long_list_is_cut() -> None:
    text = str(noted(*[(Ask.DRAIN, End.ASKED, cut(f"GET /{n} HTTP/1.1", 1)) for n in range(9)]))
    assert text == "9 requests were cut off (GET /0, GET /1, GET /2, GET /3, GET /4 and 4 more)"
