"""The same calls over a real Redis server, which is stopped, slowed and started again under them."""

import pathlib
import time
from collections.abc import Iterator

import pytest

from tests.cluster.members import Cluster, ForkServer, Member, cluster_in
from tests.cluster.state.test_locks import HOLD
from tests.cluster.state.test_schedule import EVERY, ONCE, begun, stop
from tests.conftest import wait_until
from tests.redis_server import RedisServer, needs_redis, running_redis
from wsgicluster.cluster.errors import BusDown, StoreFull
from wsgicluster.cluster.redis.backend import RedisBackend
from wsgicluster.cluster.redis.connection import check_url, split_url
from wsgicluster.cluster.redis.leases import LEASE_S
from wsgicluster.errors import UsageError

pytestmark = [needs_redis, pytest.mark.live]


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as running:
        yield running


@pytest.fixture
def backend(server: RedisServer) -> Iterator[RedisBackend]:
    made = RedisBackend(server.url, "a server")
    yield made
    made.close()


@pytest.fixture
def members(server: RedisServer, tmp_path: pathlib.Path, fork_server: ForkServer) -> Iterator[Cluster]:
    with cluster_in(tmp_path, fork_server, server.url) as cluster:
        yield cluster


def test_values_are_set_read_and_removed(backend: RedisBackend) -> None:
    for value in (1, -(2**63), '"text"', "", b"\0bytes", b""):
        backend.set("k", value, None)
        assert backend.get("k") == value
        assert backend.pop("k") == value
        assert backend.get("k") is None
        assert backend.pop("k") is None


def test_the_time_to_live_of_a_number_counts_from_the_first_add(backend: RedisBackend, server: RedisServer) -> None:
    assert [backend.add("k", 2, 100), backend.add("k", 3, 9000)] == [2, 5]
    with server.client() as client:
        assert 90_000 < client.pttl("wsgicluster:store:k") <= 100_000
    backend.set("k", 1, 0.05)
    wait_until(lambda: backend.get("k") is None, 5)
    assert backend.add("k", 1, None) == 1
    with server.client() as client:
        assert client.pttl("wsgicluster:store:k") == -1


def test_only_whole_numbers_can_be_added_to(backend: RedisBackend) -> None:
    for value in ("1.5", '"1"', b"1"):
        backend.set("k", value, None)
        with pytest.raises(TypeError, match="whole number"):
            backend.add("k", 1, None)
    backend.set("k", 2**63 - 1, None)
    with pytest.raises(OverflowError):
        backend.add("k", 1, None)


def test_compare_and_set(backend: RedisBackend) -> None:
    assert not backend.compare_and_set("k", 0, 1, None)
    assert backend.compare_and_set("k", None, '{"a":1,"b":2}', None)
    assert not backend.compare_and_set("k", None, 1, None)
    assert backend.compare_and_set("k", '{"b":2,"a":1}', b"x", None)
    assert not backend.compare_and_set("k", '"x"', 1, None)
    assert backend.compare_and_set("k", b"x", 5, 0.05)
    wait_until(lambda: backend.get("k") is None, 5)


def test_a_full_server_is_a_full_store(server: RedisServer, backend: RedisBackend) -> None:
    with server.client() as client:
        client.config_set("maxmemory", "1")
    with pytest.raises(StoreFull, match="maxmemory"):
        backend.set("k", bytes(1000), None)
    with pytest.raises(StoreFull, match="maxmemory"):
        backend.add("n", 1, None)


def test_counters_of_several_processes_are_sums(members: Cluster) -> None:
    code = "from wsgicluster import cluster\nfor _ in range(500): cluster.counter('hits').add()"
    running = [members.start(code) for _ in range(3)]
    for each in running:
        each.finish()
    assert members.start("from wsgicluster import cluster\nprint(cluster.counter('hits').value)").finish() == "1500"


