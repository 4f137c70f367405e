"""What the memory of large bodies costs: no page is had from the system for each, and all go back in the end."""

import importlib.util
import pathlib
import re

import pytest

from tests.conftest import StartServer, wait_until
from tests.live.client import Connection, fetch
from wsgicluster.http import core
from wsgicluster.worker.request.bodies import IDLE_S

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not core.compiled, reason="in plain Python the allocator is left as it is"),
]

SOURCE = """
import os

def application(environ, start_response):
    read, size = environ["wsgi.input"].read, 0
    while data := read(65536):
        size += len(data)
    start_response("200 OK", [])
    return [b"%d %d" % (os.getpid(), size)]
"""

KINDS = {"sync": ("-k", "sync"), "gthread": ("-k", "gthread", "--threads", "4"), "gevent": ("-k", "gevent")}

BODY = b"x" * (1024 * 1024)
CLIENTS = 24
PAGES_EACH = 20
"""Of the 256 that a body has."""


def page_faults(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[7])


def resident_bytes(pid: int) -> int:
    status = pathlib.Path(f"/proc/{pid}/status").read_text("utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None, status
    return int(found[1]) * 1024


def send_together(port: int) -> None:
    """Have so many bodies under way at a time, and let all arrive."""
    connections = [Connection(port) for _ in range(CLIENTS)]
    try:
        for connection in connections:
            connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY[1:])
        for connection in connections:
            connection.send(BODY[:1])
            assert connection.response("POST").body.endswith(b" %d" % len(BODY))
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("kind", KINDS)
def test_bodies_use_memory_again_and_give_it_back(server: StartServer, kind: str) -> None:
    if kind == "gevent" and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    live = server("app", "-w", "1", "--stream-body", "off", *KINDS[kind], source=SOURCE)
    pid = int(fetch(live.port, "/").body.split()[0])
    before = resident_bytes(pid)
    send_together(live.port)

    def uses_them_again() -> bool:
        faults = page_faults(pid)
        send_together(live.port)
        pages_each = (page_faults(pid) - faults) / CLIENTS
        return pages_each < PAGES_EACH and resident_bytes(pid) - before > CLIENTS * len(BODY) // 2

    # Some rounds may find memory in other pieces than the last one has left, or where the machine is slow given back.
    wait_until(uses_them_again, 20, "it keeps their memory, and uses it again")
    wait_until(lambda: resident_bytes(pid) - before < CLIENTS * len(BODY) // 4, IDLE_S + 20)


def test_bodies_that_are_read_as_they_arrive_give_their_memory_back(server: StartServer) -> None:
    pytest.importorskip("gevent")
    live = server("app", "-w", "1", *KINDS["gevent"], source=SOURCE)
    pid = int(fetch(live.port, "/").body.split()[0])
    before = resident_bytes(pid)

    def keeps_them() -> bool:
        send_together(live.port)
        return resident_bytes(pid) - before > CLIENTS * len(BODY) // 2

    # On a busy machine some may be read and gone before others come.
    wait_until(keeps_them, 20, "it keeps them")
    wait_until(lambda: resident_bytes(pid) - before < CLIENTS * len(BODY) // 4, IDLE_S + 20)
