"""What applications say to their clients beside their responses, by every way through the sync worker."""

import pathlib
import time
from typing import Any

import pytest

from tests.worker.kinds.sync.application_shapes import TYPE, returns, whole
from tests.worker.kinds.sync.callable_applications import CONTACTS, LINK
from tests.worker.kinds.sync.conversation import Case, Environ, StartResponse, Subject
from tests.worker.kinds.sync.fast_path_implementations import RUNNERS, ways
from tests.worker.kinds.sync.fast_path_requests import ACCEPTED_FIRST, GET, LAST, NEXT, get, post
from tests.worker.kinds.sync.looped_client import Ending
from wsgicluster.ipc.scoreboard import Cell

ENDS = {"kept": GET, "closed": LAST}
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n"


@pytest.mark.parametrize("way", ways(*RUNNERS))
def test_a_hint_in_full(tmp_path: pathlib.Path, way: str) -> None:
    with Subject(way, tmp_path) as subject:
        seen = subject.converse(CONTACTS["hint on the way"], (GET,))
        old = subject.converse(CONTACTS["hint"], (get(line=b"GET / HTTP/1.0"),))
    second = (
        b"HTTP/1.1 103 Early Hints\r\nX-Second: 2\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Third: 3\r\n\r\nHTTP/1.1 200"
    )
    assert seen.received.startswith(INTERIM + second)
    assert b"X-Late" not in seen.received
    assert seen.errors == []
    assert b" 103 " not in old.received


