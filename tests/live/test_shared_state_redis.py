"""A real server whose shared state is in a real Redis server."""

import pathlib
import signal
from collections.abc import Iterator

import pytest
import requests

from tests.conftest import StartServer, wait_until
from tests.live.test_shared_state import KINDS, SOURCE, ask
from tests.redis_server import RedisServer, needs_redis, running_redis

pytestmark = [pytest.mark.live, needs_redis]


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1])
def test_two_servers_share_one_state(server: StartServer, store: RedisServer, kind: list[str]) -> None:
    one = server("app", "-w", "2", *kind, "--store", store.url, source=SOURCE)
    other = server("app", "-w", "1", *kind, "--store", store.url)
    for live in (one, other):
        live.wait_log("Started")
    assert [ask(live)["hits"] for live in (one, other, one, other)] == [1, 2, 3, 4]
    seen = ask(one)
    assert (seen["added"], seen["turn"]) == (5, 5)
    # Each server has run it in its own generation.
    assert seen["firsts"] == 2
    one.send(signal.SIGHUP)
    one.wait_log("Reload complete")
    assert ask(one)["hits"] == 6
    wait_until(lambda: int(str(ask(one)["ticks"])) > int(str(seen["ticks"])), 10)
    for live in (one, other):
        assert live.stop() == 0


def test_without_redis_requests_fail_at_once_and_a_reload_is_refused(server: StartServer, store: RedisServer) -> None:
    live = server("app", "-w", "1", "--store", store.url, source=SOURCE)
    live.wait_log("Started")
    ask(live)
    store.stop()
    assert requests.get(live.url, timeout=10).status_code == 500
    live.wait_log("BusDown: Redis does not respond")
    live.send(signal.SIGHUP)
    live.wait_log("store: no Redis server responds at redis://127.0.0.1")
    assert not live.said("Reload complete")
    store.start()
    assert ask(live)["hits"] == 1
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete")
    assert live.stop() == 0
