"""The compiled parser and writer agree with plain Python on everything, result and error alike."""

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.head_case import TEMPLATE
from tests.corpus.heads import HEADS
from tests.http.generated import heads
from tests.http.implementations import COMPILED, FORMATTERS, PARSERS
from wsgicluster.errors import ProtocolError
from wsgicluster.http.limits import HeadLimits, Leniency

pytestmark = pytest.mark.skipif(not COMPILED, reason="the compiled modules were not built in this environment")

BROWSER = (
    b"GET /a%20b/c?d=e HTTP/1.1\r\nHost: example.com:8000\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip, br\r\nCookie: a=b; c=d\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: keep-alive"
)


def outcome(call: Callable[..., Any], *arguments: Any) -> object:
    """What a call gives or raises, in a form that can be compared."""
    try:
        return call(*arguments)
    except ProtocolError as error:
        return error.status, error.detail
    except (TypeError, ValueError) as error:
        return type(error), str(error)


def agree_on_head(data: bytes, start: int, end: int, limits: HeadLimits) -> None:
    template = dict(TEMPLATE)
    wanted = outcome(PARSERS["python"], data, start, end, template, limits)
    assert outcome(PARSERS["compiled"], data, start, end, template, limits) == wanted
    assert template == TEMPLATE


@pytest.mark.exhaustive
@given(data=heads())
@settings(max_examples=1000)
def test_heads_made_at_random(data: bytes) -> None:
    agree_on_head(data, 0, len(data) - 4, HeadLimits())


LENIENT = HeadLimits(leniency=Leniency(False, capitalize_methods=True, versions=True, folding=True, spaces=True))


@pytest.mark.exhaustive
@given(data=heads())
@settings(max_examples=1000)
def test_heads_made_at_random_read_leniently(data: bytes) -> None:
    agree_on_head(data, 0, len(data) - 4, LENIENT)


@pytest.mark.exhaustive
@given(data=heads(), place=st.integers(0, 10_000), size=st.integers(1, 10_000))
@settings(max_examples=500)
def test_any_part_of_a_head(data: bytes, place: int, size: int) -> None:
    start = place % len(data)
    agree_on_head(data, start, min(len(data), start + size), HeadLimits())


@given(data=st.binary(min_size=1, max_size=300))
@settings(max_examples=500)
def test_any_bytes(data: bytes) -> None:
    agree_on_head(data, 0, len(data), HeadLimits())


@given(at=st.integers(0, len(BROWSER) - 1), byte=st.integers(0, 255))
@settings(max_examples=1000)
def test_any_single_byte_changed(at: int, byte: int) -> None:
    data = BROWSER[:at] + bytes([byte]) + BROWSER[at + 1 :]
    agree_on_head(data, 0, len(data), HeadLimits())
    agree_on_head(data, 0, len(data), LENIENT)


@pytest.mark.parametrize("refused", sorted({case.refused for case in HEADS}))
def test_the_corpus_cut_anywhere(refused: int) -> None:
    for case in HEADS:
        if case.refused == refused and len(case.raw) < 400:
            for cut in range(1, len(case.raw) + 1):
                agree_on_head(case.raw, 0, cut, case.limits)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_names_of_any_length(size: int) -> None:
    head = BROWSER + b"\r\nX" + b"n" * (size - 1) + b": v"
    agree_on_head(head, 0, len(head), HeadLimits())


def test_fields_in_one_order_and_in_others() -> None:
    first, *fields = BROWSER.split(b"\r\n")
    longer = [name + b"-More:" + value for name, _, value in (field.partition(b":") for field in fields)]
    for few in (fields, fields, fields[::-1], fields, fields[:1] + longer, fields[1:], fields + fields[2:3], fields):
        data = b"\r\n".join([first, *few])
        agree_on_head(data, 0, len(data), HeadLimits())
        for end in range(len(first), len(data)):
            agree_on_head(data, 0, end, HeadLimits())


def test_more_names_than_are_remembered() -> None:
    for number in range(3000):
        head = BROWSER + b"\r\nX-Never-Seen-%d: v" % number
        agree_on_head(head, 0, len(head), HeadLimits())


@pytest.mark.parametrize("limits", [HeadLimits(fields=3), HeadLimits(line_bytes=20), HeadLimits(field_bytes=20)])
def test_limits(limits: HeadLimits) -> None:
    agree_on_head(BROWSER, 0, len(BROWSER), limits)


@pytest.mark.parametrize("end", [-1, 0, len(BROWSER) + 1, 1 << 40])
def test_an_end_outside_the_data_reads_nothing_beyond_it(end: int) -> None:
    agree_on_head(BROWSER, 0, end, HeadLimits())


TEXT = st.text(st.characters(max_codepoint=0x17F), max_size=20)
LENGTHS = st.sampled_from(["0", "5", "05", "-1", "x", ""])
HEADERS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["Content-Length", "content-length"]), st.sampled_from(["0", "5", "05", "-1", "x", ""])
        ),
        st.tuples(st.sampled_from(["Connection", "TE", "Date", "server", "Set-Cookie", "X-A"]), TEXT),
        st.tuples(TEXT, TEXT),
        st.tuples(TEXT, st.one_of(st.none(), st.integers(), st.binary())),
        TEXT,
    ),
    max_size=6,
)
STATUSES = st.one_of(
    st.sampled_from(["200 OK", "204 No Content", "304 Not Modified", "205 Reset", "404 Not Found"]), TEXT
)


@pytest.mark.exhaustive
@given(status=STATUSES, headers=HEADERS)
@settings(max_examples=2000)
def test_response_heads_made_at_random(status: str, headers: Any) -> None:
    wanted = outcome(FORMATTERS["python"], status, headers)
    assert outcome(FORMATTERS["compiled"], status, headers) == wanted


@pytest.mark.parametrize("size", [3000, 4000, 4090, 4200, 100_000])
def test_response_heads_around_the_size_of_the_block(size: int) -> None:
    headers = [("Content-Type", "text/plain"), ("X-Long", "v" * size), ("Content-Length", "5")]
    for _ in range(2):
        wanted = outcome(FORMATTERS["python"], "200 OK", headers)
        assert outcome(FORMATTERS["compiled"], "200 OK", headers) == wanted


def test_nothing_is_leaked() -> None:
    limits = HeadLimits()
    headers = [("Content-Type", "text/plain"), ("X-A", "v")]

    def work() -> None:
        for _ in range(200):
            PARSERS["compiled"](BROWSER, 0, len(BROWSER), dict(TEMPLATE), limits)
            FORMATTERS["compiled"]("200 OK", headers)
            outcome(PARSERS["compiled"], b"GET / HTTP/1.1\r\nHost: h\r\nX\x00: v", 0, 32, dict(TEMPLATE), limits)

    work()
    gc.collect()
    before, kept = sys.getallocatedblocks(), sys.getrefcount("HTTP_COOKIE")
    work()
    gc.collect()
    assert sys.getallocatedblocks() - before < 50
    assert abs(sys.getrefcount("HTTP_COOKIE") - kept) < 5
