"""Traces by the rules of W3C Trace Context, level 1."""

import re
from typing import Any

import pytest

from wsgicluster.wsgi.trace_context import (
    SAMPLED_KEY,
    SPAN_KEY,
    TRACE_KEY,
    TraceContexts,
    TraceParent,
    new_trace,
    read_traceparent,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (VALID, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        # Of a later version the beginning is understood.
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"01-{TRACE}-{SPAN}-00-what-the-future-will-be-like", False),
        (f"cc-{TRACE}-{SPAN}-01-", True),
    ],
)
def test_valid(text: str, sampled: bool) -> None:
    assert read_traceparent(text) == TraceParent(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        VALID.upper(),
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"0-{TRACE}-{SPAN}-01",
        f"000-{TRACE}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN[1:]}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
        f" {VALID}",
        f"{VALID} ",
        f"{VALID}\n",
        f"{VALID},{VALID}",
        VALID.replace("-", "_"),
    ],
)
def test_ignored(text: str) -> None:
    assert read_traceparent(text) is None


def test_new_ones_are_valid_and_different() -> None:
    made = [new_trace() for _ in range(1000)]
    assert len({each.trace_id for each in made}) == len({each.span_id for each in made}) == 1000
    for each in made:
        assert read_traceparent(str(each)) == each
        assert each.sampled


def test_that_of_a_trusted_peer_is_continued() -> None:
    environ: dict[str, Any] = {"HTTP_TRACEPARENT": VALID, "HTTP_TRACESTATE": "a=1"}
    assert TraceContexts(True, "Trace-ID").identify(environ, True) == f"Trace-ID: {TRACE}\r\n"
    assert environ == {
        "HTTP_TRACEPARENT": VALID, "HTTP_TRACESTATE": "a=1", TRACE_KEY: TRACE, SPAN_KEY: SPAN, SAMPLED_KEY: True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "accepts", "trusted"),
    [(VALID, False, True), (VALID, True, False), ("00-bad", True, True), (None, True, True), (None, False, False)],
)
def test_else_a_new_one_begins(given: str | None, accepts: bool, trusted: bool) -> None:
    environ: dict[str, Any] = {"HTTP_TRACESTATE": "a=1"}
    if given is not None:
        environ["HTTP_TRACEPARENT"] = given
    assert TraceContexts(accepts, None).identify(environ, trusted) == ""
    assert re.fullmatch("[0-9a-f]{32}", environ[TRACE_KEY])
    assert environ[TRACE_KEY] != TRACE
    assert environ["HTTP_TRACEPARENT"] == f"00-{environ[TRACE_KEY]}-{environ[SPAN_KEY]}-01"
    assert "HTTP_TRACESTATE" not in environ


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ([], [("Trace-ID", "abc")]),
        ([("trace-id", "own")], [("trace-id", "own")]),
        ([(), 1], [(), 1, ("Trace-ID", "abc")]),
        (None, None),
    ],
)
def test_responses(headers: Any, sent: Any) -> None:
    calls: list[Any] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", headers)
        return [b"body"]

    def start(*arguments: Any) -> None:
        calls.append(arguments)

    assert TraceContexts(True, "Trace-ID").wrap(application)({TRACE_KEY: "abc"}, start) == [b"body"]
    assert calls == [("200 OK", sent, None)]
    assert TraceContexts(True, None).wrap(application) is application
