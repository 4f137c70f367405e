"""Which worker serves a client, under each scheduling policy; and that nothing of what it sends is lost on its way."""

import collections
import contextlib
import json
import os
import random
import re
import select
import shlex
import signal
import socket
import ssl
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.certificates import make_certificates
from tests.conftest import (
    ROOT,
    LiveServer,
    StartServer,
    descriptors_of,
    has_at_most,
    is_alive,
    steady_descriptors,
    wait_until,
)
from tests.live.client import BrokenResponse, Connection, Response
from tests.live.tls_client import TlsClient
from wsgicluster.worker.scheduling.placement import VACANT_S

pytestmark = pytest.mark.live

SOURCE = """
import json, os, time

def application(environ, start_response):
    sent = environ["wsgi.input"].read()
    size = len(sent)
    path = environ["PATH_INFO"]
    if path == "/set":
        from wsgicluster import cluster
        cluster.send("steward", json.loads(sent), "set")
    if path == "/sleep":
        print("begun in", os.getpid(), file=environ["wsgi.errors"])
        while not os.path.exists("go"):
            time.sleep(0.01)
    peer = environ["REMOTE_ADDR"]
    body = f"{environ['wsgicluster.slot']} {os.getpid()} {size} {path} {peer}".encode()
    status = "304 Not Modified" if path == "/304" else "200 OK"
    headers = [] if path == "/304" else [("Content-Length", str(len(body)))]
    if path == "/public":
        headers.append(("Cache-Control", "public, max-age=60"))
    start_response(status, headers)
    return [] if path == "/304" else [body]
"""

STEWARD = """
from wsgicluster import cluster

@cluster.on_message("set")
def set_scheduling(message):
    try:
        cluster.set_scheduling(**message.value)
    except ValueError as error:
        with open("refused", "a") as file:
            print(error, file=file)
"""

KINDS = [("sync", "0"), ("sync", "1"), ("gthread", "0"), ("gevent", "0"), ("gthread", "1")]
each_kind = pytest.mark.parametrize(("kind", "pure"), KINDS)


POLICIES = {
    "round-robin": ("--scheduling", "round-robin"),
    "weighted": ("--weights", "2,1,1"),
    "least-connections": ("--scheduling", "least-connections"),
    "address": ("--sticky", "address", "--forwarded-hops", "1"),
    "header": ("--sticky", "header:X-User"),
    "cookie": ("--sticky", "cookie"),
}
"""The arguments of each policy, for three workers."""


def fields_of(number: int, cookies: dict[int, str]) -> str:
    """The fields that a client is known by, under any policy."""
    cookie = f"Cookie: {cookies[number]}\r\n" if number in cookies else ""
    return f"X-User: u{number}\r\nX-Forwarded-For: 203.0.113.{number}\r\n{cookie}"


def slot_of(answer: Response) -> int:
    return int(answer.body.split()[0])


def start(server: StartServer, kind: str, pure: str, *arguments: str, workers: int = 4) -> LiveServer:
    live = server(
        "app", "-w", str(workers), "-k", kind, "--defer-accept", "0", "--keep-alive", "60", *arguments,
        source=SOURCE, environ={"WSGICLUSTER_PURE": pure},
    )  # fmt: skip
    live.wait_log("workers serve|worker serves")
    return live


@contextlib.contextmanager
def kept(live: LiveServer, count: int) -> Iterator[list[Connection]]:
    clients: list[Connection] = []
    try:
        for _ in range(count):
            clients.append(Connection(live.port))
        yield clients
    finally:
        for each in clients:
            each.close()


def wait_placed(live: LiveServer, count: int) -> None:
    """Wait until so many connections are with the workers that are to serve them, before the first request runs.

    One that takes its time, if only for want of a processor, has others take what its worker has not accepted yet.
    """

    def are_placed() -> bool:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        # Of those that are established, on the server's side; one that nobody has accepted has no inode yet.
        of_clients = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{live.port:04X}") and row[3] == "01"}
        return sum(name in of_clients for pid in live.children() for name in descriptors_of(pid).values()) == count

    wait_until(are_placed, 20, f"{count} connections are placed")