@pytest.mark.parametrize("way", ways(*RUNNERS))
@pytest.mark.parametrize("segments", [(GET,), (ACCEPTED_FIRST, GET), (LAST,), (post(b"hello"),)])
def test_a_hint_is_there_before_the_response(tmp_path: pathlib.Path, way: str, segments: tuple[bytes, ...]) -> None:
    def app(case: Case, environ: Environ, start: StartResponse) -> Any:
        environ["wsgi.early_hints"]([LINK])
        case.client.wait_for(INTERIM)
        start("200 OK", [TYPE])
        return [b"body"]

    with Subject(way, tmp_path) as subject:
        seen = subject.converse(app, segments)
    assert seen.received.startswith(INTERIM + b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("way", ways(*RUNNERS))
def test_a_hint_that_nobody_takes_ends_the_request(tmp_path: pathlib.Path, way: str) -> None:
    def app(case: Case, environ: Environ, _start: StartResponse) -> Any:
        case.client.leave()
        try:
            for _ in range(1000):
                environ["wsgi.early_hints"]([LINK])
        finally:
            case.notes.append("left")
        raise AssertionError("the client has left")

    with Subject(way, tmp_path) as subject:
        for segments in ((GET,), (LAST,)):
            seen = subject.converse(app, segments)
            assert (seen.ending, seen.notes, seen.errors) == (Ending.LEFT, ["left"], [])
            assert (seen.counted["requests"], seen.counted["failed"]) == (1, 0)


@pytest.mark.parametrize("way", ways(*RUNNERS))
@pytest.mark.parametrize("former", ENDS)
@pytest.mark.parametrize("present", ENDS)
def test_former_callables_reach_nobody(tmp_path: pathlib.Path, way: str, former: str, present: str) -> None:
    """Kept from one connection and called in the request of another, which may well have the same descriptor."""
    kept: list[Any] = []

    def app(_case: Case, environ: Environ, start: StartResponse) -> Any:
        for former_environ in kept:
            former_environ["wsgi.early_hints"]([("X-Stray", "1")])
        kept.append(environ)
        environ["wsgi.early_hints"]([LINK])
        start("200 OK", [TYPE])
        return [b"own"]

    with Subject(way, tmp_path) as subject:
        for end in (former, present, former, present):
            seen = subject.converse(app, (ENDS[end],))
            assert seen.received.startswith(INTERIM + b"HTTP/1.1 200 OK\r\n")
            assert b"X-Stray" not in seen.received
            assert seen.received.endswith(b"own")


@pytest.mark.parametrize("way", ways(*RUNNERS))
def test_callables_that_nobody_keeps_stay_the_same(tmp_path: pathlib.Path, way: str) -> None:
    seen: list[int] = []

    def app(_case: Case, environ: Environ, start: StartResponse) -> Any:
        names = ("wsgi.early_hints", "wsgicluster.client_disconnected", "wsgicluster.extend_deadline")
        seen.append(sum(id(environ[name]) for name in names))
        start("200 OK", [TYPE])
        return [b"own"]

    with Subject(way, tmp_path) as subject:
        subject.converse(app, (ACCEPTED_FIRST, GET, NEXT, post(b"hello"), GET + NEXT, LAST))
    assert len(seen) == 6
    assert len(set(seen)) == 1


@pytest.mark.parametrize("way", ways(*RUNNERS))
@pytest.mark.parametrize("segments", [(GET,), (ACCEPTED_FIRST, GET), (LAST,), (post(b"hello"),), (GET, NEXT)])
def test_a_client_that_leaves_is_missed(tmp_path: pathlib.Path, way: str, segments: tuple[bytes, ...]) -> None:
    def app(case: Case, environ: Environ, start: StartResponse) -> Any:
        is_gone = environ["wsgicluster.client_disconnected"]
        start("200 OK", [TYPE])
        if len(segments) == 2 and environ["PATH_INFO"] != "/next" and segments[1] == NEXT:
            case.notes.append(is_gone())
            return [b"first"]
        case.notes.append(is_gone())
        case.client.leave()
        case.notes += [is_gone(), is_gone()]
        case.at_end.append(is_gone)
        return [b"body"]

    with Subject(way, tmp_path) as subject:
        seen = subject.converse(app, segments)
    assert seen.notes[-4:] == [False, True, True, True]
    assert seen.errors == []


@pytest.mark.parametrize("way", ways(*RUNNERS))
@pytest.mark.parametrize("former", ENDS)
@pytest.mark.parametrize("present", ENDS)
def test_former_clients_are_told_apart(tmp_path: pathlib.Path, way: str, former: str, present: str) -> None:
    """What was seen of one client is never that of another, whatever has become of the descriptor."""
    kept: list[Any] = []

    def app(case: Case, environ: Environ, start: StartResponse) -> Any:
        is_gone = environ["wsgicluster.client_disconnected"]
        case.notes.append([former_one() for former_one in kept] + [is_gone()])
        if len(kept) % 2:
            case.client.leave()
            case.notes.append(is_gone())
        kept.append(is_gone)
        start("200 OK", [TYPE])
        return [b"body"]

    with Subject(way, tmp_path) as subject:
        notes = [subject.converse(app, (ENDS[end],)).notes for end in (former, present, former, present)]
    assert notes == [
        [[False]],
        [[False, False], True],
        [[False, True, False]],
        [[False, True, False, False], True],
    ]
    assert [is_gone() for is_gone in kept] == [False, True, False, True]


@pytest.mark.parametrize("way", ways(*RUNNERS))
def test_between_requests_nothing_is_said(tmp_path: pathlib.Path, way: str) -> None:
    kept: list[Any] = []

    def app(_case: Case, environ: Environ, start: StartResponse) -> Any:
        kept.append(environ["wsgi.early_hints"])
        start("200 OK", [TYPE])
        return [b"own"]

    with Subject(way, tmp_path) as subject:
        assert subject.converse(app, (GET,)).ending is Ending.KEPT
        for hint in kept:
            hint([LINK])
        assert b" 103 " not in subject.converse(returns(whole(b"hello")), (GET,)).received


@pytest.mark.parametrize("way", ways(*RUNNERS))
@pytest.mark.parametrize("segments", [(GET,), (ACCEPTED_FIRST, GET), (LAST,), (post(b"hello"),), (GET, NEXT)])
def test_only_the_request_itself_puts_its_deadline_off(
    tmp_path: pathlib.Path, way: str, segments: tuple[bytes, ...]
) -> None:
    """The page shows what a request asks for, and nothing of what it has asked for is left for the next."""
    kept: list[Any] = []

    with Subject(way, tmp_path) as subject:
        floats = subject.page.floats

        def app(case: Case, environ: Environ, start: StartResponse) -> Any:
            extend = environ["wsgicluster.extend_deadline"]
            usual = floats[Cell.DEADLINE]
            for former in kept:
                former(1000)
            case.notes.append(floats[Cell.DEADLINE] == usual)
            extend(1000)
            case.notes.append(900 < floats[Cell.DEADLINE] - time.monotonic() <= 1000)
            extend(None)
            case.notes.append(floats[Cell.DEADLINE])
            kept.append(extend)
            start("200 OK", [TYPE])
            return (block for block in (b"one", b"", b"two"))

        seen = subject.converse(app, segments)
        again = subject.converse(app, segments)
    assert set(seen.notes[::3] + again.notes[::3]) == {True}
    assert set(seen.notes[1::3] + again.notes[1::3]) == {True}
    assert set(seen.notes[2::3] + again.notes[2::3]) == {0.0}
