"""Single responses by every way through the sync worker, step by step: what is sent when, and to whom never."""

import contextlib
import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.worker.kinds.sync.application_shapes import (
    TYPE,
    Blocks,
    Endless,
    changes_headers,
    raises,
    returns,
    streams,
    whole,
)
from tests.worker.kinds.sync.conversation import App, Case, Environ, Seen, StartResponse, Subject, differences
from tests.worker.kinds.sync.fast_path_implementations import PLAIN, RUNNERS, TWINS, ways
from tests.worker.kinds.sync.fast_path_requests import ACCEPTED_FIRST, GET, LAST, get, post
from tests.worker.kinds.sync.looped_client import Ending

ENDS = {"kept": GET, "closed": LAST}
"""A request that keeps its connection, and one that closes it."""

ONE_TIMED = {"requests": 1, "timed": 1, "run": 1, "queued": 1}


def not_zero(counted: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counted.items() if count}


BAD = {"failed": 1, "bad iterables": 1}
KINDS_OF_RESPONSES: dict[str, tuple[App, dict[str, int]]] = {
    "one block": (returns(whole(b"hello"), status="201 Created"), {"status 2": 1}),
    "one streamed": (streams(b"hello", headers=[("Content-Length", "5")], status="403 No"), {"status 4": 1}),
    "chunks": (streams(b"one", b"two"), {"status 2": 1}),
    "no body": (returns(whole(), status="304 Not Modified"), {"status 3": 1}),
    "an error of its own": (returns(whole(b"hello"), status="503 Later"), {"status 5": 1}),
    "a status beyond 599": (returns(whole(b"hello"), status="700 New"), {"status 5": 1}),
    "an exception": (raises(LookupError()), {"status 5": 1, "failed": 1}),
    "an exception of its iterable": (streams(TypeError()), {"status 5": 1, "failed": 1}),
    "an exception in its body": (streams(b"one", TypeError()), {"status 2": 1, "failed": 1}),
    "no start_response": (lambda *_: [], {"status 5": 1, **BAD}),
    "a block of text": (streams("text"), {"status 5": 1, **BAD}),
    "a list of texts": (returns(whole("a", "b")), {"status 5": 1, **BAD}),
    "no iterable": (returns(lambda: 7), {"status 5": 1, **BAD}),
    "a short body": (streams(b"x", headers=[("Content-Length", "2")]), {"status 2": 1, **BAD}),
}


@pytest.mark.parametrize("way", ways(*RUNNERS))
@pytest.mark.parametrize(
    "request_sent", [GET, LAST, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["kept", "closed", "head"]
)
@pytest.mark.parametrize("kind", KINDS_OF_RESPONSES)
def test_status_and_failure_are_counted(tmp_path: pathlib.Path, way: str, request_sent: bytes, kind: str) -> None:
    app, expected = KINDS_OF_RESPONSES[kind]
    if kind == "a short body" and request_sent.startswith(b"HEAD"):
        expected = {"status 2": 1}
    with Subject(way, tmp_path) as subject:
        counted = subject.converse(app, (request_sent,)).counted
    assert not_zero({**counted, "bytes out": 0}) == ONE_TIMED | expected


@pytest.mark.parametrize("way", ways(*RUNNERS))
def test_a_usual_answer_in_full(tmp_path: pathlib.Path, way: str) -> None:
    with Subject(way, tmp_path) as subject:
        seen = subject.converse(returns(whole(b"hello")), (GET,))
    assert seen.received == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: wsgicluster\r\nDate: NOW\r\n"
        b"Content-Length: 5\r\n\r\nhello"
    )
    assert seen.ending is Ending.KEPT
    assert not_zero(seen.counted) == ONE_TIMED | {"bytes out": 5, "status 2": 1}
    line = "GET /a/path?query=1 HTTP/1.1"
    assert seen.shown == [("127.0.0.1", line, True, True), ("127.0.0.1", line, False)]
    assert seen.access == [
        f'127.0.0.1 - "{line}" GET /a/path query=1 HTTP/1.1 200 5 5 "/here" "twins" example.com text/plain - - http'
    ]
    assert seen.errors == []
    (environ,) = seen.environs
    assert environ["PATH_INFO"] == "/a/path"
    assert environ["REMOTE_PORT"] is True
    assert environ["wsgi.input"] == "BytesIO"