def shares(connections: list[Connection]) -> collections.Counter[int]:
    return collections.Counter(slot_of(each.exchange()) for each in connections)


@each_kind
def test_round_robin_gives_each_worker_the_same(server: StartServer, kind: str, pure: str) -> None:
    """200 connections over 4 workers within 2 % (Node 41: round_robin_handle.js)."""
    live = start(server, kind, pure, "--scheduling", "round-robin")
    with kept(live, 200) as clients:
        wait_placed(live, 200)
        first = shares(clients)
        assert all(abs(first[slot] - 50) <= 1 for slot in range(1, 5)), first
        assert shares(clients) == first, "a kept connection stays where it is"
    with kept(live, 40) as clients:
        assert len(shares(clients)) == 4
    assert "Traceback" not in live.log()


@each_kind
def test_weights_are_kept(server: StartServer, kind: str, pure: str) -> None:
    live = start(server, kind, pure, "--weights", "3,2,1,1")
    with kept(live, 210) as clients:
        wait_placed(live, 210)
        found = shares(clients)
    for slot, weight in enumerate((3, 2, 1, 1), 1):
        assert abs(found[slot] / 210 - weight / 7) <= 0.03, found


@pytest.mark.parametrize(("kind", "pure"), [("gthread", "0"), ("sync", "1"), ("gevent", "0")])
def test_least_connections_leaves_out_a_busy_worker(server: StartServer, kind: str, pure: str) -> None:
    """Keep-alive makes balancing by connections unfair: what counts is requests in progress (Node 99: issue 2108)."""
    live = start(server, kind, pure, "--scheduling", "least-connections", *(("--threads", "4") * (kind == "gthread")))
    with Connection(live.port) as slow:
        slow.ask("/sleep")
        live.wait_log("begun in")
        with kept(live, 30) as clients:
            answers = [each.exchange() for each in clients]
        (live.folder / "go").touch()
        busy = slow.response()
    assert busy.status == 200
    assert all(slot_of(each) != slot_of(busy) for each in answers)
    found = collections.Counter(map(slot_of, answers))
    assert len(found) == 3, found


IN_PROGRESS = """
import json, os, time
from wsgicluster.ipc import membership
from wsgicluster.ipc.scoreboard import Cell

def application(environ, start_response):
    rows = membership.current().board.children(Cell.SLOT, Cell.RUNNING)
    found = {slot: running for _, slot, running in rows if slot}
    with open("begun", "a") as file:
        file.write(json.dumps([environ["wsgicluster.slot"], found]) + "\\n")
    while not os.path.exists(environ["PATH_INFO"][1:]):
        time.sleep(0.005)
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


def test_no_request_goes_to_a_worker_with_more_in_progress_than_another(server: StartServer) -> None:
    """By the numbers on the workers' pages, as each request finds them; some end meanwhile, in any order."""
    live = server(
        "app", "-w", "4", "-k", "gthread", "--threads", "12", "--scheduling", "least-connections", source=IN_PROGRESS
    )
    live.wait_log("4 workers serve")
    begun = live.folder / "begun"
    chance = random.Random(5)
    with contextlib.ExitStack() as owned:
        running: dict[int, Connection] = {}
        for number in range(60):
            running[number] = owned.enter_context(Connection(live.port))
            running[number].ask(f"/end{number}", extra="Connection: close\r\n")
            wait_until(lambda: begun.exists() and begun.read_text().count("\n") == number + 1, 10, "it has begun")  # noqa: B023
            if number % 3 == 2:
                over = chance.choice(sorted(running))
                (live.folder / f"end{over}").touch()
                ended = running.pop(over)
                assert ended.response().status == 200
                assert ended.rest() == b"", "its worker's page shows by now that it is over"
        for number, client in running.items():
            (live.folder / f"end{number}").touch()
            assert client.response().status == 200
    for line in begun.read_text().splitlines():
        slot, in_progress = json.loads(line)
        assert in_progress[str(slot)] - 1 <= min(in_progress.values()), line


