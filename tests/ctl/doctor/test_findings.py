"""What a status says about the health of a server: a finding for each fault, and none for a sound one."""

from typing import Any

import pytest

from wsgicluster.control.surroundings import LiveSurroundings
from wsgicluster.ctl.doctor.findings import LiveFacts, findings

SETTINGS = {
    "timeout": "30", "max_memory": "0", "max_requests": "0", "backlog": "2048", "user": "33", "reload": "false",
}  # fmt: skip
SOUND = LiveSurroundings(
    user=33,
    processors=4,
    backlog_limit=4096,
    overflows=0,
    memory_limit_bytes=None,
    open_file_limits={1: 1024, 10: 1024},
)


def server(**more: Any) -> dict[str, Any]:
    totals = {"requests": 5000, "failed": 1, "shed": 0, "queue": {"seconds": 1.0, "buckets": [5000, 0, 0]}}
    return {
        "pid": 1, "degraded": False, "workers": {"wanted": 2, "ready": 2}, "last_reload": None, "open_fds": 20,
        "exits": {"crashed": 0, "timed_out": 0, "asked": 4}, "worker_class": "sync", "bounds_seconds": [0.01, 0.5],
        "totals": {**totals, **more.pop("totals", {})}, **more,
    }  # fmt: skip


def worker(**more: Any) -> dict[str, Any]:
    return {
        "slot": 1,
        "pid": 10,
        "state": "ready",
        "open_fds": 30,
        "rss_bytes": 50 << 20,
        "oldest_request": None,
        **more,
    }


def found(
    about: dict[str, Any] | None = None,
    workers: list[dict[str, Any]] | None = None,
    settings: dict[str, str] | None = None,
    surroundings: LiveSurroundings = SOUND,
) -> list[str]:
    status = {"server": about or server(), "workers": [worker()] if workers is None else workers}
    return [str(each) for each in findings(LiveFacts(status, {**SETTINGS, **(settings or {})}, surroundings))]


def test_nothing_is_found_of_a_sound_server() -> None:
    assert found() == []
    assert found(surroundings=LiveSurroundings()) == [], "nor where the system does not tell"


def test_slots_without_a_worker_are_named() -> None:
    about = server(degraded=True, workers={"wanted": 3, "ready": 1})
    (line,) = found(about, [worker(), worker(slot=2, state="booting")])
    assert line == (
        "workers: 1 of 3 are ready; slots that wait for another attempt: 2, 3; "
        "wsgiclusterctl logs --level error says why their workers exit"
    )


@pytest.mark.parametrize(("result", "count"), [("aborted", 1), ("refused", 1), ("took over", 0)])
def test_a_reload_that_failed_is_a_finding_until_the_next(result: str, count: int) -> None:
    lines = found(server(last_reload={"result": result, "reason": "LookupError: no table"}))
    assert len(lines) == count
    assert all("LookupError: no table" in line for line in lines)


@pytest.mark.parametrize(
    ("about", "begin"),
    [
        (server(exits={"crashed": 2, "timed_out": 1}), "exits: since the start, of workers: 2 crashed, 1 timed"),
        (server(totals={"failed": 51}), "application: it has failed 51 of 5000 requests (1.0 %);"),
        (server(totals={"shed": 7}), "queue_timeout: 7 requests were not run"),
        (
            server(totals={"queue": {"seconds": 1.0, "buckets": [4000, 940, 60]}}),
            "queue: 60 of 5000 requests have waited for 100ms or longer before they ran;",
        ),
        (server(open_fds=1000), "descriptors: the arbiter has 1000 of 1024 files"),
        (server(workers={"wanted": 18, "ready": 18}), "workers: 18 sync workers have 4 processors; use 17 or fewer"),
    ],
)  # fmt: skip
def test_what_the_server_has_counted(about: dict[str, Any], begin: str) -> None:
    (line,) = found(about)
    assert line.startswith(begin), line


@pytest.mark.parametrize(
    ("about", "settings"),
    [
        (server(totals={"requests": 10, "failed": 10}), {}),
        (server(totals={"queue": {"seconds": 1.0, "buckets": [0, 0, 10]}}), {}),
        (server(workers={"wanted": 18, "ready": 18}, worker_class="gthread"), {}),
        (server(), {"timeout": "0", "max_memory": "1G", "max_requests": "5000"}),
    ],
)
def test_what_says_little_is_no_finding(about: dict[str, Any], settings: dict[str, str]) -> None:
    assert found(about, [worker()], settings) == []


@pytest.mark.parametrize(
    ("more", "settings", "begin"),
    [
        ({"open_fds": 930}, {}, "descriptors: worker 1 has 930 of 1024 files"),
        ({"rss_bytes": 280 << 20}, {"max_memory": "300M"}, "max_memory: the workers of slots 1 are near 300M"),
        (
            {"oldest_request": {"method": "GET", "path": "/slow", "seconds": 20.0}}, {},
            "timeout: worker 1 runs GET /slow for 20s of 30 s; wsgiclusterctl stacks 1",
        ),
        ({}, {"max_requests": "100"}, "max_requests: each worker is replaced after 100 requests"),
        ({}, {"reload": "true"}, "reload: workers watch all source files"),
    ],
)  # fmt: skip
def test_what_workers_and_settings_say(more: dict[str, Any], settings: dict[str, str], begin: str) -> None:
    (line,) = found(None, [worker(**more)], settings)
    assert line.startswith(begin), line


@pytest.mark.parametrize(
    ("surroundings", "settings", "begin"),
    [
        (LiveSurroundings(backlog_limit=128), {}, "backlog: the kernel lets 128 connections wait, not 2048;"),
        (LiveSurroundings(overflows=3), {}, "backlog: a listen queue was full 3 times"),
        (
            LiveSurroundings(memory_limit_bytes=1 << 30, memory_used_bytes=1000 << 20), {},
            "memory: the control group of the server uses 1000M of 1.0G;",
        ),
        (LiveSurroundings(user=0), {"user": "0"}, "user: the application runs as root"),
    ],
)  # fmt: skip
def test_what_the_surroundings_say(surroundings: LiveSurroundings, settings: dict[str, str], begin: str) -> None:
    (line,) = found(settings=settings, surroundings=surroundings)
    assert line.startswith(begin), line
