"""Clients that a sync worker keeps do not wait behind a slow request while another worker is idle."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import StartServer, wait_until
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


def at_rest(pid: str) -> Callable[[], bool]:
    """Whether no thread of a process has run for a while: none looks from time to time."""
    seen: list[tuple[float, list[str]]] = []

    def is_resting() -> bool:
        now = time.monotonic()
        switches = [path.read_text().split("ctxt_switches:")[1] for path in Path("/proc", pid, "task").glob("*/status")]
        if not seen or seen[-1][1] != switches:
            seen.append((now, switches))
        return now - seen[-1][0] > 0.2

    return is_resting


def test_a_single_kept_client_does_not_wait_for_one_who_has_just_come(server: StartServer) -> None:
    live = server("app", "-w", "2", "--keep-alive", "30", source=SOURCE)
    live.wait_log("2 workers serve")
    with contextlib.ExitStack() as owned:
        kept: dict[bytes, Connection] = {}
        while len(kept) < 2:
            connection = Connection(live.port, 20)
            pid = connection.exchange().body
            if pid in kept:
                connection.close()
            else:
                kept[pid] = owned.enter_context(connection)
        for pid in kept:
            wait_until(at_rest(pid.decode()), 10, "no thread of the worker runs")
        slow = owned.enter_context(Connection(live.port, 20))
        slow.ask("/sleep", extra="Connection: close\r\n")
        live.wait_log("begun")
        (busy,) = [pid for pid in kept if f"[{pid.decode()}] [ERROR] begun" in live.log()]
        assert kept[busy].exchange().body != busy
        assert slow.response().body == busy