# Nothing of what a client sends is lost.


@each_kind
def test_every_byte_travels_with_its_connection(server: StartServer, kind: str, pure: str) -> None:
    live = start(server, kind, pure, "--sticky", "header:X-User")
    for number in range(12):
        with Connection(live.port) as client:
            user = f"X-User: u{number}\r\n"
            other = f"X-User: v{number}\r\n"
            # Three requests in one piece, for two workers; a body in pieces, one in chunks.
            client.send(b"".join(
                f"POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{who}\r\nhello".encode()
                for n, who in enumerate((user, other, user))
            ))  # fmt: skip
            first, second, third = (client.response() for _ in range(3))
            assert [each.body.split()[2:4] for each in (first, second, third)] == [
                [b"5", b"/0"], [b"5", b"/1"], [b"5", b"/2"],
            ]  # fmt: skip
            assert slot_of(first) == slot_of(third)
            client.send(f"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n{other}\r\nbe".encode())
            client.send(b"x" * 100_000)
            client.send(b"y" * 199_998)
            assert client.response().body.split()[2] == b"300000"
            chunked = f"POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{user}\r\n4\r\nabcd\r\n"
            client.send(chunked.encode())
            client.send(b"3\r\nefg\r\n0\r\n\r\n")
            answer = client.response()
            assert (answer.body.split()[2], slot_of(answer)) == (b"7", slot_of(first))
            head = f"GET /head HTTP/1.1\r\nHost: a\r\n{other}"
            client.send(head[:20].encode())
            client.send(head[20:].encode() + b"\r\n")
            assert slot_of(client.response()) == slot_of(second)


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
@pytest.mark.parametrize("policy", [("--scheduling", "round-robin"), ("--sticky", "address")])
def test_a_connection_moves_before_it_is_encrypted(
    server: StartServer, tmp_path: Path, kind: str, policy: tuple[str, str]
) -> None:
    certificates = make_certificates(tmp_path)
    live = start(server, kind, "0", *policy, *certificates.flags())
    found: collections.Counter[int] = collections.Counter()
    for _ in range(16):
        with TlsClient(live.port, certificates.client()) as client:
            found[slot_of(client.exchange())] += 1
            found[slot_of(client.exchange("/", "POST", b"x" * 50_000))] += 1
    assert sorted(found.values()) == ([8, 8, 8, 8] if policy[1] == "round-robin" else [32])
    assert "Traceback" not in live.log()


@pytest.mark.parametrize("policy", [("--scheduling", "round-robin"), ("--sticky", "address")])
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_proxy_header_travels_too(
    server: StartServer, tmp_path: Path, policy: tuple[str, str], encrypted: bool
) -> None:
    certificates = make_certificates(tmp_path)
    live = start(
        server, "sync", "0", *policy, "--proxy-protocol", *(certificates.flags() if encrypted else ()), workers=3
    )
    home: dict[str, set[int]] = {}
    # So many that by chance one worker has none of them once in millions of runs.
    for number in [*range(40), *range(40)]:
        address = f"203.0.113.{number}"
        sock = socket.create_connection(("127.0.0.1", live.port), 20)
        sock.sendall(f"PROXY TCP4 {address} 198.51.100.1 4711 443\r\n".encode())
        with contextlib.closing(sock):
            spoken = certificates.client().wrap_socket(sock, server_hostname="localhost") if encrypted else sock
            spoken.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = b""
            with contextlib.suppress(ssl.SSLError):
                while data := spoken.recv(65536):
                    answer += data
            spoken.close()
        slot, _, _, _, peer = answer.partition(b"\r\n\r\n")[2].split()
        assert peer.decode() == address
        home.setdefault(address, set()).add(int(slot))
    assert len(set.union(*home.values())) == 3
    if policy[0] == "--sticky":
        assert all(len(slots) == 1 for slots in home.values()), home


# Sticky


