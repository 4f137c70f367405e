"""Spans of requests, exported by OpenTelemetry to the console: in each kind of worker and both cores."""

import importlib.util
import json
import pathlib
import signal
from collections.abc import Mapping
from typing import Any

import pytest

from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import Connection, fetch
from tests.live.test_probe_paths import CORES, KINDS
from tests.live.test_tracing import GIVEN, SPAN, TRACE

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(importlib.util.find_spec("opentelemetry") is None, reason="needs opentelemetry-sdk"),
]

SOURCE = """
import time
from opentelemetry import trace

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fail":
        raise ValueError("on purpose")
    own = trace.get_tracer("shop").start_span("own")
    environ["wsgi.input"].read()
    body = environ["HTTP_TRACEPARENT"].encode()
    own.end()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body] if path == "/list" else iter([body])
"""
CONSOLE = {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_SERVICE_NAME": "shop"}


def start(server: StartServer, kind: str, environ: Mapping[str, str], *arguments: str) -> LiveServer:
    if kind == "gevent":
        pytest.importorskip("gevent")
    live = server(
        "app", "-k", *KINDS[kind], "--trace", "accept", "--trace-spans", *arguments, source=SOURCE, environ=environ
    )
    live.wait_log("Started: ")
    return live


def spans(live: LiveServer) -> list[dict[str, Any]]:
    """Those that have been exported so far."""
    found, text, decoder = [], live.whole_log(), json.JSONDecoder()
    at = text.find("\n{\n")
    while at >= 0:
        try:
            span, end = decoder.raw_decode(text, at + 1)
        except ValueError:  # being written
            break
        found.append(span)
        at = text.find("\n{\n", end)
    return found


def of_path(found: list[dict[str, Any]], path: str) -> dict[str, Any] | None:
    return next((each for each in found if each["attributes"].get("url.path") == path), None)


def children(found: list[dict[str, Any]], parent: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in found if each["parent_id"] == parent["context"]["span_id"]}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_request_and_its_parts(server: StartServer, kind: str, core: str) -> None:
    live = start(server, kind, {**CONSOLE, **CORES[core]})
    with Connection(live.port) as client:
        for path in ("/list", "/iterator"):
            sent = client.exchange(path, extra=GIVEN.replace("-00\r", "-01\r")).body.decode()
            whole = wait_until(lambda path=path: of_path(spans(live), path), 20, "it is exported")  # type: ignore[misc]
            assert whole is not None
            assert (whole["name"], whole["kind"]) == ("GET", "SpanKind.SERVER")
            assert (whole["context"]["trace_id"], whole["parent_id"]) == (f"0x{TRACE}", f"0x{SPAN}")
            assert sent == f"00-{TRACE}-{whole['context']['span_id'][2:]}-01"
            assert whole["attributes"]["http.response.status_code"] == 200
            assert whole["attributes"]["http.response.body.size"] == len(sent)
            assert whole["resource"]["attributes"]["service.name"] == "shop"
            parts = children(spans(live), whole)
            assert set(parts) == {"queue", "application", "write"}
            application, write = parts["application"], parts["write"]
            times = [application["start_time"], application["end_time"], write["start_time"], write["end_time"]]
            assert times == sorted(times)
    live.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_comes_later_is_read(server: StartServer, kind: str) -> None:
    live = start(server, kind, CONSOLE, "--stream-body", "off")
    with Connection(live.port) as client:
        client.exchange("/list")
        client.send(b"POST /posted HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.response().status == 100
        client.send(b"hello")
        assert client.response().status == 200
    whole = wait_until(lambda: of_path(spans(live), "/posted"), 20, "it is exported")
    assert whole is not None
    assert set(children(spans(live), whole)) == {"read", "queue", "application", "write"}
    assert whole["parent_id"] is None
    assert "read" not in children(spans(live), of_path(spans(live), "/list") or {})
    live.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_is_an_error_and_what_is_not_sampled_is_not_exported(server: StartServer, kind: str) -> None:
    live = start(server, kind, CONSOLE)
    assert fetch(live.port, "/list", extra=GIVEN).body.decode().endswith("-00")
    assert fetch(live.port, "/fail").status == 500
    whole = wait_until(lambda: of_path(spans(live), "/fail"), 20, "it is exported")
    assert whole is not None
    assert whole["status"]["status_code"] == "ERROR"
    assert of_path(spans(live), "/list") is None
    live.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_is_exported_at_the_end(server: StartServer, kind: str) -> None:
    live = start(server, kind, {**CONSOLE, "OTEL_BSP_SCHEDULE_DELAY": "3600000"})
    assert fetch(live.port, "/list").status == 200
    assert live.stop(signal.SIGTERM) == 0
    assert of_path(spans(live), "/list") is not None


def test_a_collector_that_does_not_respond_delays_no_exit(server: StartServer, tmp_path: pathlib.Path) -> None:
    exporter = """
import time
from opentelemetry.sdk.trace.export import SpanExporter

class Silent(SpanExporter):
    def export(self, spans):
        open("exporting", "a").close()
        time.sleep(3600)

    def shutdown(self):
        time.sleep(3600)
"""
    (tmp_path / "silent_exporter.py").write_text(exporter)
    package = tmp_path / "silent-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: silent\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[opentelemetry_traces_exporter]\nsilent = silent_exporter:Silent\n")
    live = start(server, "sync", {**CONSOLE, "OTEL_TRACES_EXPORTER": "silent"}, "--graceful-timeout", "600")
    assert fetch(live.port, "/list").status == 200
    wait_until((tmp_path / "exporting").exists, 20, "it tries to export")
    assert live.stop(timeout_s=60) == 0


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (("--trace-spans",), CONSOLE, "trace_spans: given without trace; expected trace as well"),
        (("--trace", "--trace-spans"), {"OTEL_TRACES_EXPORTER": "nothing"}, "the exporter nothing is not installed"),
        (("--trace", "--trace-spans"), {}, "pip install opentelemetry-exporter-otlp-proto-http"),
    ],
)
def test_what_is_missing_is_said(
    server: StartServer, arguments: tuple[str, ...], environ: dict[str, str], message: str
) -> None:
    live = server("app", *arguments, source=SOURCE, environ=environ, listening=False)
    assert live.wait_end() != 0
    assert message in live.log()
    assert "Traceback" not in live.log()
