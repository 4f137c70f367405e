"""Which exporters of spans the environment asks for."""

import pytest

from wsgicluster.settings.span_exporters import exporter_names, lacking


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": ""}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            ["otlp_proto_http"],
        ),
    ],
)
def test_names(environ: dict[str, str], names: list[str]) -> None:
    assert exporter_names(environ) == names


def test_what_is_lacking() -> None:
    pytest.importorskip("opentelemetry.sdk")
    assert lacking({"OTEL_TRACES_EXPORTER": "none"}) == lacking({"OTEL_TRACES_EXPORTER": "console"}) == ""
    assert "set OTEL_TRACES_EXPORTER" in lacking({"OTEL_TRACES_EXPORTER": "console,other"})