class Clients:
    """Many clients of a sticky server, and where each of them was served first."""

    def __init__(self, live: LiveServer, form: str, count: int = 60) -> None:
        self.live = live
        self.form = form
        self.count = count
        self.home: dict[int, int] = {}
        self.cookies: dict[int, str] = {}

    def ask(self, number: int, connection: Connection) -> tuple[int, bool]:
        extra = ""
        if self.form == "header":
            extra = f"X-User: u{number}\r\n"
        elif self.form == "forwarded":
            extra = f"X-Forwarded-For: 203.0.113.{number % 250}, 10.0.0.{number % 200}\r\n"
        elif number in self.cookies:
            extra = f"Cookie: a=b; {self.cookies[number]}\r\n"
        answer = connection.exchange("/", extra=extra)
        cookie = answer.headers.get("set-cookie", "")
        if self.form == "cookie":
            assert bool(cookie) is (number not in self.cookies), "set once only"
            self.cookies.setdefault(number, cookie.split(";")[0])
        else:
            assert not cookie
        return slot_of(answer), answer.closes

    def moved(self, connections: list[Connection] | None = None) -> int:
        """How many are served elsewhere than first, on new connections or on these."""
        count = 0
        for number in range(self.count):
            with contextlib.ExitStack() as owned:
                if connections:
                    connection = connections[number % len(connections)]
                else:
                    connection = owned.enter_context(Connection(self.live.port))
                slot, closes = self.ask(number, connection)
                if closes and connections:
                    # A worker that leaves announces with its response that it keeps no connection.
                    connection.close()
                    connections[number % len(connections)] = Connection(self.live.port)
            count += slot != self.home.setdefault(number, slot)
        return count


