"""The files of ``examples/prometheus`` and ``examples/grafana``: they name what the server exposes, and the alerts do
what they say.
"""

import json
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import ROOT
from wsgicluster.admin.metrics import METRICS, OWN_METRICS, PREFIX, MetricKind

PROMETHEUS = ROOT / "examples/prometheus"
ALERTS = PROMETHEUS / "alerts.yml"
DASHBOARD = ROOT / "examples/grafana/dashboard.json"
LABELS = {each.full_name: set(each.labels) for each in METRICS} | {PREFIX + name: set() for name, *_ in OWN_METRICS}
HISTOGRAMS = {each.full_name for each in METRICS if each.kind is MetricKind.HISTOGRAM}
TARGET_LABELS = {"job", "instance"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (of Prometheus) is not installed"
)


def metric_of(name: str) -> str:
    """The metric that a series belongs to; a histogram has several."""
    base, _, part = name.rpartition("_")
    return base if part in ("bucket", "sum", "count") and base in HISTOGRAMS else name


def expressions(value: Any) -> Iterator[str]:
    """All queries of a dashboard, those of its variables included."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name in ("expr", "query", "definition") and isinstance(part, str):
                yield part
            else:
                yield from expressions(part)
    elif isinstance(value, list):
        for part in value:
            yield from expressions(part)


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text("utf-8"))


TEXTS = {"alerts": ALERTS.read_text("utf-8"), "dashboard": "\n".join(expressions(dashboard()))}


@pytest.mark.parametrize("file", TEXTS)
def test_every_metric_is_one_that_the_server_exposes_with_these_labels(file: str) -> None:
    found = re.findall(rf"\b({PREFIX}\w+)(?:\{{([^}}]*)\}})?", TEXTS[file])
    assert len(found) > 5
    for name, chosen in found:
        metric = metric_of(name)
        assert metric in LABELS, name
        assert name in HISTOGRAMS or metric not in HISTOGRAMS or name != metric
        labels = set(re.findall(r"(\w+)\s*[=!]~?", chosen))
        assert labels <= LABELS[metric] | TARGET_LABELS, (name, labels)


@pytest.mark.parametrize("file", TEXTS)
def test_values_of_labels_are_those_that_there_are(file: str) -> None:
    from wsgicluster.admin.metrics import WORKER_STATES
    from wsgicluster.arbiter.supervision.tallies import EXIT_WORDS
    from wsgicluster.ipc.slot_totals import RESPONSE_KEYS

    known = {"reason": set(EXIT_WORDS.values()), "code": set(RESPONSE_KEYS), "state": set(WORKER_STATES)}
    for label, values in re.findall(r'\b(reason|code|state)=~?"([^"]*)"', TEXTS[file]):
        assert set(values.split("|")) <= known[label], (label, values)


def test_groups_are_by_labels_that_the_metric_has() -> None:
    for each in TEXTS.values():
        for labels, rest in re.findall(r"by \(([\w, ]+)\)\s*\(([^()]*\(?[^()]*)", each):
            metric = re.search(rf"{PREFIX}\w+", rest)
            assert metric, rest
            present = LABELS[metric_of(metric[0])] | TARGET_LABELS | {"le"}
            assert set(labels.replace(" ", "").split(",")) <= present, rest


def test_the_dashboard_loads_in_any_grafana() -> None:
    found = dashboard()
    assert {each["name"] for each in found["templating"]["list"]} == {"datasource", "job", "instance"}
    numbers = [panel["id"] for panel in found["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in found["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["targets"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in found["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells), "no panel lies on another one"


def promtool(*arguments: str, folder: pathlib.Path = PROMETHEUS) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_prometheus_accepts_the_files() -> None:
    assert "7 rules found" in promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_every_query_of_the_dashboard_is_valid(tmp_path: pathlib.Path) -> None:
    queries = [each for each in expressions(dashboard()) if each.startswith(("sum", "histogram", "max", "changes"))]
    assert len(queries) > 20
    rules = [
        {"record": f"query_{at}", "expr": query.replace("$__rate_interval", "5m").replace("$__interval", "5m")}
        for at, query in enumerate(queries)
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", "rules.yml", folder=tmp_path)


JOB = 'job="wsgicluster", instance="a:1"'
SOUND = {
    f"up{{{JOB}}}": "1x120",
    f"wsgicluster_build_info{{{JOB}}}": "1x120",
    f'wsgicluster_requests_total{{{JOB}, slot="1", code="2xx"}}': "0+600x120",
    f'wsgicluster_requests_total{{{JOB}, slot="1", code="5xx"}}': "0+6x120",
    f'wsgicluster_requests_shed_total{{{JOB}, slot="1"}}': "0x120",
    f'wsgicluster_request_duration_seconds_bucket{{{JOB}, slot="1", le="0.5"}}': "0+606x120",
    f'wsgicluster_request_duration_seconds_bucket{{{JOB}, slot="1", le="2"}}': "0+606x120",
    f'wsgicluster_request_duration_seconds_bucket{{{JOB}, slot="1", le="+Inf"}}': "0+606x120",
    f'wsgicluster_request_queue_seconds_bucket{{{JOB}, le="0.1"}}': "0+606x120",
    f'wsgicluster_request_queue_seconds_bucket{{{JOB}, le="+Inf"}}': "0+606x120",
    f'wsgicluster_worker_exits_total{{{JOB}, reason="crashed"}}': "3x120",
    f'wsgicluster_worker_exits_total{{{JOB}, reason="asked"}}': "0+1x120",
    f"wsgicluster_last_reload_successful{{{JOB}}}": "1x120",
    f'wsgicluster_worker_proportional_bytes{{{JOB}, slot="1"}}': "100000000x120",
    f'wsgicluster_worker_resident_bytes{{{JOB}, slot="1"}}': "600000000x120",
}
"""Samples of each minute of two hours, as ``promtool`` writes them: beginning, change, and how many follow."""

FAULTS = {
    "WsgiclusterDown": {f"up{{{JOB}}}": "0x120"},
    "WsgiclusterErrors": {f'wsgicluster_requests_total{{{JOB}, slot="1", code="5xx"}}': "0+60x120"},
    "WsgiclusterSlow": {f'wsgicluster_request_duration_seconds_bucket{{{JOB}, slot="1", le="0.5"}}': "0+500x120"},
    "WsgiclusterQueue": {f'wsgicluster_requests_shed_total{{{JOB}, slot="1"}}': "0+1x120"},
    "WsgiclusterWorkersDie": {f'wsgicluster_worker_exits_total{{{JOB}, reason="crashed"}}': "0x25 1x94"},
    "WsgiclusterReloadFailed": {f"wsgicluster_last_reload_successful{{{JOB}}}": "0x120"},
    "WsgiclusterMemory": {f'wsgicluster_worker_proportional_bytes{{{JOB}, slot="1"}}': "500000000x120"},
}
"""What is different in the samples when an alert is to be raised."""


def case(series: dict[str, str], raised: str) -> dict[str, Any]:
    """A case of promtool: of all alerts this one fires after half an hour, or none."""
    checks = [
        {
            "eval_time": "30m",
            "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}})',
            "exp_samples": samples,
        }
        for name in FAULTS
        for samples in ([[{"labels": "{}", "value": 1}]] if name == raised else [[]])
    ]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": checks,
    }


@needs_promtool
@pytest.mark.parametrize("alert", ["", *FAULTS])
def test_an_alert_is_raised_by_its_fault_and_by_no_other(alert: str, tmp_path: pathlib.Path) -> None:
    tests = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [case({**SOUND, **FAULTS.get(alert, {})}, alert)],
    }
    (tmp_path / "cases.yml").write_text(json.dumps(tests))
    promtool("test", "rules", "cases.yml", folder=tmp_path)


@needs_promtool
def test_a_server_that_is_not_there_at_all_is_down(tmp_path: pathlib.Path) -> None:
    tests = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [case({}, "WsgiclusterDown")]}
    (tmp_path / "cases.yml").write_text(json.dumps(tests))
    promtool("test", "rules", "cases.yml", folder=tmp_path)


def test_every_alert_has_a_case_and_a_remedy() -> None:
    names = re.findall(r"- alert: (\w+)", TEXTS["alerts"])
    assert names == list(dict.fromkeys(names))
    assert set(names) == set(FAULTS)
    assert TEXTS["alerts"].count("summary:") == TEXTS["alerts"].count("description:") == len(names)
