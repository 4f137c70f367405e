"""Ending a server: gracefully, quickly, by force, and what is left behind."""

import os
import pathlib
import re
import signal
import time

import pytest

from tests.apps import versioned
from tests.conftest import StartServer, descriptors_of, is_alive, steady_descriptors, wait_until
from tests.live.client import Connection, fetch
from tests.live.test_addresses import is_refused

pytestmark = pytest.mark.live


def test_term_lets_a_request_end(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("tests.apps.basic", "-w", "2")
    mark = tmp_path / "mark"
    with Connection(live.port) as connection:
        connection.ask(f"/hold{mark}")
        wait_until(mark.exists, 5)
        live.send(signal.SIGTERM)
        live.wait_children(1)  # the other worker has left, so both have been asked to
        pathlib.Path(f"{mark}.go").touch()
        response = connection.response()
    assert response.status == 200
    # What is said about the connection is what happens to it.
    assert response.closes
    assert live.wait_end(5) == 0
    assert not live.members()


def test_term_closes_idle_connections_and_the_listener(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "2")
    with Connection(live.port) as idle:
        assert idle.exchange("/").status == 200
        live.send(signal.SIGTERM)
        assert idle.rest() == b""
    assert live.wait_end(5) == 0
    assert is_refused(live.port)


def test_graceful_timeout_cuts_what_does_not_end(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("tests.apps.basic", "--graceful-timeout", "1", "--timeout", "30")
    mark = tmp_path / "mark"
    with Connection(live.port) as connection:
        connection.ask(f"/mark/{mark}/60")
        wait_until(mark.exists, 5)
        began = time.monotonic()
        live.send(signal.SIGTERM)
        assert live.wait_end(6) == 5
        assert time.monotonic() - began >= 0.9
    assert not live.members()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
def test_a_stop_of_the_whole_group_is_one(
    server: StartServer, kind: str, preload: tuple[str, ...], number: signal.Signals
) -> None:
    """As a service manager or a terminal sends it: children may end before the arbiter has asked them."""
    live = server("tests.apps.basic", "-w", "2", "-k", kind, *preload)
    live.wait_log("Started")
    live.forget_log()
    os.killpg(live.pid, number)
    assert live.wait_end(10) == 0
    assert not re.search("WARNING|ERROR", live.log()), live.log()
    assert live.said("exited: stop requested", 3 if preload else 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_quick_stop_does_not_wait(server: StartServer, tmp_path: pathlib.Path, number: signal.Signals) -> None:
    live = server("tests.apps.basic", "-w", "2", "--graceful-timeout", "30")
    mark = tmp_path / "mark"
    with Connection(live.port) as connection:
        connection.ask(f"/mark/{mark}/60")
        wait_until(mark.exists, 5)
        live.send(number)
        live.wait_end(5)
    assert not live.members()


def test_idle_quick_stop_is_clean(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "2")
    live.wait_workers(2)
    assert fetch(live.port).status == 200
    assert live.stop(signal.SIGINT) == 0


def test_second_int_forces_a_graceful_stop_to_end(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("tests.apps.basic", "--graceful-timeout", "50", "--timeout", "60")
    mark = tmp_path / "mark"
    with Connection(live.port) as connection:
        connection.ask(f"/mark/{mark}/50")
        wait_until(mark.exists, 5)
        live.send(signal.SIGTERM)
        live.wait_log("graceful stop")
        live.send(signal.SIGINT)
        live.send(signal.SIGINT)
        live.wait_end(5)
    assert not live.members()


def test_many_stop_signals_at_once(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "2")
    live.wait_children(2)
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        live.send(number)
    assert live.wait_end(10) == 0
    assert not live.members()


def test_stop_during_boot(server: StartServer) -> None:
    """(Node 67)"""
    live = server("app", source=versioned.good(boot_s=20), listening=True)
    live.wait_children(1)
    assert live.stop(timeout_s=8) == 0
    assert not live.members()


def test_workers_leave_when_the_arbiter_is_gone(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "2")
    workers = live.wait_children(2)
    assert fetch(live.port).status == 200
    live.send(signal.SIGKILL)
    live.wait_end()
    wait_until(lambda: not any(map(is_alive, workers)), 5, "orphaned workers leave")


def test_no_descriptor_is_lost_over_reloads(server: StartServer) -> None:
    live = server("app", "-w", "2", source=versioned.good())
    assert fetch(live.port).status == 200
    reloads = 0

    def reload() -> None:
        nonlocal reloads
        reloads += 1
        live.send(signal.SIGHUP)
        live.wait_log("Reload complete", count=reloads)
        live.wait_children(2)

    def counts() -> list[int]:
        return [len(descriptors_of(pid)) for pid in (live.pid, *live.children())]

    # No request in between: a connection that is being closed would be counted, or not.
    reload()
    expected = [steady_descriptors(pid) for pid in (live.pid, *live.children())]
    for _ in range(3):
        reload()
    wait_until(
        lambda: all(now <= then for now, then in zip(counts(), expected, strict=True)),
        5,
        f"at most {expected} descriptors",
    )
    assert fetch(live.port).status == 200


def test_server_keeps_no_thread_in_the_arbiter(server: StartServer) -> None:
    live = server("tests.apps.basic")
    live.wait_workers(1)
    assert len(os.listdir(f"/proc/{live.pid}/task")) == 1
