"""The table of metrics over plain statuses, and the text that is made of it."""

import gzip
import re
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from wsgicluster.admin.exposition import expose, takes_gzip
from wsgicluster.admin.metrics import METRICS, OWN_METRICS, PREFIX, SERVER_STATES, MetricKind, seconds_of

OWN = {name: 0.0 for name, _, _ in OWN_METRICS}
BASE_UNITS = {"seconds", "bytes", "ratio", "info", "total"}


def worker(slot: int, **changes: Any) -> dict[str, Any]:
    return {
        "slot": slot,
        "pid": 100 + slot,
        "state": "ready",
        "started": "2026-01-01T00:00:00.000Z",
        "restarts": 0,
        "ends": {},
        "last_exit": None,
        "requests": 3,
        "connections": {"idle": 2, "active": 1},
        "in_progress": 1,
        "oldest_request": {"method": "GET", "path": "/secret", "client": "1.2.3.4", "seconds": 2.5},
        "rss_bytes": 1000,
        "pss_bytes": None,
        "open_fds": 20,
        "threads": 1,
        **changes,
    }


def status(*workers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    server = {
        "version": "1.0",
        "worker_class": "sync",
        "scheduling": "shared",
        "started": "2026-01-01T00:00:00.500Z",
        "state": "serving",
        "degraded": False,
        "generation": 2,
        "workers": {"wanted": 2, "ready": 2, "range": "1..4"},
        "memory_limit_bytes": 300 << 20,
        "last_reload": None,
        "totals": {
            "requests": 7,
            "failed": 1,
            "queue": {"buckets": [2, 0, 1], "seconds": 0.5},
            "messages": {"received": 9, "dropped": 2, "late_replies": 1},
            "forged_cookies": 3,
        },
        "bounds_seconds": [0.1, 1.0],
        "listeners": [{"listener": "127.0.0.1:8000", "queue": 3, "limit": 2048}],
        "exits": {"crashed": 1, "asked": 2},
        "boots": {"ready": 5},
        "reloads": {"complete": 1, "aborted": 0},
        "scalings": {"up": {"busy": 2, "requested": 0}, "down": {"idle": 1}},
        "cpu_seconds": 1.5,
        "rss_bytes": 5000,
        "open_fds": 30,
        **changes,
    }
    slots: list[dict[str, Any]] = [
        {"slot": 1, "boot_seconds": 0.25, "last_exit_at": "2026-01-01T00:00:00.000Z", "backoff_seconds": 0.0},
        {"slot": 2, "boot_seconds": None, "last_exit_at": None, "backoff_seconds": 1.5},
    ]
    for each in slots:
        each["totals"] = totals()
    return {"server": server, "slots": slots, "workers": list(workers), "others": [], "now": 1767225700.0}


def totals() -> dict[str, Any]:
    times = {"buckets": [1, 2, 3], "seconds": 4.5}
    return {
        "responses": {"none": 0, "2xx": 6, "5xx": 1},
        "failures": {"exception": 1, "cut": 0},
        "shed": 2,
        "sheds": {"queue_timeout": 2, "client_left": 0},
        "bad_requests": {"malformed": 7},
        "accepted": 8,
        "closed": {"client": 5, "idle": 0},
        "hand_offs": {"given": 1, "taken": 2},
        "bytes_in": 300,
        "bytes_out": 400,
        "evicted": 3,
        "probes": 4,
        "duration": times,
        "application": times,
        "queue": times,
        "cpu_seconds": {"user": 1.5, "system": 0.5},
    }


def values(given: dict[str, Any]) -> dict[str, float]:
    """Each sample as it is exposed."""
    _, body, _ = expose(given, OWN, "", "")
    found = {}
    for family in plain(body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name.removeprefix(PREFIX)}{{{labels}}}"] = sample.value
    return found


def test_names_follow_the_conventions() -> None:
    rows = [(row.name, row.kind, row.labels) for row in METRICS] + [(name, kind, ()) for name, kind, _ in OWN_METRICS]
    assert len({name for name, _, _ in rows}) == len(rows)
    for name, kind, labels in rows:
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", name), name
        assert name.endswith("_total") == (kind is MetricKind.COUNTER), name
        for unit in ("milliseconds", "minutes", "percent", "kilobytes", "megabytes", "count", "gauge", "counter"):
            assert unit not in name.split("_"), name
        if {"seconds", "bytes"} & set(name.split("_")):
            assert name.removesuffix("_total").rpartition("_")[2] in BASE_UNITS, name
        assert not {"pid", "path", "method", "instance", "job", "cluster", "service", "env", "type"} & set(labels), name


def test_every_row_has_a_help_text_that_ends() -> None:
    for row in METRICS:
        assert row.help.endswith("."), row.name
    for _, _, text in OWN_METRICS:
        assert text.endswith("."), text


def test_values_of_a_server() -> None:
    found = values(status(worker(1), worker(2, oldest_request=None, in_progress=0)))
    assert found["requests_total{code=2xx,slot=1}"] == 6
    assert found["requests_total{code=5xx,slot=2}"] == 1
    assert found["request_failures_total{reason=exception,slot=1}"] == 1
    assert found["requests_shed_total{reason=queue_timeout,slot=1}"] == 2
    assert found["bad_requests_total{reason=malformed,slot=1}"] == 7
    assert found["connections_accepted_total{slot=1}"] == 8
    assert found["connections_closed_total{reason=client,slot=2}"] == 5
    assert found["handoffs_total{result=taken,slot=1}"] == 2
    assert found["listener_queue{listener=127.0.0.1:8000}"] == 3
    assert found["listener_queue_limit{listener=127.0.0.1:8000}"] == 2048
    assert found["worker_memory_limit_bytes{}"] == 300 << 20
    assert (found["workers_min{}"], found["workers_max{}"]) == (1, 4)
    assert found["messages_received_total{}"] == 9
    assert (found["messages_dropped_total{}"], found["messages_late_replies_total{}"]) == (2, 1)
    assert found["forged_cookies_total{}"] == 3
    assert found["worker_boot_seconds{slot=1}"] == 0.25
    assert "worker_boot_seconds{slot=2}" not in found, "it has not succeeded yet"
    assert found["worker_last_exit_timestamp_seconds{slot=1}"] == seconds_of("2026-01-01T00:00:00.000Z")
    assert "worker_last_exit_timestamp_seconds{slot=2}" not in found
    assert (found["worker_backoff_seconds{slot=1}"], found["worker_backoff_seconds{slot=2}"]) == (0, 1.5)
    assert found["received_bytes_total{slot=1}"] == 300
    assert found["sent_bytes_total{slot=2}"] == 400
    assert found["connections_evicted_total{slot=1}"] == 3
    assert found["worker_cpu_seconds_total{mode=user,slot=1}"] == 1.5
    assert found["worker_exits_total{reason=crashed}"] == 1
    assert found["worker_boots_total{result=ready}"] == 5
    assert found["reloads_total{result=aborted}"] == 0
    assert found["scaling_steps_total{direction=up,reason=busy}"] == 2
    assert found["scaling_steps_total{direction=up,reason=requested}"] == 0
    assert found["scaling_steps_total{direction=down,reason=idle}"] == 1
    assert found["generation{}"] == 2
    assert found["workers{state=ready}"] == 2
    assert found["workers{state=booting}"] == 0
    assert found["connections{slot=1,state=idle}"] == 2
    assert found["oldest_request_start_timestamp_seconds{slot=1}"] == 1767225697.5
    assert "oldest_request_start_timestamp_seconds{slot=2}" not in found
    assert "worker_proportional_bytes{slot=1}" not in found, "what the system does not tell"
    assert found["last_reload_successful{}"] == 1
    assert "last_reload_timestamp_seconds{}" not in found
    assert found["start_timestamp_seconds{}"] == seconds_of("2026-01-01T00:00:00.500Z") == 1767225600.5
    assert found["arbiter_cpu_seconds_total{}"] == 1.5


def test_threads_are_those_of_workers_that_have_some() -> None:
    pool = {"threads": 4, "queue": 5}
    found = values(status(worker(1, pool=pool, lag_seconds=0.5), worker(2)))
    assert found["worker_threads_limit{slot=1}"] == 4
    assert found["worker_threads_busy{slot=1}"] == 1
    assert found["worker_thread_queue{slot=1}"] == 5
    assert found["loop_lag_seconds{slot=1}"] == 0.5
    assert not any("_threads_" in name or "_thread_" in name for name in found if "slot=2" in name)


def test_what_stands_beside_the_status() -> None:
    found = values(status())
    assert not any(name.startswith(("listen_overflows", "certificate_expiry")) for name in found)
    found = values({**status(), "listen_overflows": 6, "certificate_expiry": 1.8e9})
    assert found["listen_overflows_total{}"] == 6
    assert found["certificate_expiry_timestamp_seconds{listener=127.0.0.1:8000}"] == 1.8e9


def test_a_histogram_is_cumulative_and_its_count_is_that_of_its_buckets() -> None:
    found = values(status())
    name = "application_duration_seconds"
    assert [found[f"{name}_bucket{{le={bound},slot=1}}"] for bound in ("0.1", "1.0", "+Inf")] == [1, 3, 6]
    assert found[f"{name}_count{{slot=1}}"] == 6
    assert found[f"{name}_sum{{slot=1}}"] == 4.5
    assert found["request_queue_seconds_bucket{le=+Inf}"] == found["request_queue_seconds_count{}"] == 3


def test_two_workers_of_a_slot_are_one_sample() -> None:
    new = worker(1, started="2026-01-01T00:01:00.000Z", oldest_request=None, in_progress=0, state="booting")
    found = values(status(worker(1, state="draining"), new))
    assert found["worker_resident_bytes{slot=1}"] == 2000
    assert found["requests_in_progress{slot=1}"] == 1
    assert found["worker_start_timestamp_seconds{slot=1}"] == seconds_of("2026-01-01T00:01:00.000Z")
    assert found["workers{state=draining}"] == found["workers{state=booting}"] == 1


def test_a_worker_that_has_not_said_anything_yet() -> None:
    bare = {key: worker(1)[key] for key in ("slot", "pid", "started", "last_exit")} | {"state": "forked", "pid": None}
    found = values(status(bare))
    assert found["workers{state=booting}"] == 1
    assert not any(name.startswith("requests_in_progress") for name in found)


@pytest.mark.parametrize("state", SERVER_STATES)
def test_one_state_of_the_server_is_1(state: str) -> None:
    found = values(status(state=state, degraded=state == "degraded"))
    states = {name: value for name, value in found.items() if name.startswith("state{")}
    assert len(states) == 5
    assert sum(value for name, value in states.items() if "degraded" not in name) == 1
    assert states["state{state=degraded}"] == float(state == "degraded")


@pytest.mark.parametrize(("result", "is_successful"), [("took over", 1), ("aborted", 0), ("refused", 0)])
def test_reloads(result: str, is_successful: int) -> None:
    found = values(status(last_reload={"generation": 2, "result": result, "at": "2026-01-01T00:02:00.000Z"}))
    assert found["last_reload_successful{}"] == is_successful
    assert found["last_reload_timestamp_seconds{}"] == seconds_of("2026-01-01T00:02:00.000Z")


def test_no_request_is_shown() -> None:
    _, body, _ = expose(status(worker(1)), OWN, "", "")
    assert b"/secret" not in body
    assert b"1.2.3.4" not in body


def test_formats() -> None:
    given = status(worker(1))
    content_type, body, is_compressed = expose(given, OWN, "application/openmetrics-text;version=1.0.0", "gzip, br")
    assert content_type.startswith("application/openmetrics-text")
    assert is_compressed
    families = {family.name: family for family in openmetrics(gzip.decompress(body).decode())}  # type: ignore[no-untyped-call]
    assert families["wsgicluster_requests"].type == "counter"
    assert expose(given, OWN, "*/*", "")[0].startswith("text/plain")


@pytest.mark.parametrize(
    ("field", "takes"),
    [
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("identity", False),
        ("x-gzip", False),
    ],
)
def test_compression_is_asked_for(field: str, takes: bool) -> None:
    assert takes_gzip(field) is takes


def test_what_is_not_set_is_absent() -> None:
    fixed = status(worker(1), workers={"wanted": 2, "ready": 2, "range": None}, memory_limit_bytes=None)
    assert not {"workers_min{}", "workers_max{}", "worker_memory_limit_bytes{}"} & values(fixed).keys()
