"""The spans of requests, for OpenTelemetry: how long each was read, has waited, was run and was written.

Where and how they are exported is said by the variables of OpenTelemetry (OTEL_*). Without ``trace_spans`` this is not
imported.
"""

import importlib.metadata
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from wsgicluster.logs.access_log import RequestLog
from wsgicluster.settings.span_exporters import GROUP, exporter_names
from wsgicluster.version import __version__
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.wsgi.trace_context import TraceParent

KEY = "wsgicluster.request_span"
FLUSH_S = 2.0
"""How long a worker that exits waits until spans are exported: a collector that does not respond must not delay it."""
_ERROR_STATUS = "5"


class RequestSpan:
    """The span of one request, and when its parts began, in seconds since the epoch; 0.0 where that is not known."""

    __slots__ = ("called_at", "complete_at", "read_at", "returned_at", "span")

    def __init__(self, span: otel.Span, read_at: float, complete_at: float) -> None:
        self.span = span
        self.read_at = read_at
        self.complete_at = complete_at
        self.called_at = self.returned_at = 0.0

    def parts(self, started_at: float, ended_at: float) -> list[tuple[str, float, float]]:
        """Name, begin and end of each part, for a request that was run and is over."""
        found = [("read", self.read_at, self.complete_at)] if self.read_at else []
        found.append(("queue", self.complete_at, max(self.complete_at, started_at)))
        if self.returned_at:
            found.append(("application", self.called_at, self.returned_at))
            found.append(("write", self.returned_at, max(self.returned_at, ended_at)))
        return found


class Spans:
    """Makes spans of the requests of one worker."""

    def __init__(self, provider: TracerProvider, slot: int) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("wsgicluster", __version__)
        self._slot = slot

    def begin(self, connection: Connection, environ: dict[str, Any], parent: TraceParent | None) -> TraceParent:
        """A request is complete: begin its span, as a child of its caller's; returns what the application continues."""
        complete_at = time.time()
        read_s = connection.reading.read_s(time.monotonic(), connection.complete_at)
        read_at = complete_at - read_s if read_s is not None else 0.0
        attributes = {
            "http.request.method": environ["REQUEST_METHOD"],
            "url.path": environ["SCRIPT_NAME"] + environ["PATH_INFO"],
            "client.address": environ["REMOTE_ADDR"],
            "network.protocol.version": environ["SERVER_PROTOCOL"].removeprefix("HTTP/"),
            "wsgicluster.slot": self._slot,
        }
        span = self._tracer.start_span(
            environ["REQUEST_METHOD"], _context_of(parent), otel.SpanKind.SERVER, attributes,
            start_time=_ns(read_at or complete_at),
        )  # fmt: skip
        environ[KEY] = RequestSpan(span, read_at, complete_at)
        found = span.get_span_context()
        return TraceParent(f"{found.trace_id:032x}", f"{found.span_id:016x}", found.trace_flags.sampled)

    def wrap(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """The same application; what it does is part of the request's span."""

        def spanned(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            held: RequestSpan | None = environ.get(KEY)
            if held is None:
                return application(environ, start_response)  # of the smoke test
            # Not detached: each request runs in a context of its own, the rest of its iterable as well.
            otel_context.attach(otel.set_span_in_context(held.span))
            held.called_at = time.time()
            try:
                return application(environ, start_response)
            finally:
                held.returned_at = time.time()

        return spanned

    def end(self, environ: Mapping[str, Any], status: str, sent_bytes: int, duration_s: float, now: float) -> None:
        """A request is over, at ``now`` in seconds since the epoch, ``duration_s`` after its run has begun."""
        held: RequestSpan | None = environ.get(KEY)
        if held is None or not held.span.is_recording():
            return
        span = held.span
        within = otel.set_span_in_context(span, otel_context.Context())
        for name, began_at, ended_at in held.parts(now - duration_s, now):
            self._tracer.start_span(name, within, start_time=_ns(began_at)).end(_ns(ended_at))
        span.set_attribute("http.response.body.size", sent_bytes)
        if status[:3].isdigit():
            span.set_attribute("http.response.status_code", int(status[:3]))
        if not status or status.startswith(_ERROR_STATUS):
            span.set_status(otel.StatusCode.ERROR)
        span.end(_ns(now))

    def close(self) -> None:
        """Export what is left, for at most `FLUSH_S`."""
        thread = threading.Thread(target=self._provider.shutdown, name="wsgicluster-spans", daemon=True)
        thread.start()
        thread.join(FLUSH_S)


class SpanLog:
    """Stands where the access log does: ends spans, and has requests logged ``then``, if they are."""

    def __init__(self, spans: Spans, then: RequestLog | None) -> None:
        self._spans = spans
        self._then = then

    def record(
        self,
        environ: dict[str, object],
        status: str,
        headers: Sequence[tuple[str, str]],
        sent_bytes: int,
        duration_s: float,
        now: float,
    ) -> None:
        """A request is over."""
        self._spans.end(environ, status, sent_bytes, duration_s, now)
        if self._then is not None:
            self._then.record(environ, status, headers, sent_bytes, duration_s, now)

    def record_refused(self, environ: dict[str, object], status: str, sent_bytes: int, duration_s: float) -> None:
        """A request was refused, and had no span."""
        if self._then is not None:
            self._then.record_refused(environ, status, sent_bytes, duration_s)

    def flush(self) -> None:
        """Write what has been collected."""
        if self._then is not None:
            self._then.flush()


def open_spans(service: str, slot: int) -> Spans:
    """The spans of one worker of a server with this name; in the worker, after it was forked."""
    attributes = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: service}
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    for name in exporter_names(os.environ):
        (entry, *_) = importlib.metadata.entry_points(group=GROUP, name=name)
        provider.add_span_processor(BatchSpanProcessor(entry.load()()))
    return Spans(provider, slot)


def _context_of(parent: TraceParent | None) -> otel_context.Context:
    if parent is None:
        return otel_context.Context()
    flags = otel.TraceFlags(otel.TraceFlags.SAMPLED if parent.sampled else otel.TraceFlags.DEFAULT)
    caller = otel.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return otel.set_span_in_context(otel.NonRecordingSpan(caller), otel_context.Context())


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