@pytest.mark.parametrize("way", ways(*RUNNERS))
def test_a_broken_stream_in_full(tmp_path: pathlib.Path, way: str) -> None:
    app = streams(b"one", LookupError("broken"), headers=[("Content-Length", "9")])
    with Subject(way, tmp_path) as subject:
        seen = subject.converse(app, (GET, GET))
    assert seen.received.endswith(b"Content-Length: 9\r\nServer: wsgicluster\r\nDate: NOW\r\n\r\none")
    assert seen.ending is Ending.RESET
    assert not_zero(seen.counted) == ONE_TIMED | {"failed": 1, "bytes out": 3, "status 2": 1}
    assert seen.errors == ["ERROR the application failed in GET /a/path?query=1 HTTP/1.1 (LookupError: broken)"]
    assert seen.notes == ["closed"]


@pytest.mark.parametrize("way", ways(*RUNNERS))
def test_a_refusal_in_full(tmp_path: pathlib.Path, way: str) -> None:
    with Subject(way, tmp_path) as subject:
        seen = subject.converse(returns(whole(b"hello")), (get(b"Bad Name: 1\r\n"),))
    assert seen.received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert seen.ending is Ending.FIN
    assert not_zero(seen.counted) == {}
    assert not seen.environs
    (line,) = seen.access
    assert " 400 " in line
    assert "/a/path?query=1" in line


@pytest.mark.parametrize("way", ways(*RUNNERS))
def test_headers_that_are_none_any_more_end_no_worker(tmp_path: pathlib.Path, way: str) -> None:
    """The access log names a response header, and the application has spoilt its list of them."""
    app = changes_headers(lambda headers: headers.append(None), lambda _case: [b"body"])
    with Subject(way, tmp_path) as subject:
        seen = subject.converse(app, (GET,))
    assert seen.ending is Ending.KEPT


def _leaves_then(result: Callable[[Case], Any]) -> App:
    """An application whose client breaks the connection off while it runs."""

    def app(case: Case, _environ: Environ, start: StartResponse) -> Any:
        write = start("200 OK", [TYPE])
        case.kept["write"] = write
        case.client.leave()
        return result(case)

    return app


def _writes_to_nobody(case: Case) -> Any:
    for _ in range(5):
        try:
            case.kept["write"](b"block")
        except ConnectionError as error:
            case.notes.append(type(error).__name__)
    return [b"end"]


LEAVING: dict[str, App] = {
    "list": _leaves_then(lambda _case: [b"body"]),
    "large list": _leaves_then(lambda _case: [b"body" * 100_000]),
    "stream": _leaves_then(lambda case: Blocks(case, [b"one"] * 5)),
    "large stream": _leaves_then(lambda case: Blocks(case, [b"one" * 20_000] * 5)),
    "write": _leaves_then(_writes_to_nobody),
    "fault": _leaves_then(lambda case: Blocks(case, [LookupError("too")])),
}


@pytest.mark.parametrize("way", ways(*TWINS))
@pytest.mark.parametrize("name", LEAVING)
def test_client_leaves(tmp_path: pathlib.Path, way: str, name: str) -> None:
    with Subject(PLAIN, tmp_path) as plain, Subject(way, tmp_path) as twin:
        for segments in ((GET,), (ACCEPTED_FIRST, GET), (GET, GET), (LAST,), (post(b"hello"),)):
            wanted = plain.converse(LEAVING[name], segments)
            assert wanted.ending is Ending.LEFT
            assert not differences(wanted, twin.converse(LEAVING[name], segments))
            assert not twin.connections


