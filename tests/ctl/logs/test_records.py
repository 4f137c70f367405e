"""Records of a log: where one begins, and which are wanted."""

import re

import pytest

from wsgicluster.ctl.logs.records import Record, RecordFilter, records

LOG = """\
  a line from before
[2026-03-01 12:00:00 +0000] [10] [INFO] Worker 1 (pid 21, generation 1) is ready after 2 ms
[2026-03-01 12:00:00 +0000] [10] [INFO] Worker 2 (pid 22, generation 1) is ready after 2 ms
[2026-03-01 12:00:01 +0200] [21] [ERROR] exception in GET /pay
Traceback (most recent call last):
LookupError: no such order
[2026-03-01 12:00:02 +0000] [22] [WARNING] worker 2: 3 more requests were refused
[2026-03-01 12:00:03 +0000] [10] [INFO] Worker 1 (pid 22, generation 2) is ready after 2 ms
[2026-03-01 12:00:04 +0000] [22] [DEBUG] about slot 1
printed by an application""".splitlines()


def found(wanted: RecordFilter, lines: list[str] = LOG) -> list[int]:
    """The lines that the wanted records begin with."""
    return [lines.index(record.lines[0]) for record in records(lines) if wanted.has(record)]


def test_lines_without_a_head_belong_to_the_record_in_front() -> None:
    all_of_them = list(records(LOG))
    assert [line for record in all_of_them for line in record.lines] == LOG
    error = all_of_them[3]
    assert (error.at, error.pid, error.level) == ("2026-03-01T12:00:01+02:00", 21, "error")
    assert error.as_json() == {
        "at": "2026-03-01T12:00:01+02:00", "pid": 21, "level": "error",
        "message": "exception in GET /pay\nTraceback (most recent call last):\nLookupError: no such order",
    }  # fmt: skip
    assert all_of_them[0].as_json() == {"at": None, "pid": None, "level": None, "message": LOG[0]}
    assert list(records([])) == []


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        (RecordFilter(), [0, 1, 2, 3, 6, 7, 8]),
        (RecordFilter(level="debug"), [1, 2, 3, 6, 7, 8]),
        (RecordFilter(level="warning"), [3, 6]),
        (RecordFilter(level="critical"), []),
        (RecordFilter(pattern=re.compile("no such|refused")), [3, 6]),
        (RecordFilter(slot=1), [1, 3, 7, 8]),
        (RecordFilter(slot=2), [2, 6]),
        (RecordFilter(slot=3), []),
        (RecordFilter(slot=3, pids=[21]), []),
        (RecordFilter(slot=1, level="error"), [3]),
    ],
)
def test_records_are_chosen_by_level_pattern_and_slot(wanted: RecordFilter, lines: list[int]) -> None:
    assert found(wanted) == lines


def test_pids_that_are_known_belong_to_the_slot() -> None:
    assert found(RecordFilter(slot=7, pids=[21]), LOG[3:]) == [0]


def test_the_rest_of_a_record_that_comes_later_shares_its_fate() -> None:
    wanted = RecordFilter(level="error")
    assert [wanted.has(record) for record in records(LOG[3:5])] == [True]
    assert [wanted.has(record) for record in records(LOG[5:7])] == [True, False]
    assert wanted.has(Record(["more of what is not wanted"])) is False


STRUCTURED = [
    """{"time":"2026-03-01T12:00:01.250+00:00","level":"error","logger":"wsgicluster.error","pid":21,"message":"failed",
    "exception":"Traceback\\nLookupError"}""".replace("\n    ", ""),
    r'time=2026-03-01T12:00:02.250+00:00 level=warning logger=wsgicluster pid=22 message="worker 2: \"x\"" order=7',
    "time=2026-03-01T12:00:03.250+00:00 level=info logger=wsgicluster.error pid=22 message=Stopped",
    '{"time":"now"}',
    '{"time":"now"',
]


def test_structured_lines() -> None:
    error, warning, info = records(STRUCTURED)
    assert (error.at, error.pid, error.level) == ("2026-03-01T12:00:01.250+00:00", 21, "error")
    assert error.message == "failed\nTraceback\nLookupError"
    assert (warning.pid, warning.level, warning.message) == (22, "warning", 'worker 2: "x"')
    assert (info.message, info.lines) == ("Stopped", STRUCTURED[2:])
    assert found(RecordFilter(level="warning"), STRUCTURED) == [0, 1]
