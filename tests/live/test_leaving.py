"""A server that leaves: what its clients and its load balancer see, and what is said of a stop by force."""

import contextlib
import os
import pathlib
import signal
import struct
import threading
import time

import pytest

from tests.conftest import LiveServer, StartServer, descriptors_of, wait_until
from tests.live.client import BrokenResponse, Connection, fetch
from wsgicluster.ipc.scoreboard import PAGE_BYTES, PAGES, Cell, ServerState

pytestmark = pytest.mark.live


class StrictClients:
    """Clients that never repeat a request; only a refused connection tells them that the server is gone."""

    def __init__(self, port: int, count: int) -> None:
        self.answers = 0
        self.losses: list[str] = []
        self._port = port
        self._threads = [threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(count)]

    def __enter__(self) -> "StrictClients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(30)

    def _run(self, keep: bool) -> None:
        with contextlib.suppress(ConnectionRefusedError):
            while not self.losses:
                self._one_connection(keep)

    def _one_connection(self, keep: bool) -> None:
        connection = Connection(self._port)
        with connection:
            ended = False
            while not ended:
                try:
                    response = connection.exchange("/", "POST", b"12345", "" if keep else "Connection: close\r\n")
                except (OSError, BrokenResponse) as error:
                    self.losses.append(repr(error))
                    return
                self.answers += response.status == 200
                ended = response.closes


@pytest.mark.parametrize(("kind", "defer"), [("sync", "1"), ("sync", "0"), ("gthread", "1"), ("gevent", "1")])
def test_strict_clients_see_no_error(server: StartServer, kind: str, defer: str) -> None:
    """(Node 81)"""
    live = server("tests.apps.basic", "-w", "2", "-k", kind, "--defer-accept", defer)
    live.wait_log("Started")
    with StrictClients(live.port, 8) as clients:
        wait_until(lambda: clients.answers > 100, 20)
        live.send(signal.SIGTERM)
        assert live.wait_end() == 0
    assert clients.losses == []


def state(live: LiveServer) -> ServerState:
    """What the arbiter shows to all workers, read from its scoreboard."""
    paths = [f"/proc/{live.pid}/fd/{number}" for number in descriptors_of(live.pid)]
    with open(next(path for path in paths if os.stat(path).st_size == PAGE_BYTES * PAGES), "rb") as board:
        return ServerState(struct.unpack_from("Q", board.read(256), 8 * Cell.STATE)[0])


def test_it_is_not_ready_but_serves_until_the_delay_is_over(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "2", "--drain-delay", "0.7")
    live.wait_log("Started")
    wait_until(lambda: state(live) is ServerState.SERVING, 5)
    began = time.monotonic()
    live.send(signal.SIGTERM)
    live.wait_log(r"graceful stop in 0\.7 s \(drain_delay\)")
    assert live.wait_end() == 0
    assert time.monotonic() - began >= 0.7


def test_a_second_term_ends_the_delay(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "2", "--drain-delay", "1h")
    live.wait_log("Started")
    with Connection(live.port) as kept:
        assert kept.exchange("/ready").status == 200
        live.send(signal.SIGTERM)
        live.wait_log("graceful stop in 3600 s")
        assert state(live) is ServerState.LEAVING
        assert not state(live).is_ready
        assert fetch(live.port, "/ready").status == 503
        live.send(signal.SIGHUP)
        live.wait_log("Reload ignored")
        assert not kept.exchange().closes
        assert fetch(live.port).status == 200
        live.send(signal.SIGTERM)
        live.wait_log("SIGTERM: graceful stop\n")
        assert live.wait_end() == 0


def test_a_quick_stop_leaves_the_delay_out(server: StartServer) -> None:
    live = server("tests.apps.basic", "--drain-delay", "1h")
    live.wait_log("Started")
    live.send(signal.SIGTERM)
    live.wait_log("graceful stop in 3600 s")
    assert live.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("sync", r"1 request was cut off \(GET {mark}-0/60\), 1 worker had to be killed"),
        ("gthread", r"2 requests were cut off \(GET {mark}-[01]/60 and 1 more\)"),
        ("gevent", r"2 requests were cut off \(GET {mark}-[01]/60 and 1 more\)"),
    ],
)
def test_a_stop_by_force_says_what_it_has_cut(
    server: StartServer, tmp_path: pathlib.Path, kind: str, says: str
) -> None:
    live = server(
        "tests.apps.basic", "-k", kind, "--threads", "1" if kind == "sync" else "2", "--graceful-timeout", "0.5"
    )
    marks = [tmp_path / f"mark-{number}" for number in range(1 if kind == "sync" else 2)]
    with contextlib.ExitStack() as stack:
        for mark in marks:
            stack.enter_context(Connection(live.port)).ask(f"/mark/{mark}/60")
        for mark in marks:
            wait_until(mark.exists, 10)
        assert live.stop() == 5
    assert live.said(says.format(mark=f"/mark/{tmp_path}/mark") + "; the exit code is 5")
    if kind != "sync":
        assert live.said(r"graceful_timeout is over; cut 2 requests: GET .*/mark-0/60 HTTP/1\.1, GET .*/mark-1/60")
    assert not live.members()
