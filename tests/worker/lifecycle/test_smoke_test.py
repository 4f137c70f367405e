"""The smoke test: what the application is asked, and what counts as an answer."""

import contextlib
import logging
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import Channel
from wsgicluster.ipc.scoreboard import Cell, Scoreboard
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.worker.lifecycle.smoke_test import SHOWN_CHARACTERS, SmokeTest

FACTS = {"wsgi.multithread": False, "wsgi.multiprocess": True, "wsgicluster.slot": 3}


class _QuietLogs(Logs):
    def __init__(self) -> None:
        self.error = logging.Logger("rehearsal")  # noqa: LOG001 - one that nobody else finds
        self.access = None


@pytest.fixture
def assignment(tmp_path: pathlib.Path) -> Iterator[Assignment]:
    with contextlib.ExitStack() as stack:
        board = Scoreboard(str(tmp_path))
        stack.callback(board.close)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        receive, send = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours, theirs = Channel.pair()
        for owned in (receive, send, ours, theirs):
            stack.callback(owned.close)
        yield Assignment(3, 2, board.take(3, 2), board, theirs, (listener,), receive, send, 2, smoke_test=True)


App = Callable[[dict[str, Any], Callable[..., Any]], Any]


def smoke_test(assignment: Assignment, application: App, *smoke: str, **settings: Any) -> str:
    """What is wrong with the application, or nothing."""
    values = Settings(smoke=smoke, **settings)
    failure = SmokeTest(values, assignment, _QuietLogs(), FACTS).run(application)
    return "" if failure is None else f"{failure}\n{failure.trace}".strip()


def answering(status: str, body: bytes = b"") -> App:
    def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response(status, [("Content-Type", "text/plain")])
        return [body]

    return application


def test_what_is_asked_is_a_whole_request(assignment: Assignment) -> None:
    asked: list[dict[str, Any]] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        asked.append(environ)
        assert environ["wsgi.input"].read(1) == b""
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"fine"]

    assert smoke_test(assignment, validator(application), "/caf%C3%A9?x=1", "https://www.example.com/in") == ""
    port = assignment.listeners[0].getsockname()[1]
    first, second = asked
    shown = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "HTTP_HOST", "wsgi.url_scheme")
    assert [first[name] for name in shown] == [
        "GET", "/caf\xc3\xa9", "x=1", "HTTP/1.1", f"127.0.0.1:{port}", "http",
    ]  # fmt: skip
    assert [second[name] for name in shown] == ["GET", "/in", "", "HTTP/1.1", "www.example.com", "https"]
    assert first["wsgicluster.smoke"] is True
    assert (first["REMOTE_ADDR"], first["SERVER_PORT"], first["wsgicluster.slot"]) == ("127.0.0.1", str(port), 3)


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "302 Found", "404 Not Found", "499 Own"])
def test_below_500_is_well(assignment: Assignment, status: str) -> None:
    assert smoke_test(assignment, answering(status), "/") == ""


def test_from_500_on_it_is_not_and_the_answer_is_shown(assignment: Assignment) -> None:
    said = smoke_test(assignment, answering("503 Full", b"no\r\nroom \x1b[31m" + b"x" * 900), "/")
    assert said.startswith("smoke: GET / was answered 503 Full: no room [31mxxx")
    assert said.endswith("xxx...")
    assert len(said) < SHOWN_CHARACTERS + 60


def test_the_first_failure_ends_it(assignment: Assignment) -> None:
    asked = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        start_response("500 Oops" if environ["PATH_INFO"] == "/b" else "200 OK", [])
        return []

    assert "GET /b was answered 500 Oops" in smoke_test(assignment, application, "/a", "/b", "/c")
    assert asked == ["/a", "/b"]


@pytest.mark.parametrize("where", ["call", "iteration", "close"])
def test_whatever_is_raised_is_told_with_its_traceback(assignment: Assignment, where: str) -> None:
    closed = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"first"
            if where == "iteration":
                raise SystemExit("no more")

        def close(self) -> None:
            closed.append(True)
            if where == "close":
                raise ValueError("cannot close")

    def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Body:
        if where == "call":
            raise KeyError("a table")
        start_response("200 OK", [])
        return Body()

    said = smoke_test(assignment, application, "/")
    assert said.startswith("smoke: GET / failed: ")
    assert {"call": "a table", "iteration": "no more", "close": "cannot close"}[where] in said
    assert "test_smoke_test.py" in said
    assert "worker/lifecycle/smoke_test.py" not in said
    assert closed == ([] if where == "call" else [True])


def test_an_answer_that_could_not_be_sent_is_none(assignment: Assignment) -> None:
    def short(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "10")])
        return [b"four"]

    assert "Content-Length 10" in smoke_test(assignment, short, "/")
    assert "start_response" in smoke_test(assignment, lambda _environ, _start: [b"x"], "/")


def test_each_request_has_the_whole_timeout_and_is_shown_meanwhile(assignment: Assignment) -> None:
    page = assignment.page
    seen = []

    def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        facts = page.facts()
        seen.append((facts.request_line, facts.deadline - facts.started))
        start_response("200 OK", [])
        return []

    assert smoke_test(assignment, application, "/a", "/b", timeout=7.0) == ""
    assert [line for line, _ in seen] == ["GET /a", "GET /b"]
    assert [round(seconds, 6) for _, seconds in seen] == [7.0, 7.0]
    assert page.floats[Cell.STARTED] == 0.0
