"""Which exporters of OpenTelemetry the environment names for spans, and whether they are installed.

See "OpenTelemetry Environment Variable Specification", OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_PROTOCOL.
"""

import importlib.util
from collections.abc import Mapping

GROUP = "opentelemetry_traces_exporter"
_NONE = "none"
_PACKAGES = {
    "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "otlp_proto_http": "opentelemetry-exporter-otlp-proto-http",
}


def exporter_names(environ: Mapping[str, str]) -> list[str]:
    """The names of entry points, in order; otlp is the default, by HTTP unless grpc is asked for."""
    words = [word.strip() for word in (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")]
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
    otlp = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    return [otlp if word == "otlp" else word for word in words if word and word != _NONE]


def lacking(environ: Mapping[str, str]) -> str:
    """What is not installed and how to install it, or nothing."""
    # Late: it is a twentieth of what a start imports, and few servers send spans.
    from importlib import metadata

    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
        return "needs the package opentelemetry-sdk; pip install 'wsgicluster[otel]'"
    # Late: it costs a start that does not export spans a tenth of its time.

    for name in exporter_names(environ):
        if not metadata.entry_points(group=GROUP, name=name):
            package = _PACKAGES.get(name)
            remedy = f"pip install {package}" if package else "set OTEL_TRACES_EXPORTER to one that is, or to none"
            return f"the exporter {name} is not installed; {remedy}"
    return ""
