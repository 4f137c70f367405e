"""The trace that a request belongs to (W3C Trace Context, level 1): read, continued, or begun.

It is in the environ, where the application's own tracing finds it, and in the access log. Without ``trace`` nothing of
this is called.
"""

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

TRACE_KEY = "wsgicluster.trace_id"
SPAN_KEY = "wsgicluster.span_id"
SAMPLED_KEY = "wsgicluster.trace_sampled"

_FIELD = "HTTP_TRACEPARENT"
_STATE = "HTTP_TRACESTATE"
_SAMPLED = 1
# Section 3.2: lower case only; what a later version adds comes behind a dash.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class TraceParent(NamedTuple):
    """A trace (32 hexadecimal digits), the span in it that the request belongs to (16), and whether it is recorded."""

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-0{int(self.sampled)}"


def read_traceparent(text: str) -> TraceParent | None:
    """The content of a field ``traceparent``; None where it has to be ignored."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def new_trace() -> TraceParent:
    """One that begins here, and is to be recorded."""
    digits = os.urandom(24).hex()
    trace_id, span_id = digits[:32], digits[32:]
    # All zeros would mean that there is none.
    return TraceParent(trace_id, span_id, True) if trace_id != _NO_TRACE and span_id != _NO_SPAN else new_trace()


def continued_or_new(parent: TraceParent | None) -> TraceParent:
    """The caller's, or one that begins here."""
    return parent or new_trace()


Begin = Callable[[TraceParent | None], TraceParent]


class TraceContexts:
    """Adds traces to environs; with ``accepts`` those of trusted peers are continued.

    ``response_field`` is the header field of responses that has the trace's ID, or None.
    """

    def __init__(self, accepts: bool, response_field: str | None) -> None:
        self._accepts = accepts
        self._field = response_field
        self._lower = (response_field or "").lower()

    def identify(self, environ: dict[str, Any], trusted: bool, begin: Begin = continued_or_new) -> str:
        """Add the trace to an environ; returns the field line for the server's own responses.

        ``begin`` returns what the application continues, for what the caller has sent.
        """
        parent = read_traceparent(environ.get(_FIELD, "")) if self._accepts and trusted else None
        present = begin(parent)
        if present is not parent:
            environ[_FIELD] = str(present)
        if parent is None:
            # Section 3.3: it belongs to the trace that was not continued.
            environ.pop(_STATE, None)
        environ[TRACE_KEY], environ[SPAN_KEY], environ[SAMPLED_KEY] = present
        return f"{self._field}: {present.trace_id}\r\n" if self._field else ""

    def wrap(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """The same application; its responses get the trace's ID, where there is a field for that."""
        if self._field is None:
            return application

        def traced(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            field = (self._field, environ[TRACE_KEY])

            def start(status: str, headers: Any, exc_info: Any = None) -> Any:
                # Invalid headers are refused by start_response.
                if isinstance(headers, list) and not any(map(self._is_ours, headers)):
                    headers = [*headers, field]
                return start_response(status, headers, exc_info)

            return application(environ, start)

        return traced

    def _is_ours(self, item: Any) -> bool:
        return isinstance(item, tuple) and isinstance(item[0] if item else None, str) and item[0].lower() == self._lower