FORMS = {
    "header": ("--sticky", "header:X-User"),
    "cookie": ("--sticky", "cookie"),
    "forwarded": ("--sticky", "address", "--forwarded-hops", "2"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kind", "pure"), [("sync", "0"), ("sync", "1"), ("gthread", "0"), ("gevent", "0")])
def test_a_client_stays_with_its_worker(server: StartServer, kind: str, pure: str, form: str) -> None:
    live = start(server, kind, pure, *FORMS[form])
    clients = Clients(live, form)
    assert clients.moved() == 0
    assert clients.moved() == 0
    with kept(live, 7) as connections:
        # As behind a proxy that keeps few connections for many clients: each request is asked about.
        assert clients.moved(connections) == 0
        live.send(signal.SIGHUP)
        while "Reload complete" not in live.log():
            assert clients.moved(connections) == 0
            assert clients.moved() == 0
        assert clients.moved() == 0
    victim = live.wait_workers(4)[0]
    killed_at = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    moved = clients.moved()
    if time.monotonic() < killed_at + VACANT_S:
        assert moved == 0, "a slot keeps its clients for its next worker, so long"
    live.wait_log("is ready after", count=4 + 4 + 1)
    assert clients.moved() == 0


def test_one_more_worker_gets_its_share_and_no_other_client_moves(server: StartServer) -> None:
    live = start(server, "sync", "0", "--sticky", "header:X-User")
    clients = Clients(live, "header", 1000)
    with kept(live, 4) as connections:
        assert clients.moved(connections) == 0
        live.send(signal.SIGTTIN)
        live.wait_children(5)
        wait_until(lambda: clients.moved(connections) > 0, 10, "some have moved")
        moved = clients.moved(connections)
        assert 0 < moved <= 1000 * (1 / 5 + 0.05)
        now = collections.Counter(clients.ask(number, connections[0])[0] for number in range(1000))
        assert now[5] == moved


def test_a_cookie_is_set_only_where_it_is_needed(server: StartServer) -> None:
    live = start(server, "sync", "0", "--sticky", "cookie:home", workers=3)
    with Connection(live.port) as client:
        answer = client.exchange("/")
        cookie = answer.headers["set-cookie"]
        assert answer.headers["cache-control"] == "private"
        assert cookie.startswith(f"home={slot_of(answer)}.")
        assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
        assert client.exchange("/public").headers["cache-control"] == "max-age=60, private"
        assert "set-cookie" not in client.exchange("/304").headers
        good = cookie.partition(";")[0]
        again = client.exchange("/public", extra=f"Cookie: {good}\r\n")
        assert "set-cookie" not in again.headers
        assert again.headers["cache-control"] == "public, max-age=60"
        for forged in (good[:-1] + "!", good.replace("home=", "home=9"), "home=1.x", "home="):
            assert "set-cookie" in client.exchange("/", extra=f"Cookie: {forged}\r\n").headers
        secure = client.exchange("/", extra="X-Forwarded-Proto: https\r\n").headers["set-cookie"]
        assert secure.endswith("; SameSite=Lax; Secure") or "Secure" not in secure


def test_it_is_said_that_all_come_from_one_address(server: StartServer) -> None:
    """Clients behind one proxy are all bound to one worker (Node: sticky-session 6)."""
    live = start(server, "sync", "0", "--sticky", "address", workers=2)
    for _ in range(410):
        with Connection(live.port) as client:
            client.exchange()
    live.wait_log("over half of the clients have the address 127.0.0.1")
    assert live.log().count("over half of the clients") == 1


def test_clients_of_a_unix_socket_are_served_in_turn(server: StartServer, tmp_path: Path) -> None:
    """(Node 28)"""
    path = tmp_path / "s"
    live = server("app", "-w", "2", "--sticky", "address", source=SOURCE, bind=f"unix:{path}")
    live.wait_log("2 workers serve")
    assert "round-robin for clients of a Unix socket" in live.log()
    with contextlib.ExitStack() as owned:
        clients = [owned.enter_context(Connection(path)) for _ in range(10)]
        assert sorted(shares(clients).values()) == [5, 5]


# Workers that leave, die, or are full.


class Load:
    """Clients that connect anew for each request, and what became of them."""

    def __init__(self, live: LiveServer, threads: int = 6) -> None:
        self.answers = 0
        self.ends = 0
        self.late: list[float] = []
        self._live = live
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                with Connection(self._live.port) as client:
                    client.exchange(extra="Connection: close\r\n")
                self.answers += 1
            except (BrokenResponse, ConnectionError):
                self.ends += 1
            took = time.monotonic() - began
            if took > 10:
                self.late.append(took)


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        *(("sync", policy) for policy in POLICIES),
        ("gthread", "round-robin"),
        ("gevent", "header"),
        ("gthread", "cookie"),
    ],
)
def test_clients_of_a_stopped_worker_are_served_by_others(server: StartServer, kind: str, policy: str) -> None:
    """What lies in its mailbox goes to others after a second, and nothing more is put there until it takes it again."""
    live = start(server, kind, "0", *POLICIES[policy], "--timeout", "0", workers=3)
    cookies: dict[int, str] = {}

    def served(count: int = 40) -> list[int]:
        """The slots that serve clients which come at once."""
        with kept(live, count) as clients:
            for number, client in enumerate(clients):
                client.ask(extra=fields_of(number, cookies))
            answers = [client.response() for client in clients]
        for number, answer in enumerate(answers):
            if "set-cookie" in answer.headers:
                cookies[number] = answer.headers["set-cookie"].split(";")[0]
        return [slot_of(answer) for answer in answers]

    assert {1, 2, 3} == set(served())
    victim = live.wait_workers(3)[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        live.wait_log("was stopped by a signal")
        first, second = served(), served()
    finally:
        os.kill(victim, signal.SIGCONT)
    stopped = {1, 2, 3}.difference(second)
    assert len(stopped) == 1
    assert stopped.isdisjoint(first)
    wait_until(lambda: stopped < set(served()), 10, "it serves again")
    assert "Traceback" not in live.log()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_reload_under_round_robin_loses_nothing(server: StartServer, kind: str, workers: int) -> None:
    """Also with one worker (Node 96: issues 3551 and 1239)."""
    live = start(server, kind, "0", "--scheduling", "round-robin", workers=workers)
    with Load(live) as load:
        for count in range(1, 4):
            live.send(signal.SIGHUP)
            live.wait_log("Reload complete", count=count)
    assert (load.ends, load.late) == (0, [])
    assert load.answers > 20


@pytest.mark.parametrize("policy", ["round-robin", "weighted", "least-connections", "sticky"])
def test_a_killed_worker_leaves_no_client_without_an_end(server: StartServer, policy: str) -> None:
    """A connection on its way to a worker that dies gets an answer or an end (Node 92: v0.x issues 7006 and 7928)."""
    weights = ("--weights", "2,1,1,1") if policy == "weighted" else ()
    live = start(server, "sync", "0", "--scheduling", policy, *weights)
    with Load(live) as load:
        for number in range(12):
            before = live.wait_workers(4)
            os.kill(before[number % 4], signal.SIGKILL)
            wait_until(lambda: not is_alive(before[number % 4]), 10, "it is gone")  # noqa: B023
        live.wait_workers(4)
        enough = load.answers + 50
        wait_until(lambda: load.answers > enough, 20, "clients are served")
    assert load.late == []
    assert load.answers > load.ends


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_descriptors_are_as_few_as_before(server: StartServer, kind: str) -> None:
    """Handles that are passed on are not leaked (Node 93: issue 21746, pull request 43650)."""
    live = start(server, kind, "0", "--scheduling", "round-robin", workers=2)
    for _ in range(50):
        with Connection(live.port) as client:
            client.exchange()
    workers = live.wait_workers(2)
    counts = {pid: steady_descriptors(pid) for pid in (live.pid, *workers)}
    with Load(live) as load:
        wait_until(lambda: load.answers > 3000, 60, "3,000 connections")
    for pid, count in counts.items():
        wait_until(partial(has_at_most, pid, count), 10, f"the descriptors of {pid} are few again")


def test_a_full_worker_gives_back(server: StartServer) -> None:
    """All clients are served, though a worker has as many as it may (Node 42: test-net-server-drop-connection)."""
    live = start(server, "gthread", "0", "--weights", "9,1", "--worker-connections", "12", "--threads", "2", workers=2)
    with kept(live, 20) as clients:
        found = shares(clients)
    assert found.total() == 20
    assert found[1] <= 13, "it has given back what was beyond its limit"
    assert "Traceback" not in live.log()


@pytest.mark.parametrize(("kind", "pure"), [("sync", "0"), ("sync", "1"), ("gthread", "0")])
def test_clients_of_a_busy_worker_are_served_by_others(server: StartServer, kind: str, pure: str) -> None:
    """The free worker takes the next connection (Node: round_robin_handle.js)."""
    one_thread = ("--threads", "1") * (kind == "gthread")
    live = start(server, kind, pure, "--scheduling", "round-robin", *one_thread, workers=2)
    with Connection(live.port) as slow:
        slow.ask("/sleep")
        live.wait_log("begun in")
        with kept(live, 10) as clients:
            answers = [each.exchange() for each in clients]
        (live.folder / "go").touch()
        busy = slow.response()
    assert all(slot_of(each) != slot_of(busy) for each in answers)


@pytest.mark.parametrize("policy", POLICIES)
def test_when_all_are_busy_clients_are_refused_in_time(server: StartServer, policy: str) -> None:
    """503 with Retry-After after queue_timeout (Node 43: test-http-server-drop-connections-in-cluster)."""
    live = start(
        server, "gthread", "0", *POLICIES[policy], "--threads", "1", "--queue-timeout", "0.3", workers=3,
    )  # fmt: skip
    cookies: dict[int, str] = {}
    with kept(live, 40) as clients:
        for number, client in enumerate(clients):
            answer = client.exchange(extra=fields_of(number, cookies))
            if "set-cookie" in answer.headers:
                cookies[number] = answer.headers["set-cookie"].split(";")[0]
        for number, client in enumerate(clients):
            client.ask("/sleep", extra=fields_of(number, cookies))
        live.wait_log("begun in", count=3)

        def refused() -> list[Connection]:
            ready = select.select([client.sock for client in clients], [], [], 0)[0]
            return [client for client in clients if client.sock in ready]

        wait_until(lambda: len(refused()) == 37, 15, "all are refused but those whose requests run")
        waiting = refused()
        answers = [client.response() for client in waiting]
        (live.folder / "go").touch()
        assert [client.response().status for client in clients if client not in waiting] == [200] * 3
    assert {each.status for each in answers} == {503}
    assert all(each.headers["retry-after"] for each in answers)


def test_policies_change_with_a_reload(server: StartServer, tmp_path: Path) -> None:
    """Old and new workers serve side by side, and no connection waits in a mailbox that is not read. (Node 17)"""
    config = tmp_path / "settings.py"
    config.write_text("scheduling = 'round-robin'\n")
    live = start(server, "sync", "0", "-c", str(config), workers=2)
    with Load(live) as load:
        for count, policy in enumerate(("shared", "least-connections", "sticky", "round-robin"), 1):
            config.write_text(f"scheduling = {policy!r}\n")
            live.send(signal.SIGHUP)
            live.wait_log("Reload complete", count=count)
    assert (load.ends, load.late) == (0, [])


# Live changes


class Steered:
    """A server whose scheduling is changed while it runs."""

    def __init__(self, server: StartServer, folder: Path, kind: str, pure: str, *arguments: str) -> None:
        config = folder / "settings.py"
        config.write_text(STEWARD)
        self.live = start(server, kind, pure, "-c", str(config), *arguments)
        self.changes = 0
        self.refusals = 0

    def ask(self, **wanted: object) -> None:
        with Connection(self.live.port) as client:
            client.exchange("/set", "POST", json.dumps(wanted).encode())

    def change(self, **wanted: object) -> None:
        """Change it, and wait until all workers have been told."""
        self.changes += 1
        self.ask(**wanted)
        self.live.wait_log("Configuration file: scheduling is", count=self.changes)

    def refused(self, **wanted: object) -> str:
        """Why a change is refused."""
        path = self.live.folder / "refused"
        self.refusals += 1
        self.ask(**wanted)
        wait_until(lambda: path.exists() and path.read_text().count("\n") == self.refusals, 10, "it is refused")
        return path.read_text().splitlines()[-1]

    def becomes(self, fits: Callable[[collections.Counter[int]], bool], count: int = 70) -> None:
        """Wait until kept connections that are opened at once are shared so: workers are told one after the other."""

        def is_so() -> bool:
            with kept(self.live, count) as clients:
                return fits(shares(clients))

        wait_until(is_so, 15, "the policy is in force")


@pytest.mark.parametrize(("kind", "pure"), [("sync", "0"), ("gthread", "0"), ("gevent", "0"), ("sync", "1")])
def test_policies_change_in_running_workers(server: StartServer, tmp_path: Path, kind: str, pure: str) -> None:
    """No worker is replaced, and no client lost while hundreds come (Node: the policy is frozen at the first fork)."""
    steered = Steered(server, tmp_path, kind, pure)
    live = steered.live
    before = set(live.wait_children(5))
    with kept(live, 8) as old, Load(live) as load:
        assert all(each.exchange().status == 200 for each in old)
        steered.change(weights=[3, 2, 1, 1])
        steered.change(sticky="header:X-User")
        clients = Clients(live, "header", 60)

        def is_settled() -> bool:
            clients.home.clear()
            return clients.moved(old) + clients.moved(old) == 0 and len(set(clients.home.values())) == 4

        wait_until(is_settled, 15, "the connections that were open before are asked about, too")
        steered.change(sticky="cookie")
        clients = Clients(live, "cookie", 12)

        def all_have_cookies() -> bool:
            clients.cookies.clear()
            clients.home.clear()
            with contextlib.suppress(AssertionError):
                return clients.moved(old) + clients.moved(old) == 0
            return False

        wait_until(all_have_cookies, 15, "cookies are set by all")
        steered.change(scheduling="least-connections")
        steered.change(scheduling="shared")
        wait_until(lambda: not any("set-cookie" in each.exchange().headers for each in old), 10, "no cookie is set")
        enough = load.answers + 100
        wait_until(lambda: load.answers > enough, 30, "hundreds come")
    assert (load.ends, load.late) == (0, [])
    steered.change(scheduling="round-robin")
    steered.becomes(lambda found: max(found.values()) - min(found.values()) <= 1 and len(found) == 4, 80)
    steered.change(weights="3,2,1,1")
    steered.becomes(lambda found: [found[slot] for slot in (1, 2, 3, 4)] == [30, 20, 10, 10])
    assert set(live.wait_children(5)) == before
    with Connection(live.port) as client:
        victim = int(client.exchange().body.split()[1])
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not is_alive(victim), 10, "it is gone")
    assert before - set(live.wait_children(5)) == {victim}
    steered.becomes(lambda found: [found[slot] for slot in (1, 2, 3, 4)] == [30, 20, 10, 10])
    assert "Traceback" not in live.log()