def test_four_writers_lose_nothing(members: Cluster) -> None:
    code = """
from wsgicluster import cluster
store = cluster.store
for _ in range(200):
    store.add("n")
    while True:
        old = store.get("list")
        if store.compare_and_set("list", old, [*(old or []), 1][-5:] if old is None or len(old) < 5 else [0]): break
"""
    running = [members.start(code) for _ in range(4)]
    for each in running:
        each.finish()
    assert members.start("from wsgicluster import cluster\nprint(cluster.store.get('n'))").finish() == "800"


def test_one_process_holds_a_lock_at_a_time(members: Cluster) -> None:
    holder = members.start(HOLD)
    assert holder.line().startswith("held False")
    code = """
from wsgicluster import cluster
lock = cluster.lock("a")
print(lock.locked(), lock.acquire(blocking=False), lock.acquire(timeout=0.05), cluster.lock("b").acquire(False))
"""
    assert members.start(code).finish() == "True False False True"
    holder.tell()
    assert holder.line() == "released"
    assert members.start(code).finish().startswith("False True False")


def test_a_lock_that_is_renewed_outlives_its_lease(members: Cluster, server: RedisServer) -> None:
    holder = members.start(HOLD)
    assert holder.line().startswith("held")
    began = time.monotonic()
    with server.client() as client:
        wait_until(lambda: time.monotonic() - began > 2 * LEASE_S, 10)
        assert client.exists("wsgicluster:lock:u:a")
    holder.tell()
    assert holder.line() == "released"


def test_the_lock_of_a_killed_holder_is_free_within_its_lease_and_the_next_is_told(
    members: Cluster, server: RedisServer
) -> None:
    holder = members.start(HOLD)
    first = holder.line().split()
    taker = members.start("print('ready')\n" + HOLD)
    assert taker.line() == "ready"
    holder.kill()
    with server.client() as client:
        left_ms = client.pttl("wsgicluster:lock:u:a")
    assert left_ms <= LEASE_S * 1000
    assert left_ms != -1, "the lease ends"
    second = taker.line().split()
    assert second[:2] == ["held", "True"]
    assert int(second[2]) > int(first[2])
    taker.tell()
    assert taker.line() == "released"
    third = members.start(HOLD)
    assert third.line().split()[1] == "False"


LOSE = """
import sys
from wsgicluster import cluster
lock = cluster.lock("a")
lock.acquire()
print("held")
sys.stdin.readline()
for call in (lambda: lock.token, lock.release):
    try: call()
    except cluster.LockLost as error: print("LockLost")
    except cluster.BusDown: print("BusDown")
print(lock.acquire(timeout=5), lock.recovered)
"""


def test_a_holder_that_was_stopped_for_too_long_is_told_that_it_lost_the_lock(
    members: Cluster, server: RedisServer
) -> None:
    loser = members.start(LOSE)
    assert loser.line() == "held"
    loser.pause()
    with server.client() as client:
        wait_until(lambda: not client.exists("wsgicluster:lock:u:a"), 10)
    other = members.start(HOLD)
    assert other.line().startswith("held True")
    loser.resume()
    loser.tell()
    assert [loser.line(), loser.line()] == ["LockLost", "LockLost"]
    other.tell()
    assert loser.finish() == "True False"


def test_a_server_that_sleeps_for_longer_than_the_lease_costs_the_lock(members: Cluster, server: RedisServer) -> None:
    loser = members.start(LOSE)
    assert loser.line() == "held"
    server.slow(1.5 * LEASE_S)
    with server.client() as client:
        wait_until(lambda: client.ping() and not client.exists("wsgicluster:lock:u:a"), 10)
    loser.tell()
    assert loser.finish().splitlines() == ["LockLost", "LockLost", "True True"]


