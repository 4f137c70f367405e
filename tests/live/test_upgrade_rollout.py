"""Upgrades together with what rollouts and stops do: other addresses, rehearsals, doors that are shut."""

import contextlib
import os
import pathlib
import signal
import socket
import struct

import pytest

from tests.apps import versioned
from tests.conftest import StartServer, wait_until
from tests.live.client import Connection, Load, Visitors, fetch
from tests.live.test_addresses import APP, bind, is_refused, port_of, ports, reload
from tests.live.test_reload import wait_version, write_app
from tests.live.test_upgrade import SERVES, begin_upgrade

__all__ = ["ports"]

pytestmark = pytest.mark.live

TOTAL_RETRANSMITS = 100
"""Where ``tcpi_total_retrans`` stands in ``TCP_INFO``."""


class Callers(Visitors):
    """Each connects anew for a request; ``knocked`` counts the connections that needed more than one SYN."""

    def __init__(self, port: int, count: int = 4) -> None:
        super().__init__(port, count)
        self.answers = 0
        self.knocked = 0

    def ask(self) -> None:
        with Connection(self.port) as connection:
            info = connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            self.knocked += struct.unpack_from("I", info, TOTAL_RETRANSMITS)[0] > 0
            self.answers += connection.exchange("/", "POST", b"1", "Connection: close\r\n").status == 200


def test_neither_server_shuts_the_others_door(server: StartServer) -> None:
    live = server("app", "-w", "2", "--defer-accept", "0", "--drain-delay", "1h", source=versioned.good())
    port = live.port
    live.wait_log("Started")
    with Callers(port) as callers:
        new = begin_upgrade(live)
        os.kill(new, signal.SIGTERM)
        live.wait_log(r"The new server \(pid \d+\) has exited \(exit code 0")
        new = begin_upgrade(live, count=2)
        # Nobody has to look for another server, so there is no delay.
        assert live.stop() == 0
        seen = callers.answers
        wait_until(lambda: callers.answers > seen + 50, 10)
    assert callers.losses == []
    assert callers.knocked == 0
    os.kill(new, signal.SIGTERM)
    # It is the only server again.
    wait_until(lambda: live.said("graceful stop in 3600 s"), 10)
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not live.members(), 10, "the new server has exited")


def test_addresses_that_a_reload_has_changed_before(
    server: StartServer, tmp_path: pathlib.Path, ports: list[int]
) -> None:
    """The new server takes over what is open now, and connections by any of it."""
    first, second, third = ports
    path = tmp_path / "s"
    bind(tmp_path, first, path)
    live = server("app", "-w", "2", source=APP, bind=None)
    live.wait_log("Started")
    bind(tmp_path, second, first)
    reload(live, 1)
    live.wait_children(2)  # those that leave would close what is opened now
    with Load(first, clients=2) as load, Connection(first) as one, Connection(second) as other:
        assert (port_of(one), port_of(other)) == (first, second)
        new = begin_upgrade(live)
        # Both change on: the old one has a new address, and the new one as well.
        bind(tmp_path, second, first, third)
        reload(live, 2)
        bind(tmp_path, second, first, path)
        os.kill(new, signal.SIGHUP)
        live.wait_log("Reload complete", 20, 3)
        with contextlib.ExitStack() as stack:
            waiting = [stack.enter_context(Connection(third)) for _ in range(4)]
            for connection in waiting:
                connection.ask("/slow/0.05")
            by_path = stack.enter_context(Connection(path))
            assert by_path.exchange().status == 200
            assert live.stop() == 0
            assert {connection.response().body.split()[0] for connection in waiting} == {str(third).encode()}
            assert (port_of(one), port_of(other)) == (first, second)
            assert by_path.exchange().status == 200
        assert is_refused(third)
        # Its numbers are its own by now: nothing is in the way of further changes.
        bind(tmp_path, third)
        os.kill(new, signal.SIGHUP)
        wait_until(lambda: live.said("Reload complete", 4), 20)
        assert (port_of(one), port_of(other)) == (first, second)
    assert [loss for loss in load.losses if "refused" not in loss] == []
    assert fetch(third).status == 200
    assert not path.exists()
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not live.members(), 10, "the new server has exited")


def test_an_address_that_the_old_server_gives_up_during_an_upgrade(server: StartServer, tmp_path: pathlib.Path) -> None:
    """Its file is the new server's to remove from then on."""
    kept, given_up = tmp_path / "kept", tmp_path / "given-up"
    bind(tmp_path, kept, given_up)
    live = server("app", source=versioned.good(), bind=None, listening=False)
    live.wait_log("Started")
    new = begin_upgrade(live)
    bind(tmp_path, kept)
    reload(live, 1)
    assert fetch(given_up).status == 200
    assert live.stop() == 0
    assert fetch(given_up).status == 200
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not live.members(), 10, "the new server has exited")
    assert not kept.exists()
    assert not given_up.exists()


def test_a_new_server_that_fails_its_rehearsal(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "wsgicluster.conf.py").write_text("workers = 2\nsmoke = '/'\n")
    live = server("app", source=versioned.good("v1"))
    workers = live.wait_workers(2)
    with Load(live.port, clients=2) as load:
        wait_version(live, load, "v1")
        write_app(live, versioned.good("v2").replace("body = ", "raise LookupError('no table')  # "))
        live.send(signal.SIGUSR2)
        live.wait_log("cannot boot: smoke: GET / failed: LookupError: no table", 15)
        live.wait_log(r"cannot start \(exit code 3: its workers cannot be made ready\); this one keeps serving", 15)
        assert live.children() == workers
        assert not live.said(SERVES)
    assert load.losses == []
    assert load.versions() == {"v1"}
    assert live.stop() == 0


@pytest.mark.parametrize("ways", [(signal.SIGHUP,), ()], ids=["reloaded", "left alone"])
def test_back_again_without_a_pause(server: StartServer, ways: tuple[signal.Signals, ...]) -> None:
    """The old workers have left, and the new server is told to end before they are back."""
    live = server("app", "-w", "2", source=versioned.good("v1", 0.3))
    live.wait_log("Started")
    write_app(live, versioned.good("v2"))
    new = begin_upgrade(live)
    live.send(signal.SIGWINCH)
    wait_until(lambda: live.children() == [new], 10, "all old workers have gone")
    with Load(live.port, clients=2) as load, Connection(live.port) as idle:
        assert idle.exchange().body.startswith(b"v2 ")
        write_app(live, versioned.good("v1", 0.3))
        for number in ways:
            live.send(number)
        os.kill(new, signal.SIGTERM)
        live.wait_log(r"The new server \(pid \d+\) has exited \(exit code 0")
        assert idle.exchange().body.startswith(b"v1 ")
        wait_version(live, load, "v1")
    assert load.losses == []
    live.wait_children(2)


def test_back_again_with_code_that_is_still_broken(server: StartServer) -> None:
    """Nobody serves when the new server has gone: the old one tries until somebody does."""
    live = server("app", "-w", "2", source=versioned.good("v1"))
    live.wait_log("Started")
    new = begin_upgrade(live)
    live.send(signal.SIGWINCH)
    wait_until(lambda: live.children() == [new], 10, "all old workers have gone")
    write_app(live, versioned.RAISES)
    live.send(signal.SIGHUP)
    live.wait_log("Reload aborted")
    os.kill(new, signal.SIGKILL)
    live.wait_log("Resuming 2 retired workers: no other server is left")
    write_app(live, versioned.good("v1"))
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete: 2 workers serve", 15)
    assert fetch(live.port).status == 200