def test_a_change_that_is_not_valid_is_refused_as_at_start(server: StartServer, tmp_path: Path) -> None:
    steered = Steered(server, tmp_path, "sync", "0", "--scheduling", "round-robin")
    for wanted, error in (
        ({"scheduling": "round"}, "scheduling: 'round'; expected one of shared, round-robin"),
        ({"weights": "1,2"}, "weights: 1,2; expected one for each of 4 workers"),
        ({"weights": "1,2,3,x"}, "weights: 'x'; expected whole numbers from 0 to 1000"),
        ({"scheduling": "weighted"}, "weights: none; expected one for each of 4 workers"),
        ({"scheduling": "round-robin", "sticky": "cookie"}, "expected scheduling = sticky with it, not round-robin"),
        ({"sticky": "body"}, "sticky: 'body'; expected address, header:NAME"),
        ({}, "scheduling: not given; expected one of shared"),
    ):
        assert error in steered.refused(**wanted), wanted
    steered.becomes(lambda found: sorted(found.values()) == [5, 5, 5, 5], 20)


def test_a_reload_takes_the_policy_of_the_settings_again(server: StartServer, tmp_path: Path) -> None:
    steered = Steered(server, tmp_path, "sync", "0", "--scheduling", "round-robin")
    steered.change(weights="1,0,0,0")
    steered.becomes(lambda found: len(found) == 1, 20)
    steered.live.send(signal.SIGHUP)
    steered.live.wait_log("Reload complete")
    steered.becomes(lambda found: sorted(found.values()) == [5, 5, 5, 5], 20)


