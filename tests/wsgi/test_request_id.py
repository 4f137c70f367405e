"""Names of requests: whose are accepted, what is made, and where they stand."""

import re
from typing import Any

import pytest

from wsgicluster.wsgi.request_id import KEY, LINE_BYTES, RequestIds

MADE = re.compile("[0-9a-f]{32}")
LINE = b"GET / HTTP/1.1"


def name_of(name: str | None, *, accepts: bool = True, trusted: bool = True) -> str:
    environ: dict[str, Any] = {} if name is None else {"HTTP_X_REQUEST_ID": name}
    fields, line = RequestIds("X-Request-ID", accepts).identify(environ, trusted, LINE)
    given: str = environ[KEY]
    assert environ["HTTP_X_REQUEST_ID"] == given
    assert fields == f"X-Request-ID: {given}\r\n"
    assert line == LINE + b" [" + given.encode() + b"]"
    return given


@pytest.mark.parametrize("name", ["abc", "0f8fad5b-d9cb-469f-a165-70867728950e", "!#$%&'*+.^_`|~-", "x" * 128])
def test_a_valid_id_of_a_trusted_peer_is_kept(name: str) -> None:
    assert name_of(name) == name
    assert MADE.fullmatch(name_of(name, trusted=False))
    assert MADE.fullmatch(name_of(name, accepts=False))


@pytest.mark.parametrize("name", [None, "", "two words", "a,b", 'quo"ted', "x" * 129, "caf\xe9", "a\n", "(a)"])
def test_any_other_is_replaced(name: str | None) -> None:
    assert MADE.fullmatch(name_of(name))


def test_each_has_its_own() -> None:
    assert len({name_of(None) for _ in range(1000)}) == 1000


def test_a_long_line_is_cut_for_the_id() -> None:
    ids = RequestIds("X-Request-ID", True)
    for size in range(LINE_BYTES - 50, LINE_BYTES + 50):
        _, line = ids.identify({"HTTP_X_REQUEST_ID": "abc"}, True, b"x" * size)
        assert len(line) == min(size + 6, LINE_BYTES)
        assert line.endswith(b"x [abc]" if size + 6 <= LINE_BYTES else b"... [abc]")


def test_another_field_can_be_named() -> None:
    environ = {"HTTP_TRACE": "abc", "HTTP_X_REQUEST_ID": "other"}
    assert RequestIds("Trace", True).identify(environ, True, LINE)[0] == "Trace: abc\r\n"
    assert environ == {"HTTP_TRACE": "abc", "HTTP_X_REQUEST_ID": "other", KEY: "abc"}


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ([], [("X-Request-ID", "abc")]),
        ([("A", "b")], [("A", "b"), ("X-Request-ID", "abc")]),
        ([("x-request-id", "own")], [("x-request-id", "own")]),
        ([(), (1, "b"), "ab"], [(), (1, "b"), "ab", ("X-Request-ID", "abc")]),
        (None, None),
        ((), ()),
    ],
)
def test_responses_have_the_id_unless_they_have_another(headers: Any, sent: Any) -> None:
    calls: list[Any] = []

    def start(*arguments: Any) -> str:
        calls.append(arguments)
        return "write"

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ.clear()
        assert start_response("200 OK", headers) == "write"
        assert start_response("200 OK", headers, "exc_info") == "write"
        return [b"body"]

    assert RequestIds("X-Request-ID", True).wrap(application)({KEY: "abc"}, start) == [b"body"]
    assert calls == [("200 OK", sent, None), ("200 OK", sent, "exc_info")]
