"""Messages between machines over a real Redis server, which is stopped, frozen and started again.

Two servers with different names are two machines here: they share nothing but the bus.
"""

import os
import pathlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import StartServer, wait_until
from tests.live.test_messages import Cluster
from tests.redis_server import RedisServer, Way, needs_redis, running_redis

pytestmark = [pytest.mark.live, needs_redis]

StartNode = Callable[..., Cluster]


@pytest.fixture
def bus(tmp_path: pathlib.Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as running:
        yield running


@pytest.fixture
def node(server: StartServer, bus: RedisServer, tmp_path: pathlib.Path) -> StartNode:
    """Start a machine of this name, and wait until it is on the bus."""

    def start(name: str, kind: str = "sync", url: str = "") -> Cluster:
        folder = tmp_path / name
        folder.mkdir()
        flags = ("-w", "2", "-k", kind, "--bus", url or bus.url, "--node-name", name)
        made = Cluster(server("tests.apps.messages:app", *flags, folder=folder), 2)
        wait_until(lambda: made.do(0, "broadcast", "note", "is it there?") is not None, 10)
        return made

    return start


def wait_joined(one: Cluster, name: str) -> None:
    """Wait until a machine can be reached from another one."""
    wait_until(lambda: one.do(0, "request", f"{name}/1", "x", 5, "echo") == "x", 20, f"{name} is on the bus")


def notes(made: Cluster, slot: int, topic: str = "note") -> list[Any]:
    """What the handlers of a worker have been called with, but for what `node` has sent."""
    return [each[1:3] for each in made.do(slot, "seen") if each[0] == topic and each[1] != "is it there?"]


@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_messages_reach_other_machines_once(node: StartNode, kind: str) -> None:
    a, b = node("a", kind), node("b", kind)
    wait_joined(a, "b")
    wait_joined(b, "a")
    assert a.do(1, "broadcast", "note", "for all") == 3, "two workers here, and one machine elsewhere"
    for number in range(50):
        assert a.do(1, "send", "b/2", number, "note") is None
    wait_until(lambda: len(notes(b, 2)) == 51, 10)
    assert notes(b, 2) == [["for all", "a/1"], *([number, "a/1"] for number in range(50))]
    assert notes(b, 1) == [["for all", "a/1"]]
    assert [notes(a, slot) for slot in (1, 2)] == [[["for all", 1]]] * 2
    assert b.do(2, "request", "a/1", {"x": [1]}, 5, "echo") == {"x": [1]}
    assert b.do(2, "request", "b/1", 5, 5, "echo") == 5, "a machine may be called by its own name"


def test_requests_to_other_machines_fail_in_words(node: StartNode, tmp_path: pathlib.Path) -> None:
    a, b = node("a"), node("b")
    wait_joined(a, "b")
    assert a.do(1, "send", "c/1", 1)["raised"] == "WorkerGone"
    assert a.do(1, "request", "b/1", 1, 5, "nothing")["raised"] == "NoHandler"
    assert "refused 1" in a.do(1, "request", "b/1", 1, 5, "fail")["text"]
    assert a.do(1, "request", "b/9", 1, 5, "echo")["raised"] == "RemoteError"
    path = tmp_path / "go on"
    assert a.do(1, "request", "b/2", [str(path), 1], 0.3, "slow")["raised"] == "RequestTimeout"
    path.touch()
    assert a.do(1, "echo_bytes", "b/2", 1024 * 1024) is True
    assert b.do(1, "who")["state"] == "ready"


def test_retained_values_reach_machines_that_come_later_and_the_newest_stays(node: StartNode) -> None:
    a = node("a")
    for version in range(3):
        a.do(1, "broadcast", "config", version, True)
    b = node("b")
    wait_until(lambda: all(notes(b, slot, "config")[-1:] == [[2, "a/1"]] for slot in (1, 2)), 10)
    wait_joined(a, "b")
    b.do(2, "broadcast", "config", "from b", True)
    for made in (a, b):
        wait_until(lambda made=made: all(notes(made, slot, "config")[-1][0] == "from b" for slot in (1, 2)), 10)  # type: ignore[misc]


def test_without_redis_calls_say_so_and_this_machine_goes_on(node: StartNode, bus: RedisServer) -> None:
    a, b = node("a"), node("b")
    wait_joined(a, "b")
    a.do(1, "broadcast", "config", "kept", True)
    wait_until(lambda: notes(b, 1, "config") == [["kept", "a/1"]], 10)
    bus.stop()
    a.live.wait_log("the bus cannot be used")
    down = a.do(1, "broadcast", "note", "not here alone")
    assert down["raised"] == "BusDown"
    assert "ConnectionError" in down["also"]
    assert a.do(1, "send", "b/1", 1)["raised"] == "BusDown"
    assert a.do(1, "request", 2, "here", 5, "echo") == "here"
    assert notes(a, 2) == []
    bus.start()
    a.live.wait_log("The bus is back", 20)
    wait_joined(a, "b")
    wait_joined(b, "a")
    # Redis has lost its data; a machine that comes now gets what the others know.
    c = node("c")
    wait_until(lambda: notes(c, 1, "config") == [["kept", "a/1"]] or notes(c, 1, "config") == [["kept", "b/1"]], 15)
    a.do(1, "broadcast", "config", "newer", True)
    for made in (b, c):
        wait_until(lambda made=made: notes(made, 2, "config")[-1] == ["newer", "a/1"], 10)  # type: ignore[misc]


def test_a_redis_that_does_not_respond_is_not_waited_for_without_end(node: StartNode, bus: RedisServer) -> None:
    a = node("a")
    bus.freeze()
    assert a.do(1, "broadcast", "note", 1)["raised"] == "BusDown"
    assert a.do(1, "request", 2, "here", 5, "echo") == "here"
    bus.thaw()
    wait_until(lambda: a.do(1, "broadcast", "note", 1) == 2, 20)


def test_a_machine_that_was_cut_off_gets_what_it_has_missed(node: StartNode, bus: RedisServer) -> None:
    way = Way(bus.port)
    try:
        a, b = node("a"), node("b", url=f"redis://127.0.0.1:{way.port}/0")
        wait_joined(a, "b")
        way.cut()
        b.live.wait_log("the bus cannot be used")
        a.do(1, "broadcast", "config", "while b was away", True)
        assert notes(b, 1, "config") == []
        way.restore()
        wait_until(lambda: all(notes(b, slot, "config")[-1:] == [["while b was away", "a/1"]] for slot in (1, 2)), 20)
    finally:
        way.close()


def test_another_process_takes_over_when_that_on_the_bus_dies(node: StartNode) -> None:
    a, b = node("a"), node("b")
    wait_joined(a, "b")
    for slot in (1, 2):
        pid = b.pid(slot)
        os.kill(pid, signal.SIGKILL)
        b.wait_replaced(slot, pid)
        wait_joined(a, "b")
    a.do(1, "broadcast", "note", "after it")
    for slot in (1, 2):
        wait_until(lambda slot=slot: notes(b, slot)[-1:] == [["after it", "a/1"]], 10)  # type: ignore[misc]


def test_a_url_that_is_none_is_refused_at_the_start(server: StartServer) -> None:
    live = server("tests.apps.messages:app", "--bus", "localhost:6379", listening=False)
    assert live.wait_end(20) == 2
    assert "--bus" in live.log()
    assert "redis://localhost" in live.log()


def test_what_an_application_forks_has_no_connection_to_the_bus(node: StartNode, server: StartServer) -> None:
    a, without = node("a"), Cluster(server("tests.apps.messages:app", "-w", "2"), 2)
    a.do(1, "broadcast", "note", 1)
    a.do(2, "broadcast", "note", 1)
    expected = without.do(0, "in_fork")
    # A connection that another thread is only about to make at that moment is not known yet.
    wait_until(lambda: a.do(0, "in_fork") == expected, 20)
    assert a.do(1, "broadcast", "note", "still there") == 2