# The page


def page() -> str:
    return (ROOT / "docs/howto/scheduling.rst").read_text("utf-8")


def test_the_commands_of_the_page_run(server: StartServer) -> None:
    commands = re.findall(r"\$ wsgicluster app:application (.*)", page())
    assert len(commands) == 7
    # All at a time: each of them waits for most of its start and of its stop.
    servers = [server("app", *shlex.split(command), source=SOURCE) for command in commands]
    for live in servers:
        live.wait_log("4 workers serve")
        with Connection(live.port) as client:
            assert client.exchange().status == 200
    for live in servers:
        live.send(signal.SIGTERM)
    assert [live.wait_end(20) for live in servers] == [0] * len(servers)


def test_the_snippets_of_the_page_run(server: StartServer, tmp_path: Path) -> None:
    config, calls = (
        textwrap.dedent(found) for found in re.findall(r"code-block:: python\n\n((?:(?: {4}.*)?\n)+)", page())
    )
    (tmp_path / "page.py").write_text(config)
    lines = "".join(f"    {line}\n" for line in calls.splitlines())
    source = f"""
from wsgicluster import cluster

def application(environ, start_response):
{lines}
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
    live = server("app", "-w", "4", "-c", str(tmp_path / "page.py"), source=source)
    live.wait_children(5)
    live.wait_log("4 workers serve")
    with Connection(live.port) as client:
        assert client.exchange().status == 200
    live.wait_log(
        "scheduling is weighted 3,2,1,1\n(.*\n)*.*scheduling is sticky by header:X-User\n(.*\n)*.*is shared\n"
    )
