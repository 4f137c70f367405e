"""Addresses that come and go with a reload: nobody who has come by one is lost."""

import contextlib
import pathlib
import signal
import socket

import pytest

from tests.conftest import LiveServer, StartServer, find_free_ports, wait_until
from tests.live.client import Connection, Load, fetch

pytestmark = pytest.mark.live

APP = """\
import os
import pathlib
import time


def application(environ, start_response):
    name, _, argument = environ["PATH_INFO"].lstrip("/").partition("/")
    if name == "slow":
        time.sleep(float(argument))
    elif name == "hold":
        pathlib.Path("held").touch()
        while not os.path.exists("go"):
            time.sleep(0.02)
    environ["wsgi.input"].read()
    body = f"{environ['SERVER_PORT']} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

KINDS = [("sync",), ("gthread",), ("gevent", "--preload")]


@pytest.fixture
def ports() -> list[int]:
    """Three ports of 127.0.0.1 that no process has now."""
    return find_free_ports(3)


def bind(folder: pathlib.Path, *places: int | pathlib.Path) -> None:
    addresses = [f"127.0.0.1:{place}" if isinstance(place, int) else f"unix:{place}" for place in places]
    (folder / "wsgicluster.conf.py").write_text(f"bind = {addresses}\n")


def reload(live: LiveServer, count: int) -> None:
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete", 20, count)


def is_refused(place: int | pathlib.Path) -> bool:
    with socket.socket(socket.AF_INET if isinstance(place, int) else socket.AF_UNIX) as probe:
        return probe.connect_ex(("127.0.0.1", place) if isinstance(place, int) else str(place)) != 0


def port_of(connection: Connection) -> int:
    return int(connection.exchange().body.split()[0])


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_addresses_come_and_go(
    server: StartServer, tmp_path: pathlib.Path, ports: list[int], kind: tuple[str, ...]
) -> None:
    """(Node 24, 32)"""
    first, second, third = ports
    path = tmp_path / "s"
    bind(tmp_path, first, path)
    live = server("app", "-w", "2", "-k", *kind, source=APP, bind=None)
    live.wait_log("Started")
    before = set(live.children())
    with Load(first, clients=2) as load, Connection(first) as kept, Connection(path) as of_path:
        assert port_of(kept) == first
        assert of_path.exchange().status == 200
        bind(tmp_path, second, first)
        reload(live, 1)
        live.wait_log(f"Listening at: http://127.0.0.1:{second} ")
        live.wait_log(f"No longer listening at: unix:{path}")
        wait_until(lambda: not before & set(live.children()), 10, "the first generation has gone")
        workers = live.wait_children(3 if "--preload" in kind else 2)
        assert is_refused(path)
        assert not path.exists()
        # The kept ones have come by a listener that is another one by now, or none.
        assert port_of(kept) == first
        assert of_path.exchange().status == 200
        with Connection(second) as other:
            assert port_of(other) == second
        with socket.create_server(("127.0.0.1", third)):
            bind(tmp_path, third, path)
            live.send(signal.SIGHUP)
            live.wait_log(f"Reload aborted.*127.0.0.1:{third}: the address is in use")
            assert live.children() == workers
            assert not path.exists()
        assert port_of(kept) == first
    assert load.losses == []
    assert live.stop() == 0


def test_who_waits_at_an_address_that_goes_is_answered(
    server: StartServer, tmp_path: pathlib.Path, ports: list[int]
) -> None:
    first, second, _ = ports
    bind(tmp_path, first, second)
    live = server("app", "--defer-accept", "0", source=APP, bind=None)
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(Connection(first))
        busy.ask("/hold")
        wait_until((tmp_path / "held").exists, 10)
        waiting = [stack.enter_context(Connection(second)) for _ in range(5)]
        for connection in waiting:
            connection.ask()
        bind(tmp_path, first)
        reload(live, 1)
        late = stack.enter_context(Connection(second))  # the old worker has not let go of it yet
        late.ask()
        (tmp_path / "go").touch()
        assert busy.response().status == 200
        for connection in (*waiting, late):
            response = connection.response()
            assert (response.status, response.body.split()[0]) == (200, str(second).encode())
    wait_until(lambda: is_refused(second), 10)
    assert fetch(first).status == 200


def test_an_address_of_a_reload_that_is_aborted_is_closed_again(
    server: StartServer, tmp_path: pathlib.Path, ports: list[int]
) -> None:
    first, second, _ = ports
    bind(tmp_path, first)
    live = server("app", source=APP, bind=None)
    live.wait_log("Started")
    (tmp_path / "app.py").write_text("raise RuntimeError('no')\n")
    bind(tmp_path, second)
    live.send(signal.SIGHUP)
    live.wait_log("Reload aborted")
    wait_until(lambda: is_refused(second), 10)
    assert fetch(first).status == 200
