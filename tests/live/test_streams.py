"""Blocks of a stream may leave together, but none is late, lost, doubled or out of order."""

import concurrent.futures
import importlib.util
import random
import socket
from collections.abc import Iterator

import pytest

from tests.conftest import LiveServer, SharedServers
from tests.live.client import Connection, fetch

pytestmark = pytest.mark.live

SOURCE = """
import os, random, time

def blocks(seed, sizes):
    chosen = random.Random(seed)
    for _ in range(chosen.randrange(1, 400)):
        yield chosen.randbytes(chosen.choice(sizes))

SIZES = {
    "small": (0, 1, 16, 300),
    "around": (4095, 4096, 4097, 5000),
    "large": (65536, 100000),
    "mixed": (1, 20, 4000, 70000),
}

def waiting():
    # The first goes with the head, the rest in quick succession; then nothing, until the client has seen all of them.
    for number in range(10):
        yield b"%d;" % number
    while not os.path.exists("seen"):
        time.sleep(0.001)
    yield b"end"

def busy():
    for number in range(10):
        yield b"%d;" % number
    while not os.path.exists("seen"):
        pass
    yield b"end"

def failing():
    for number in range(100):
        yield b"0123456789"
    raise RuntimeError("enough")

def forking():
    for number in range(100):
        yield b"0123456789"
    pid = os.fork()
    for number in range(100):
        yield b"0123456789"
    if pid:
        os.waitpid(pid, 0)
    yield b"end"

def application(environ, start_response):
    name, _, rest = environ["PATH_INFO"].lstrip("/").partition("/")
    headers = []
    if name in SIZES:
        seed = int(rest)
        if environ["QUERY_STRING"] == "counted":
            headers.append(("Content-Length", str(sum(map(len, blocks(seed, SIZES[name]))))))
        start_response("200 OK", headers)
        return blocks(seed, SIZES[name])
    if name == "pid":
        start_response("200 OK", headers)
        return [b"%d" % os.getpid()]
    start_response("200 OK", headers)
    return {"waiting": waiting, "busy": busy, "failing": failing, "forking": forking}[name]()
"""

SIZES = {
    "small": (0, 1, 16, 300),
    "around": (4095, 4096, 4097, 5000),
    "large": (65536, 100000),
    "mixed": (1, 20, 4000, 70000),
}


KINDS = {
    "sync": ("-k", "sync"),
    "gthread": ("-k", "gthread", "--threads", "4"),
    "gevent": ("-k", "gevent"),
}
PLAIN_CORE = {"WSGICLUSTER_PURE": "1"}


@pytest.fixture(params=[f"{kind}, {core}" for kind in KINDS for core in ("compiled", "plain")])
def streams(request: pytest.FixtureRequest, shared_servers: SharedServers) -> Iterator[LiveServer]:
    """One worker of each kind with the application above."""
    kind, _, core = request.param.partition(", ")
    if kind == "gevent" and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    environ = PLAIN_CORE if core == "plain" else {}
    with shared_servers.lend("app", "-w", "1", "--timeout", "20", *KINDS[kind], source=SOURCE, environ=environ) as lent:
        yield lent


def blocks(seed: int, sizes: tuple[int, ...]) -> bytes:
    """What the application of the same name gives, in one."""
    chosen = random.Random(seed)
    return b"".join([chosen.randbytes(chosen.choice(sizes)) for _ in range(chosen.randrange(1, 400))])


@pytest.mark.parametrize("framing", ["counted", "chunked"])
@pytest.mark.parametrize("name", SIZES)
def test_every_byte_in_its_place(streams: LiveServer, name: str, framing: str) -> None:
    for seed in range(4):
        with Connection(streams.port) as connection:
            response = connection.exchange(f"/{name}/{seed}?{framing}")
            assert response.body == blocks(seed, SIZES[name]), seed
            if not response.closes:
                assert connection.exchange("/pid").body.isdigit()


@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_a_slow_reader_gets_every_byte(streams: LiveServer, framing: str) -> None:
    with Connection(streams.port) as connection:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.ask(f"/large/7?{framing}")
        # It does not read before the application has given everything: another request is answered.
        assert fetch(streams.port, "/pid").status == 200
        assert connection.response().body == blocks(7, SIZES["large"])


def test_responses_that_are_made_at_the_same_time_do_not_mix(streams: LiveServer) -> None:
    def ask(seed: int) -> bool:
        with Connection(streams.port) as connection:
            name = list(SIZES)[seed % 4]
            return connection.exchange(f"/{name}/{seed}?chunked").body == blocks(seed, SIZES[name])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(24)))


@pytest.mark.parametrize("name", ["waiting", "busy"])
def test_no_block_waits_for_the_next(streams: LiveServer, name: str) -> None:
    seen = streams.folder / "seen"
    seen.unlink(missing_ok=True)
    with Connection(streams.port) as connection:
        connection.ask(f"/{name}")
        got = b""
        while b"9;" not in got:  # the socket's timeout ends a wait in vain
            got += connection.sock.recv(65536)
        seen.touch()
        while b"end" not in got:
            got += connection.sock.recv(65536)
    assert got.count(b";") == 10


def test_what_was_given_before_a_failure_is_sent_and_the_response_not_completed(streams: LiveServer) -> None:
    with Connection(streams.port) as connection:
        connection.ask("/failing")
        got = connection.rest()
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert not got.endswith(b"0\r\n\r\n")
    assert fetch(streams.port, "/pid").status == 200


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(streams: LiveServer) -> None:
    pid = fetch(streams.port, "/pid").body
    for seed in range(20):
        with Connection(streams.port) as connection:
            connection.ask(f"/mixed/{seed}?chunked")
            connection.sock.recv(1000)
    assert fetch(streams.port, "/pid").body == pid


def test_a_process_forked_in_the_middle_sends_nothing(streams: LiveServer) -> None:
    with Connection(streams.port) as connection:
        assert connection.exchange("/forking").body == b"0123456789" * 200 + b"end"
    assert fetch(streams.port, "/pid").status == 200