@pytest.mark.parametrize("way", ways(*RUNNERS))
@pytest.mark.parametrize("request_sent", [GET, LAST], ids=["kept", "closed"])
def test_a_stream_is_given_up_soon_after_its_client(tmp_path: pathlib.Path, way: str, request_sent: bytes) -> None:
    def app(case: Case, _environ: Environ, start: StartResponse) -> Any:
        start("200 OK", [TYPE])
        return Endless(case)

    with Subject(way, tmp_path) as subject:
        seen = subject.converse(app, (request_sent,))
        assert not subject.connections
    assert seen.notes == ["closed"]
    assert seen.errors == []
    assert not_zero({**seen.counted, "bytes out": 0}) == ONE_TIMED | {"client left": 1, "status 2": 1}


@pytest.mark.parametrize("way", ways(*RUNNERS))
@pytest.mark.parametrize("headers", [[], [("Content-Length", "100")]], ids=["chunked", "counted"])
def test_no_block_waits_for_the_next_one(tmp_path: pathlib.Path, way: str, headers: list[tuple[str, str]]) -> None:
    """PEP 3333, "Buffering and Streaming": what was given is sent while the application makes what comes next."""

    def app(case: Case, _environ: Environ, start: StartResponse) -> Any:
        start("200 OK", headers)
        for number in range(10):
            block = b"block %3d\n" % number
            yield block
            case.client.wait_for(block if headers else block + b"\r\n")
            case.notes.append(number)

    with Subject(way, tmp_path) as subject:
        seen = subject.converse(app, (GET,))
    assert seen.notes == list(range(10))
    assert seen.ending is Ending.KEPT
    assert not seen.errors


@pytest.mark.parametrize("way", ways(*TWINS))
@pytest.mark.parametrize("former", ENDS)
@pytest.mark.parametrize("present", ENDS)
def test_former_response_is_over(tmp_path: pathlib.Path, way: str, former: str, present: str) -> None:
    """What an application still has of a request on another connection reaches nobody, and opens nothing."""
    kept: list[tuple[StartResponse, Callable[[bytes], object]]] = []

    def app(case: Case, _environ: Environ, start: StartResponse) -> Any:
        for start_before, write_before in kept:
            calls: list[Callable[[], object]] = [
                functools.partial(write_before, b"stray"),
                functools.partial(start_before, "500 Stray", [TYPE]),
                functools.partial(start_before, "500 Stray", [TYPE], sys.exc_info()),
            ]
            for call in calls:
                try:
                    call()
                except BaseException as error:
                    case.notes.append((type(error).__name__, str(error)))
        kept[:] = [(start, start("200 OK", [TYPE]))]
        return [b"own"]

    seen: dict[str, list[Seen]] = {}
    for name in (PLAIN, way):
        kept.clear()
        with Subject(name, tmp_path) as subject:
            seen[name] = [subject.converse(app, (ENDS[end],)) for end in (former, present)]
    for wanted, found in zip(seen[PLAIN], seen[way], strict=True):
        assert not differences(wanted, found)


@pytest.mark.parametrize("way", ways(*RUNNERS))
@pytest.mark.parametrize("former", ENDS)
@pytest.mark.parametrize("present", ENDS)
def test_response_that_was_given_up_is_over(tmp_path: pathlib.Path, way: str, former: str, present: str) -> None:
    """The next client's connection may well have the descriptor of the one that has left: it gets nothing of this."""
    kept: list[Callable[[bytes], object]] = []

    def app(case: Case, _environ: Environ, start: StartResponse) -> Any:
        for write in kept:
            with contextlib.suppress(ConnectionError, AssertionError):
                write(b"stray")
        write = start("200 OK", [TYPE])
        if kept:
            return [b"own"]
        kept.append(write)
        case.client.leave()
        return Blocks(case, [b"one", b"two"])

    with Subject(way, tmp_path) as subject:
        subject.converse(app, (ENDS[former],))
        seen = subject.converse(app, (ENDS[present],))
    assert b"stray" not in seen.received
    assert seen.received.endswith(b"own")
    assert seen.ending is (Ending.KEPT if present == "kept" else Ending.FIN)
