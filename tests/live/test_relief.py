"""Clients that a sync worker keeps do not wait behind a slow request while another worker is idle."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificates, make_certificates
from tests.conftest import LiveServer, StartServer, descriptors_of, wait_until
from tests.live.client import Connection
from tests.live.tls_client import MemoryClient, TlsClient

pytestmark = pytest.mark.live

SOURCE = """
import os, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path != "/":
        print("begun in", os.getpid(), file=environ["wsgi.errors"])
    if path == "/sleep":
        until_told(0.01)
    elif path == "/compute":
        until_told(0)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return slow(body) if path == "/stream" else [body]

def until_told(nap_s):
    while not os.path.exists("go"):
        time.sleep(nap_s) if nap_s else sum(range(10_000))

def slow(body):
    yield body[:1]
    until_told(0.01)
    yield body[1:]
"""


def clients_of_both(
    live: LiveServer, owned: contextlib.ExitStack, count: int, connect: Callable[[int], Connection] = Connection
) -> dict[bytes, list[Connection]]:
    """Kept clients of either of two workers, by its pid; of one of them so many.

    On a busy machine one worker may accept all that come, for longer than a connection is kept; so it is given a
    request that is slow, and the log is forgotten with that.
    """
    here: dict[bytes, list[Connection]] = {}

    def come() -> None:
        client = owned.enter_context(connect(live.port))
        here.setdefault(client.exchange().body, []).append(client)

    while max(map(len, here.values()), default=0) < count:
        come()
    while len(here) < 2:
        slow = owned.enter_context(connect(live.port))
        slow.ask("/sleep")
        live.wait_log("begun")
        come()
        (live.folder / "go").touch()
        answer = slow.response()
        if not answer.closes:
            here.setdefault(answer.body, []).append(slow)
        (live.folder / "go").unlink()
        live.forget_log()
    return here


@pytest.mark.parametrize(("path", "pure"), [("/sleep", "0"), ("/sleep", "1"), ("/compute", "0"), ("/stream", "0")])
def test_who_is_kept_by_a_busy_worker_is_served_by_another(server: StartServer, path: str, pure: str) -> None:
    """(Node 99)"""
    live = server("app", "-w", "2", "--keep-alive", "30", source=SOURCE, environ={"WSGICLUSTER_PURE": pure})
    live.wait_log("2 workers serve")
    with contextlib.ExitStack() as owned:
        here = clients_of_both(live, owned, 5)
        busy, (slow, *others) = max(here.items(), key=lambda item: len(item[1]))
        slow.ask(path)
        live.wait_log("begun")
        for connection in others:
            assert connection.exchange().body != busy
        # They are at home there: also what they ask next is answered, and so is the slow request.
        for connection in others:
            assert connection.exchange().body != busy
        (live.folder / "go").touch()
        answer = slow.response()
        assert (answer.status, answer.body) == (200, busy)
        assert slow.exchange().body
    assert "Traceback" not in live.whole_log()


def at_rest(pid: str, rest_s: float = 0.2) -> Callable[[], bool]:
    """Whether no thread of a process has run for a while: none looks from time to time."""
    seen: list[tuple[float, list[str]]] = []

    def is_resting() -> bool:
        now = time.monotonic()
        switches = [path.read_text().split("ctxt_switches:")[1] for path in Path("/proc", pid, "task").glob("*/status")]
        if not seen or seen[-1][1] != switches:
            seen.append((now, switches))
        return now - seen[-1][0] > rest_s

    return is_resting


def test_a_single_kept_client_does_not_wait_for_one_who_has_just_come(server: StartServer) -> None:
    live = server("app", "-w", "2", "--keep-alive", "30", source=SOURCE)
    live.wait_log("2 workers serve")
    with contextlib.ExitStack() as owned:
        kept: dict[bytes, Connection] = {}
        for pid, (single, *others) in clients_of_both(live, owned, 1).items():
            kept[pid] = single
            for other in others:
                other.close()
        for pid in kept:
            wait_until(at_rest(pid.decode()), 10, "no thread of the worker runs")
        slow = owned.enter_context(Connection(live.port, 20))
        slow.ask("/sleep", extra="Connection: close\r\n")
        live.wait_log("begun")
        (busy,) = [pid for pid in kept if f"begun in {pid.decode()}\n" in live.log()]
        assert kept[busy].exchange().body != busy
        (live.folder / "go").touch()
        assert slow.response().body == busy


@contextlib.contextmanager
def two_of_a_worker(
    live: LiveServer, connect: Callable[[int], Connection] = Connection
) -> Iterator[tuple[Connection, Connection, bytes]]:
    """Two kept clients of one worker of two, and its pid; the other worker has one."""
    with contextlib.ExitStack() as owned:
        here = clients_of_both(live, owned, 2, connect)
        pid, (one, other, *_) = max(here.items(), key=lambda item: len(item[1]))
        yield one, other, pid


def other_switches(pid: int) -> int:
    """How often threads besides the first have been given a processor."""
    switches = 0
    for path in Path("/proc", str(pid), "task").glob("*/status"):
        if path.parent.name != str(pid):
            switches += int(path.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return switches


@pytest.mark.parametrize("pure", ["0", "1"])
def test_quick_requests_wake_no_other_thread(server: StartServer, pure: str) -> None:
    live = server("app", "-w", "2", "--keep-alive", "30", source=SOURCE, environ={"WSGICLUSTER_PURE": pure})
    live.wait_log("2 workers serve")
    with two_of_a_worker(live) as (one, _, body):
        pid = int(body)
        wait_until(at_rest(body.decode()), 10, "no thread of the worker runs")
        before, requests = other_switches(pid), 20
        for _ in range(requests):
            assert one.exchange().body == body
            wait_until(at_rest(body.decode(), 0.001), 10, "the worker waits")
        # On a busy machine one may come while the loop is still on its way to wait.
        assert other_switches(pid) - before < requests // 2


def test_turned_off_kept_clients_wait(server: StartServer) -> None:
    live = server("app", "-w", "2", "--keep-alive", "30", "--no-hand-off-waiting", source=SOURCE)
    live.wait_log("2 workers serve")
    with two_of_a_worker(live) as (slow, other, busy):
        slow.ask("/sleep")
        live.wait_log("begun")
        other.ask()
        other.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.sock.recv(1, socket.MSG_PEEK)
        other.sock.settimeout(20)
        (live.folder / "go").touch()
        assert other.response().body == busy
        assert slow.response().body == busy


def test_a_sibling_that_is_killed_before_it_takes_one_loses_none(server: StartServer) -> None:
    live = server("app", "-w", "2", "--keep-alive", "30", source=SOURCE)
    live.wait_log("2 workers serve")
    with two_of_a_worker(live) as (slow, other, busy):
        (idle,) = [pid for pid in live.children() if pid != int(busy)]
        slow.ask("/sleep")
        live.wait_log("begun")
        os.kill(idle, signal.SIGSTOP)
        before = len(descriptors_of(int(busy)))
        other.ask()
        wait_until(lambda: len(descriptors_of(int(busy))) < before, 10, "it has been handed off")
        os.kill(idle, signal.SIGKILL)
        assert other.response().body not in (busy, str(idle).encode())
        (live.folder / "go").touch()
        assert slow.response().body == busy


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_tls_moves_before_the_handshake_and_not_after_it(server: StartServer, certificates: Certificates) -> None:
    live = server(
        "app", "-w", "2", "--keep-alive", "30", "--defer-accept", "0", *certificates.flags(), source=SOURCE
    )  # fmt: skip
    live.wait_log("2 workers serve")
    context = certificates.client()
    with (
        two_of_a_worker(live, lambda port: TlsClient(port, context, timeout_s=20)) as (slow, kept, busy),
        contextlib.ExitStack() as owned,
    ):
        silent = [owned.enter_context(MemoryClient(live.port, context)) for _ in range(6)]
        wait_until(at_rest(busy.decode()), 10, "they have been accepted")
        slow.ask("/sleep")
        live.wait_log("begun")
        kept.ask()
        for client in silent:
            client.shake_hands()
        (live.folder / "go").touch()
        assert kept.response().body == busy
        assert slow.response().body == busy
