"""The gthread worker: requests side by side, and the loop that goes on meanwhile."""

import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import signal
import time

import pytest

from tests.conftest import LiveServer, StartServer, descriptors_of, steady_descriptors, wait_until
from tests.live.client import BrokenResponse, Connection, Load, fetch

pytestmark = pytest.mark.live

SOURCE = """
import os, re, sys, threading, time

together = threading.Barrier(4)

def pieces(name):
    yield b"x" * 6_000_000
    while name and not os.path.exists(name):
        time.sleep(0.01)
    yield b"end"

def endless(log):
    try:
        while True:
            yield b"x" * 100_000
            time.sleep(0.01)
    finally:
        log.write("given up\\n")

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/endless":
        start_response("200 OK", [])
        return endless(environ["wsgi.errors"])
    if path == "/sleep":
        print("asleep", file=environ["wsgi.errors"])
        time.sleep(float(environ["QUERY_STRING"]))
    elif path == "/together":
        together.wait(30)
    elif path == "/hold":  # a call that never lets another thread run
        re.match("(a*)*b", "a" * 40)
    elif path == "/pieces":
        start_response("200 OK", [("Content-Length", "6000003")])
        return pieces(environ["QUERY_STRING"])
    elif path == "/log":
        environ["wsgi.errors"].write("one half ")
        time.sleep(0.1)
        environ["wsgi.errors"].write("and the other " + environ["QUERY_STRING"] + "\\n")
    body = f"{os.getpid()} {threading.current_thread().name}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


def gthread(server: StartServer, *arguments: str) -> LiveServer:
    return server("app", "-k", "gthread", *arguments, source=SOURCE)


def test_threads_make_a_sync_worker_a_gthread_one(server: StartServer) -> None:
    live = server("tests.apps.basic", "--threads", "3")
    assert json.loads(fetch(live.port, "/environ").body)["wsgi.multithread"] is True


def test_requests_run_side_by_side(server: StartServer) -> None:
    live = gthread(server, "-w", "1", "--threads", "4")
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda _: fetch(live.port, "/together"), range(4)))
    assert [answer.status for answer in answers] == [200] * 4
    assert len({answer.body for answer in answers}) == 4


def test_clients_that_take_nothing_and_such_that_take_it_slowly(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "wsgicluster.conf.py").write_text("write_timeout = 2\ntimeout = 0\n")
    live = gthread(server, "--threads", "2")
    with Connection(live.port) as silent, Connection(live.port) as slow:
        silent.ask("/endless")
        slow.ask("/pieces", extra="Connection: close\r\n")
        began = last = time.monotonic()
        taken = 0
        while last < began + 3.7:
            wait_until(lambda last=last: time.monotonic() > last + 0.1, 5)  # type: ignore[misc]
            last = time.monotonic()
            # Far more than is asked for, and far less than makes the kernel tell of room.
            piece = slow.sock.recv(20_000)
            assert piece
            taken += len(piece)
        assert taken + len(slow.rest()) > 6_000_000
        # What has no end must not fill the disk either.
        live.wait_log("given up")
    assert "Traceback" not in live.log()


def test_a_connection_is_kept_behind_a_slow_request(server: StartServer) -> None:
    live = gthread(server, "-w", "1", "--threads", "2")
    with Connection(live.port) as connection:
        assert not connection.exchange("/sleep?0.05").closes
        assert connection.exchange().status == 200


def test_what_a_thread_has_given_is_sent_while_it_goes_on(server: StartServer) -> None:
    live = gthread(server, "-w", "1", "--threads", "2")
    with Connection(live.port) as connection:
        connection.ask("/pieces?seen")
        received = b""
        while received.count(b"x") < 6_000_000:
            received += connection.sock.recv(1 << 20)
        (live.folder / "seen").touch()
        while not received.endswith(b"end"):
            received += connection.sock.recv(1 << 20)


def test_early_requests_wait_for_their_turn(server: StartServer) -> None:
    live = gthread(server, "-w", "1", "--threads", "4")
    with Connection(live.port) as connection:
        for turn in range(5):
            connection.ask(f"/sleep?{0.2 if turn == 0 else 0}")
        assert [connection.response().status for _ in range(5)] == [200] * 5


def test_clients_that_leave_early_harm_nobody(server: StartServer) -> None:
    live = gthread(server, "-w", "1", "--threads", "2")
    (worker,) = live.wait_children(1)
    for _ in range(20):
        with Connection(live.port) as connection:
            connection.ask("/sleep?0.05")
    assert fetch(live.port).body.split()[0] == str(worker).encode()
    assert "Traceback" not in live.log()


def test_nobody_waits_for_a_busy_worker_while_another_one_is_idle(server: StartServer) -> None:
    """(Node 97)"""
    live = gthread(server, "-w", "2", "--threads", "1")
    live.wait_log("is ready", count=2)
    crowd = [Connection(live.port) for _ in range(12)]
    by_worker: dict[bytes, list[Connection]] = {}
    for each in crowd:
        by_worker.setdefault(each.exchange().body.split()[0], []).append(each)
    slow, waiting, *_ = max(by_worker.values(), key=len)
    slow.ask("/sleep?3")
    live.wait_log("asleep")
    busy = next(pid for pid, connections in by_worker.items() if slow in connections)
    assert {waiting.exchange().body.split()[0] != busy for _ in range(20)} == {True}
    assert slow.response().status == 200
    for each in crowd:
        each.close()


def test_a_crowd_waits_at_the_listener(server: StartServer) -> None:
    """What no thread has begun is not lost with its worker: the next one takes it."""
    live = gthread(server, "-w", "1", "--threads", "2")
    live.wait_log("is ready")
    (worker,) = live.children()
    idle = steady_descriptors(worker)
    crowd = [Connection(live.port) for _ in range(8)]
    for each in crowd[:2]:
        each.ask("/sleep?60")
    live.wait_log("asleep", count=2)
    for each in crowd[2:]:
        each.ask()
    # One is accepted all the same, so that clients who are kept are not the only ones to be served.
    wait_until(lambda: len(descriptors_of(worker)) == idle + 3, 5)
    os.kill(worker, signal.SIGKILL)
    answered = 0
    for each in crowd[2:]:
        with contextlib.suppress(ConnectionError, BrokenResponse):
            answered += each.response().status == 200
    assert answered == 5
    for each in crowd:
        each.close()


def test_a_stuck_request_is_reported_and_its_worker_replaced(server: StartServer) -> None:
    live = gthread(server, "-w", "1", "--threads", "4", "--timeout", "3", "--graceful-timeout", "60")
    (worker,) = live.wait_children(1)
    with Connection(live.port) as stuck, Connection(live.port) as neighbour:
        stuck.ask("/sleep?60")
        neighbour.ask("/sleep?0.5")
        live.wait_log(r"worker 1: stuck in GET /sleep\?60 HTTP/1.1 from 127.0.0.1:\d+ for \d+\.\d s")
        assert neighbour.response().status == 200
        live.wait_log("will be replaced")
        # What is left has had its time, so it is not given graceful_timeout as well.
        wait_until(lambda: live.children() and worker not in live.children(), 15)
    assert live.log().count("stuck in") == 1
    assert re.search(r"File .*app.py.*\n *time.sleep", live.log())
    assert fetch(live.port).status == 200


def test_a_call_that_lets_no_thread_run_is_a_hang(server: StartServer) -> None:
    live = gthread(server, "-w", "1", "--threads", "4", "--timeout", "1")
    (worker,) = live.wait_children(1)
    with Connection(live.port) as connection:
        connection.ask("/hold")
        live.wait_log(r"hung in GET /hold HTTP/1.1")
        wait_until(lambda: worker not in live.children(), 5)


def test_every_request_is_in_the_access_log(server: StartServer, tmp_path: pathlib.Path) -> None:
    log = tmp_path / "access.log"
    live = gthread(server, "-w", "1", "--threads", "4", "--access-logfile", str(log))
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda number: fetch(live.port, f"/{number}"), range(100)))
    wait_until(lambda: log.read_text().count("\n") == 100, 2)
    assert sorted(map(int, re.findall(r"GET /(\d+) HTTP", log.read_text()))) == list(range(100))


def test_lines_of_several_threads_do_not_mix(server: StartServer) -> None:
    live = gthread(server, "-w", "1", "--threads", "4")
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda number: fetch(live.port, f"/log?{number}"), range(4)))
    for number in range(4):
        live.wait_log(rf"one half and the other {number}\n")


def test_a_full_worker_accepts_no_more(server: StartServer) -> None:
    live = gthread(server, "-w", "1", "--threads", "2", "--worker-connections", "3", "--keep-alive", "60")
    crowd = [Connection(live.port) for _ in range(3)]
    assert [each.exchange().status for each in crowd] == [200] * 3
    with Connection(live.port, 0.5) as another:
        another.ask()
        with pytest.raises(TimeoutError):
            another.response()
    with Connection(live.port) as another:
        another.ask()
        crowd.pop().close()
        crowd.pop().close()
        assert another.response().status == 200
    crowd.pop().close()


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_the_silent_make_room_in_a_full_worker(server: StartServer, kind: str) -> None:
    """Whoever has been served keeps its place, and whoever runs a request."""
    limits = ("--worker-connections", "5", "--head-timeout", "60", "--keep-alive", "60")
    live = server("tests.apps.basic", "-w", "1", "-k", kind, "--threads", "2", *limits)
    with contextlib.ExitStack() as stack:
        served, busy, *silent = [stack.enter_context(Connection(live.port)) for _ in range(5)]
        assert served.exchange().status == 200
        busy.ask("/slow/2")
        for each in silent:
            each.send(b"GET / HTTP/1.1\r\nHost: ")
        for _ in range(3):
            assert stack.enter_context(Connection(live.port)).exchange().status == 200
        assert [each.rest() for each in silent] == [b""] * 3
        assert busy.response().status == 200
        assert served.exchange().status == 200
    live.wait_log(r"worker 1: full, with 5 connections \(worker_connections\); closed 3 of them")


@pytest.mark.parametrize("kind", [("gthread", "--threads", "4"), ("gevent",), ("gevent", "--preload")])
def test_a_reload_loses_nothing(server: StartServer, kind: tuple[str, ...]) -> None:
    live = server("tests.apps.basic", "-w", "2", "-k", *kind)
    live.wait_log("is ready", count=2 + ("--preload" in kind))
    with Load(live.port) as load:
        wait_until(lambda: len(load.answers) > 50, 10)
        before = load.pids()
        live.send(signal.SIGHUP)
        wait_until(lambda: len(load.pids() - before) == 2, 15, "both new workers have answered")
    assert load.losses == []


@pytest.mark.parametrize("kind", [("gthread", "--threads", "4"), ("gevent",)])
def test_a_worker_far_beyond_max_requests_passes_on_those_it_keeps(server: StartServer, kind: tuple[str, ...]) -> None:
    # Replacements take so long to boot that none comes to help.
    source = "import os, time\nif os.path.exists('served'):\n    time.sleep(60)\n" + SOURCE
    live = server("app", "-w", "2", "-k", *kind, "--max-requests", "20", source=source)
    live.wait_log("is ready", count=2)
    (live.folder / "served").touch()
    served: collections.Counter[bytes] = collections.Counter()
    while served.total() < 100:
        with Connection(live.port) as connection:
            closes = False
            while served.total() < 100 and not closes:
                answer = connection.exchange("/sleep?0.005")
                closes = answer.closes
                served[answer.body.split()[0]] += 1
    # Without replacements both share what is beyond the limit.
    assert len(served) == 2
    assert min(served.values()) >= 30


def test_who_has_waited_for_a_thread_until_the_end_is_told(server: StartServer) -> None:
    live = gthread(server, "--threads", "1", "--graceful-timeout", "1")
    with Connection(live.port) as waiting, Connection(live.port) as running:
        assert waiting.exchange("/").status == 200
        running.ask("/sleep?30")
        live.wait_log("asleep")
        waiting.ask("/")
        assert live.stop() == 5
        response = waiting.response()
        assert (response.status, response.closes, "retry-after" in response.headers) == (503, True, True)
        assert waiting.rest() == b""
        with pytest.raises(BrokenResponse):
            running.response()
    assert live.said("Stopped by force: 1 request was cut off")
