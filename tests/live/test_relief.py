"""Clients that a sync worker keeps do not wait behind a slow request while another worker is idle."""

import contextlib

import pytest

from tests.conftest import StartServer
from tests.live.client import Connection

pytestmark = pytest.mark.live

SOURCE = """
import os, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path != "/":
        print("begun", file=environ["wsgi.errors"])
    if path == "/sleep":
        time.sleep(3)
    elif path == "/compute":
        ends = time.thread_time() + 2
        while time.thread_time() < ends:
            pass
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return slow(body) if path == "/stream" else [body]

def slow(body):
    yield body[:1]
    time.sleep(3)
    yield body[1:]
"""


@pytest.mark.parametrize(("path", "pure"), [("/sleep", "0"), ("/sleep", "1"), ("/compute", "0"), ("/stream", "0")])
def test_who_is_kept_by_a_busy_worker_is_served_by_another(server: StartServer, path: str, pure: str) -> None:
    live = server("app", "-w", "2", "--keep-alive", "30", source=SOURCE, environ={"WSGICLUSTER_PURE": pure})
    live.wait_log("2 workers serve")
    with contextlib.ExitStack() as owned:
        here: dict[bytes, list[Connection]] = {}
        while max(map(len, here.values()), default=0) < 5 or len(here) < 2:
            connection = owned.enter_context(Connection(live.port, 20))
            here.setdefault(connection.exchange().body, []).append(connection)
        busy, (slow, *others) = max(here.items(), key=lambda item: len(item[1]))
        slow.ask(path)
        live.wait_log("begun")
        for connection in others:
            assert connection.exchange().body != busy
        # They are at home there: also what they ask next is answered, and so is the slow request.
        for connection in others:
            assert connection.exchange().body != busy
        answer = slow.response()
        assert (answer.status, answer.body) == (200, busy)
        assert slow.exchange().body
    assert "Traceback" not in live.log()
