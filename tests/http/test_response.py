"""Response heads: the corpus, the server's own responses, and dates."""

import email.utils
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.responses import RESPONSES, Response
from tests.http.implementations import FORMATTERS
from wsgicluster.http.response import REASONS, error_response, exact_head, format_response, http_date


def formatted(formatter: str, status: Any, headers: Any) -> tuple[bytes, int, int]:
    """As `Response.start_response` does it."""
    return FORMATTERS[formatter](*exact_head(status, headers))


def is_exact(case: Response) -> bool:
    """Whether a formatter takes the case as it is."""
    return (
        type(case.status) is str
        and type(case.headers) is list
        and all(type(item) is tuple and [type(part) for part in item] == [str, str] for item in case.headers)
    )


@pytest.mark.parametrize("case", [case for case in RESPONSES if not case.error], ids=lambda case: case.name)
def test_written(case: Response) -> None:
    kept = list(case.headers)
    wanted = "".join(f"{line}\r\n" for line in (case.line, *case.written)).encode("latin-1")
    # The second time names and status are known.
    for formatter in (*FORMATTERS, *FORMATTERS):
        assert formatted(formatter, case.status, case.headers) == (wanted, case.length, case.info), formatter
        if is_exact(case):
            assert FORMATTERS[formatter](case.status, case.headers) == (wanted, case.length, case.info), formatter
    assert list(case.headers) == kept


@pytest.mark.parametrize("case", [case for case in RESPONSES if case.error], ids=lambda case: case.name)
def test_refused(case: Response) -> None:
    assert case.error
    for formatter in (*FORMATTERS, *FORMATTERS):
        with pytest.raises(case.error) as caught:
            formatted(formatter, case.status, case.headers)
        text = str(caught.value)
        assert all(piece in text for piece in case.says), text
        assert len(text) < 250
        assert text.isprintable()


@pytest.mark.parametrize("case", [case for case in RESPONSES if not is_exact(case)], ids=lambda case: case.name)
def test_a_formatter_asks_for_exact_types(case: Response) -> None:
    for formatter in (*FORMATTERS, *FORMATTERS):
        with pytest.raises((TypeError, ValueError)):
            FORMATTERS[formatter](case.status, case.headers)


def test_names_and_statuses_beyond_what_is_remembered() -> None:
    for number in range(1500):
        block, length, info = format_response(f"200 Reason {number}", [(f"X-Name-{number}", "v")])
        assert block == f"HTTP/1.1 200 Reason {number}\r\nX-Name-{number}: v\r\n".encode()
        assert (length, info) == (-1, 0)
    with pytest.raises(ValueError):
        format_response("200 OK", [("X-Name-1500 ", "v")])


OWS = " \t"


def names() -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(["Date", "Content-Length", "X-A", "Connection"]), st.text(max_size=5))


@settings(max_examples=500)
@given(st.lists(st.tuples(names(), st.text(max_size=8)), max_size=4), st.text(max_size=6))
def test_nothing_else_comes_through(headers: list[tuple[str, str]], reason: str) -> None:
    """Whatever an application gives: a block of as many lines as fields at most, or ValueError."""
    status = f"200 {reason}"
    try:
        block, _, _ = format_response(status, headers)
    except ValueError:
        return
    lines = block.split(b"\r\n")
    assert lines.pop() == b""
    assert lines.pop(0) == f"HTTP/1.1 {status}".encode("latin-1")
    wanted = [f"{name}: {value.strip(OWS)}".encode("latin-1") for name, value in headers if name != "Connection"]
    assert [line for line in lines if not line.lower().startswith((b"te:", b"upgrade:"))] == wanted
    assert not any((byte < 32 and byte != 9) or byte == 127 for line in lines for byte in line)


@pytest.mark.parametrize("status", [400, 408, 413, 414, 417, 431, 500, 501, 503, 505])
def test_error_response(status: int) -> None:
    whole = error_response(status, "Sun, 06 Nov 1994 08:49:37 GMT", "Host is missing")
    head, _, body = whole.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    assert line == f"HTTP/1.1 {status} {REASONS[status]}"
    found: dict[str, Any] = dict(field.split(": ", 1) for field in fields)
    assert found["Date"] == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert found["Server"] == "wsgicluster"
    assert found["Connection"] == "close"
    assert found["Content-Type"] == "text/plain; charset=utf-8"
    assert int(found["Content-Length"]) == len(body)
    assert body == f"{status} {REASONS[status]}: Host is missing\n".encode()


def test_error_response_without_detail_or_reason() -> None:
    assert error_response(400, "x").endswith(b"\r\n\r\n400 Bad Request\n")
    assert error_response(599, "x").startswith(b"HTTP/1.1 599 \r\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784111777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951827696.9, "Tue, 29 Feb 2000 12:34:56 GMT"),
        (4102444799, "Thu, 31 Dec 2099 23:59:59 GMT"),
    ],
)
def test_http_date(seconds: float, text: str) -> None:
    assert http_date(seconds) == text


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 250_000_000_000))
def test_http_date_agrees_with_the_mail_package(seconds: int) -> None:
    assert http_date(seconds) == email.utils.formatdate(seconds, usegmt=True)