def test_without_a_server_every_call_says_so_and_nothing_is_counted_here(members: Cluster, server: RedisServer) -> None:
    code = """
import sys
from wsgicluster import cluster
cluster.counter("hits").add()
print("counted")
sys.stdin.readline()
for call in (
    cluster.counter("hits").add, lambda: cluster.counter("hits").value, lambda: cluster.store.get("a"),
    lambda: cluster.store.set("a", 1), lambda: cluster.store.add("a"), lambda: cluster.store.pop("a"),
    lambda: cluster.store.compare_and_set("a", None, 1), cluster.lock("a").acquire, cluster.lock("a").locked,
    lambda: cluster.once("a", print),
):
    try: call()
    except cluster.BusDown as error: print(isinstance(error, ConnectionError))
print("down")
sys.stdin.readline()
cluster.counter("hits").add()
print(cluster.counter("hits").value)
"""
    member = members.start(code)
    assert member.line() == "counted"
    server.stop()
    member.tell()
    assert [member.line() for _ in range(11)] == ["True"] * 10 + ["down"]
    server.start()
    member.tell()
    # A server without a disk has forgotten the first.
    assert member.finish() == "1"


def test_a_slow_server_is_waited_for_and_not_for_ever(backend: RedisBackend, server: RedisServer) -> None:
    server.slow(0.3)
    assert backend.add("n", 1, None) == 1
    server.freeze()
    with pytest.raises(BusDown):
        backend.get("n")
    server.thaw()
    wait_until(lambda: _responds(backend), 10)


def _responds(backend: RedisBackend) -> bool:
    try:
        return backend.get("n") == 1
    except BusDown:
        return False


def test_connections_from_before_a_restart_cost_no_call(backend: RedisBackend, server: RedisServer) -> None:
    backend.set("k", 1, None)
    server.stop()
    server.start()
    assert backend.get("k") is None
    assert backend.add("k", 1, None) == 1


def test_prefixes_keep_servers_apart(server: RedisServer) -> None:
    one, other = RedisBackend(f"{server.url}?prefix=one", "x"), RedisBackend(f"{server.url}?prefix=other", "x")
    one.set("k", 1, None)
    assert (one.get("k"), other.get("k")) == (1, None)
    for each in (one, other):
        each.close()


def test_the_prefix_is_taken_out_of_the_url() -> None:
    assert split_url("redis://h/0?prefix=a&health_check_interval=3") == ("redis://h/0?health_check_interval=3", "a")
    assert split_url("unix:///run/redis.sock?db=2") == ("unix:///run/redis.sock?db=2", "wsgicluster")


def test_a_url_is_tried_at_start(server: RedisServer) -> None:
    check_url(server.url, server.url)
    server.stop()
    with pytest.raises(
        UsageError, match=r"store: no Redis server responds at shown: .*; start it, or leave store empty"
    ):
        check_url(server.url, "shown")


def test_once_runs_in_one_process_and_again_when_that_dies(members: Cluster) -> None:
    first = members.start(ONCE.format(wait=True))
    assert first.line() == "runs"
    assert members.start(ONCE.format(wait=False)).finish() == "False"
    second = members.start(ONCE.format(wait=True))
    first.kill()
    assert second.line() == "runs"
    second.tell()
    assert second.finish() == "True"
    assert members.start(ONCE.format(wait=True)).finish() == "False"


def test_a_job_runs_in_one_process_at_a_time(members: Cluster, backend: RedisBackend) -> None:
    running: list[Member] = [members.start(EVERY.format(seconds=0.2, work="time.sleep(0.02)")) for _ in range(3)]
    for each in running:
        assert each.line() == "registered"
    wait_until(lambda: backend.counter_value("ticks") >= 5, 20)
    assert len(begun(stop(running))) >= 5


def test_a_job_that_is_not_due_is_not_looked_at_all_the_time(members: Cluster, server: RedisServer) -> None:
    member = members.start(EVERY.format(seconds=3600, work=""))
    assert member.line() == "registered"
    with server.client() as client:
        wait_until(lambda: client.exists("wsgicluster:store:i:every:job"), 20, "its next tick is noted")
        # The looks of its beginning are over as soon as it has seen the tick that it has noted.
        wait_until(lambda: client.info("commandstats").get("cmdstat_time", {}).get("calls", 0) >= 2, 20)
        client.config_resetstat()
        since = time.monotonic()
        wait_until(lambda: time.monotonic() > since + 1.5, 10)
        assert client.info("commandstats").get("cmdstat_get", {}).get("calls", 0) <= 1
    member.tell()
    member.finish()
