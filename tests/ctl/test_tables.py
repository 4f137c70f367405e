"""Text for terminals: durations, sizes, tables that fit."""

import datetime
from typing import Any

import pytest

from wsgicluster.ctl import tables

NOW = datetime.datetime(2026, 3, 1, 12, 0, 0, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.00085, "850us"), (0.0123, "12.3ms"), (0.5, "500ms"), (3.52, "3.5s"), (30.0, "30s")],
)
def test_short_durations(seconds: float | None, text: str) -> None:
    assert tables.seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (59.9, "59s"), (192, "3m12s"), (18120, "5h02m"), (1051200, "12d04h")],
)
def test_long_durations(seconds: float, text: str) -> None:
    assert tables.age_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "-"), (0, "0B"), (524288, "512K"), (45 << 20, "45M"), (1288490188, "1.2G")]
)
def test_sizes(count: int | None, text: str) -> None:
    assert tables.bytes_text(count) == text


def worker(slot: int, **more: Any) -> dict[str, Any]:
    return {
        "slot": slot, "pid": 100 + slot, "generation": 2, "state": "ready", "started": "2026-03-01T11:59:00.000Z",
        "restarts": 0, "requests": 12345, "failed": 1, "connections": {"idle": 3, "active": 1},
        "latency_seconds": {"p50": 0.001, "p90": 0.01, "p99": 0.1}, "rss_bytes": 50 << 20, "pss_bytes": 20 << 20,
        "oldest_request": {"method": "GET", "path": "/report", "client": "10.0.0.1:99", "seconds": 2.25}, **more,
    }  # fmt: skip


def lines(width: int, *rows: dict[str, Any]) -> list[str]:
    return tables.table(rows, tables.columns(NOW, {101: {"requests": 41.7, "cpu": 0.5}}), width, header=True)


def test_the_list_has_a_line_for_each_worker() -> None:
    title, first, second = lines(200, worker(1), worker(2, state="booting", pid=None, oldest_request=None))
    assert title.split() == [
        "SLOT", "PID", "GEN", "STATE", "UP", "\u21ba", "REQ", "REQ/S", "P99", "ERR", "CONN", "CPU%", "MEM", "NOW",
    ]  # fmt: skip
    assert first.split() == [
        "1", "101", "2", "ready", "1m00s", "0", "12345", "42", "100ms", "1", "4", "50", "20M", "GET", "/report", "2.2s",
    ]  # fmt: skip
    assert second.split()[:4] == ["2", "-", "2", "booting"]


@pytest.mark.parametrize("width", [20, 40, 80, 100, 120])
def test_what_does_not_fit_is_left_out_from_the_right(width: int) -> None:
    wide, narrow = lines(200, worker(1)), lines(width, worker(1))
    for full, short in zip(wide, narrow, strict=True):
        assert len(short) <= width
        assert full.startswith(short)
    assert narrow[0].split()[0] == "SLOT"


def test_a_worker_whose_page_cannot_be_read_has_a_line() -> None:
    row = {"slot": 1, "pid": 9, "generation": 1, "state": "ready", "started": "2026-03-01T11:59:00Z", "restarts": 0}
    assert lines(200, row)[1].split()[:4] == ["1", "9", "1", "ready"]


def test_the_headline_says_what_is_wrong() -> None:
    server = {
        "name": "shop", "pid": 7, "version": "1.0", "addresses": ["http://127.0.0.1:8000"], "state": "reloading",
        "workers": {"wanted": 4, "ready": 3}, "scheduling": "shared",
        "last_reload": {"result": "aborted", "generation": 2},
    }  # fmt: skip
    text = tables.headline(server)
    assert text.startswith("shop (pid 7)")
    assert "reloading, 3/4 ready" in text
    assert text.endswith("last reload aborted")
    assert " · 3/4 workers · shared" in text
    ranged = {**server, "workers": {"wanted": 4, "ready": 3, "range": "2..16"}}
    assert " · 3/4 workers (2..16) · shared" in tables.headline(ranged)


def test_events_are_lines() -> None:
    exit_ = {
        "event": "exit", "at": "2026-03-01T12:00:00.000Z", "role": "worker", "slot": 2, "pid": 9, "generation": 1,
        "reason": "crashed", "signal": "SIGSEGV", "request": "GET / HTTP/1.1", "by": "",
    }  # fmt: skip
    assert tables.event_line(exit_) == (
        "2026-03-01T12:00:00.000Z  exit  worker 2 (pid 9, generation 1)  SIGSEGV  GET / HTTP/1.1: crashed"
    )
    scale = {"event": "scale", "at": "T", "workers": 3, "before": 2, "by": "operator", "reason": ""}
    assert tables.event_line(scale) == "T  scale  2 -> 3 workers  (by operator)"


def test_a_slot_is_shown_with_what_it_has_counted() -> None:
    totals = {
        "requests": 12, "responses": {"none": 0, "2xx": 11, "5xx": 1},
        "failures": {"exception": 0, "client_left": 1}, "exits": {"asked": 0, "timed_out": 2},
        "cpu_seconds": {"user": 1.5, "system": 0.5},
    }  # fmt: skip
    found = {"slots": [{"slot": 1, "totals": totals}], "workers": [], "last_exits": [], "settings": {}}
    assert [line.split(":", 1)[1].strip() for line in tables.details(found, NOW) if line] == [
        "12 requests", "11 2xx, 1 5xx", "1 client left", "2 timed out", "2.0s",
    ]  # fmt: skip
