"""Request heads: the corpus, whole, cut anywhere and with a tail, and generated heads."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.head_case import TEMPLATE, Head, get
from tests.corpus.heads import HEADS
from tests.http.generated import heads
from tests.http.implementations import PARSERS
from wsgicluster.errors import ProtocolError
from wsgicluster.http import head
from wsgicluster.http.head import check_partial
from wsgicluster.http.limits import HeadLimits

TAILS = (b"", b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n\r\n", b"\x00\nbody")

VALID = [case for case in HEADS if not case.refused]
REFUSED = [case for case in HEADS if case.refused]


def name_of(case: Head) -> str:
    return case.name


def read(parser: str, case: Head, before: bytes = b"", after: bytes = b"") -> tuple[dict[str, Any], int, int]:
    template = {**TEMPLATE, "SCRIPT_NAME": case.script_name}
    kept = template.copy()
    data = before + case.raw + after
    try:
        return PARSERS[parser](data, len(before), len(before) + len(case.raw) - 4, template, case.limits)
    finally:
        assert template == kept


def outcome(raw: bytes, limits: HeadLimits) -> object:
    """What becomes of a head, in a form that can be compared."""
    try:
        return head.parse_head(raw, 0, len(raw) - 4, TEMPLATE, limits)
    except ProtocolError as error:
        return error.status, error.detail


def test_names_of_cases_are_unique() -> None:
    names = [case.name for case in HEADS]
    assert len(names) == len(set(names)) > 500


@pytest.mark.parametrize("case", VALID, ids=name_of)
def test_valid(case: Head) -> None:
    wanted = {**TEMPLATE, "SCRIPT_NAME": case.script_name, **case.added}
    for parser, tail, before in itertools.product(PARSERS, TAILS, (b"", b"\r\n", b"\xff" * 7)):
        environ, length, flags = read(parser, case, before, tail)
        assert environ == wanted, parser
        assert (length, flags) == (case.length, case.flags), parser


@pytest.mark.parametrize("case", REFUSED, ids=name_of)
def test_refused(case: Head) -> None:
    for parser, tail in itertools.product(PARSERS, TAILS):
        with pytest.raises(ProtocolError) as caught:
            read(parser, case, b"\r\n", tail)
        assert caught.value.status == case.refused, parser
        assert caught.value.detail, parser


def cuts(case: Head) -> list[int]:
    """Every place to cut a head; of a very long one its ends and some places between."""
    size = len(case.raw)
    if size < 1000:
        return list(range(1, size))
    return [*range(1, 60), *range(60, size - 20, 211), *range(size - 20, size)]


@pytest.mark.parametrize("case", VALID, ids=name_of)
def test_no_part_of_a_valid_head_is_refused(case: Head) -> None:
    for cut in cuts(case):
        check_partial(case.raw[:cut], 0, case.limits)
        check_partial(b"\r\n" + case.raw[:cut], 2, case.limits)


def refusal(data: bytes, limits: HeadLimits) -> int:
    """The status that an unfinished head is refused with, or 0."""
    try:
        check_partial(data, 0, limits)
    except ProtocolError as error:
        return error.status
    return 0


@pytest.mark.parametrize("case", REFUSED, ids=name_of)
def test_parts_of_a_refused_head_are_refused_for_the_same_reason(case: Head) -> None:
    for cut in cuts(case):
        assert refusal(case.raw[:cut], case.limits) in (0, case.refused)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\x00", 400),
        (b" ", 400),
        (b"\r\r", 400),
        (b"\n", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\nHost: h\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\nX-A: b", 400),
        (b"GET / HTTP/1.1\r\nHost: h\rX-A: b", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX-A: b\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\n", 400),
        (b"GET / HTTP/1.1\rHost", 400),
        (b"GET /\r\n", 400),
        (b"GE(T / HTTP/1.1\r\n", 400),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 400),
        (b"CONNECT h:443 HTTP/1.1\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost", 505),
        (b"GET /" + b"a" * 8186, 414),
        (b"GET /" + b"a" * 70000, 414),
        (b"GET /" + b"a" * 8186 + b" HTTP/1.1\r\nHo", 414),
        (b"GET / HTTP/1.1\r\nX-A: " + b"v" * 8186, 431),
        (b"GET / HTTP/1.1\r\n" + b"X-A: v\r\n" * 8200, 431),
    ],
)
def test_what_can_never_become_a_head_is_refused_at_once(data: bytes, status: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_partial(data, 0, HeadLimits())
    assert caught.value.status == status


@pytest.mark.parametrize(
    "data",
    [b"", b"\r", b"G", b"GET", b"GET /\r", b"GET /" + b"a" * 8185, b"GET / HTTP/1.1\r\nX-A: " + b"v" * 8185 + b"\r"],
)
def test_what_may_become_a_head_is_waited_for(data: bytes) -> None:
    check_partial(data, 0, HeadLimits())


@pytest.mark.parametrize("distance", range(8185, 8200))
def test_line_ends_are_seen_wherever_the_look_back_begins(distance: int) -> None:
    head_so_far = b"GET / HTTP/1.1\r\nX-A: b\r\n"
    limits = HeadLimits(field_bytes=20000, head_bytes=100000)
    check_partial(head_so_far + b"X-B: " + b"v" * (distance - 5), 0, limits)


def test_the_head_limit_leaves_room_for_a_line_and_a_field() -> None:
    assert HeadLimits().head_bytes == 65536
    assert HeadLimits(line_bytes=70000).head_bytes == 70000 + 8190 + 4
    assert HeadLimits(line_bytes=10, field_bytes=20, head_bytes=1).head_bytes == 34


def test_a_plain_head_and_a_remarkable_one_are_read_alike_however_many_names_are_known() -> None:
    # More different names than are remembered, each twice.
    for number in range(1500):
        raw = get(f"X-Name-{number}: v".encode())
        first = outcome(raw, HeadLimits())
        assert isinstance(first, tuple)
        assert first[0][f"HTTP_X_NAME_{number}"] == "v"
        assert outcome(raw, HeadLimits()) == first


@settings(max_examples=600)
@given(heads())
def test_the_fast_and_the_strict_parser_agree(raw: bytes) -> None:
    # A head that is longer than a request line may be is read with care from the start.
    line_bytes = raw.index(b"\r\n")
    quick, careful = HeadLimits(), HeadLimits(line_bytes=line_bytes)
    assert outcome(raw, quick) == outcome(raw, careful)
    # Once more, now that all names are known.
    assert outcome(raw, quick) == outcome(raw, careful)


@pytest.mark.exhaustive
@settings(max_examples=600)
@given(heads(), st.data())
def test_no_part_of_an_accepted_head_is_refused(raw: bytes, data: st.DataObject) -> None:
    try:
        head.parse_head(raw, 0, len(raw) - 4, TEMPLATE, HeadLimits())
    except ProtocolError:
        return
    check_partial(raw[: data.draw(st.integers(1, len(raw) - 1))], 0, HeadLimits())
