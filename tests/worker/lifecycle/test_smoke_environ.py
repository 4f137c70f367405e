"""What an application finds in a smoke test's environ: callables that work, and a host that names the listener."""

import contextlib
import logging
import os
import pathlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import Channel
from wsgicluster.ipc.scoreboard import Cell, Scoreboard
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.worker.lifecycle.smoke_test import SHOWN_CHARACTERS, SmokeTest

App = Callable[[dict[str, Any], Callable[..., Any]], Any]


class _QuietLogs(Logs):
    def __init__(self) -> None:
        self.error = logging.Logger("smoke test")  # noqa: LOG001 - one that nothing else finds
        self.access = None


@contextlib.contextmanager
def assigned(*listeners: socket.socket) -> Iterator[Assignment]:
    """An assignment with these listeners."""
    with contextlib.ExitStack() as stack:
        board = Scoreboard(None)
        stack.callback(board.close)
        receive, send = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours, theirs = Channel.pair()
        for sock in (receive, send, *listeners):
            stack.callback(sock.close)
        for channel in (ours, theirs):
            stack.callback(channel.close)
        yield Assignment(3, 2, board.take(3, 2), board, theirs, listeners, receive, send, 2, smoke_test=True)


def asked(application: App, *listeners: socket.socket, target: str = "/", **settings: Any) -> tuple[str, float]:
    """What is wrong, or nothing; and the deadline on the page as the application left it."""
    seen = [0.0]
    with assigned(*listeners) as assignment:

        def watched(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            result = application(environ, start_response)
            seen[0] = assignment.page.floats[Cell.DEADLINE]
            return result

        found = SmokeTest(Settings(smoke=(target,), **settings), assignment, _QuietLogs(), {}).run(watched)
    return "" if found is None else str(found), seen[0]


def hosts(found: list[str]) -> App:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        found.append(environ["HTTP_HOST"])
        start_response("204 No Content", [])
        return []

    return application


def test_the_host_is_the_one_that_a_client_on_this_machine_would_write(tmp_path: pathlib.Path) -> None:
    found: list[str] = []
    everywhere, local = (socket.create_server((name, 0)) for name in ("", "127.0.0.1"))
    ports = [each.getsockname()[1] for each in (everywhere, local)]
    path = socket.socket(socket.AF_UNIX)
    path.bind(str(tmp_path / "sock"))
    for listeners in ((everywhere,), (local,), (path,), ()):
        assert asked(hosts(found), *listeners)[0] == ""
    assert found == [f"localhost:{ports[0]}", f"127.0.0.1:{ports[1]}", "localhost", "localhost"]


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
def test_an_address_of_ipv6_stands_in_brackets() -> None:
    found: list[str] = []
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no address of IPv6")
    port = listener.getsockname()[1]
    assert asked(hosts(found), listener)[0] == ""
    assert found == [f"[::1]:{port}"]


@pytest.mark.parametrize(("seconds", "left_s"), [(50.0, 50.0), (None, 0.0)])
def test_the_deadline_may_be_put_off_or_lifted(seconds: float | None, left_s: float) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        environ["wsgicluster.extend_deadline"](seconds)
        start_response("200 OK", [])
        return [b"done"]

    before = time.monotonic()
    said, deadline = asked(application, timeout=5.0)
    assert said == ""
    assert deadline == 0.0 if seconds is None else before + left_s <= deadline <= time.monotonic() + left_s
    # Without a timeout there is no deadline that could be moved.
    assert asked(application, timeout=0.0) == ("", 0.0)


def test_hints_are_taken_and_the_client_is_there() -> None:
    seen: list[bool] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload")])
        seen.append(environ["wsgicluster.client_disconnected"]())
        start_response("200 OK", [])
        return [b"done"]

    assert asked(application)[0] == ""
    assert seen == [False]


def test_of_a_failure_in_pieces_its_beginning_is_shown() -> None:
    def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        write = start_response("500 Oops", [])
        write(b"no ")
        return (block for block in [b"table", b"", os.urandom(1).hex().encode() * 2000, b"more"])

    said, _ = asked(application)
    shown = said.partition("was answered 500 Oops: ")[2]
    assert shown.startswith("no table")
    assert len(shown) == SHOWN_CHARACTERS + len("...")


def test_what_no_client_could_send_is_no_request() -> None:
    called: list[str] = []
    said, _ = asked(hosts(called), target="/a b c")
    assert said.startswith("smoke: GET /a b c is not a valid request: ")
    assert called == []


def test_with_tls_a_path_alone_is_asked_with_https() -> None:
    found: list[str] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        found.append(environ["wsgi.url_scheme"])
        start_response("200 OK", [])
        return []

    asked(application, certfile="cert.pem", keyfile="key.pem")
    asked(application)
    assert found == ["https", "http"]
