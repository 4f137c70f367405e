"""A Redis server that loses its part to a replica, is far away, or is full: what callers learn, and what comes after.

An address that leads to whichever server takes writes, as a proxy, a name or a virtual address does, is a port here.
"""

import contextlib
import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.cluster.members import ForkServer, Member, cluster_in
from tests.cluster.state.test_schedule import EVERY, begun, stop
from tests.conftest import ROOT, find_free_ports, wait_until
from tests.live.proxies import Proxy, program
from tests.redis_server import RedisServer, Way, needs_redis
from wsgicluster.cluster.errors import BusDown, LockLost
from wsgicluster.cluster.redis.backend import RedisBackend
from wsgicluster.cluster.redis.bus import RedisBus
from wsgicluster.cluster.redis.leases import LEASE_S

T = TypeVar("T")

pytestmark = [needs_redis, pytest.mark.live]


@dataclasses.dataclass
class Pair:
    """Two servers, the address that leads to the first of them, and what was made for the test."""

    first: RedisServer
    second: RedisServer
    way: Way

    def replicate(self) -> None:
        """Have the second copy the first, and wait until it has."""
        with self.second.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(self.first.port))
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", 20, "it replicates")

    def promote(self) -> None:
        """Have the second take the first one's part, and the address lead to it."""
        with self.second.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        self.way.lead_to(self.second.port)

    def demote(self) -> None:
        """Have the first copy the second; its connections stay open."""
        with self.first.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(self.second.port))


@pytest.fixture
def pair(tmp_path: pathlib.Path) -> Iterator[Pair]:
    with contextlib.ExitStack() as owned:
        servers = []
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            servers.append(RedisServer(folder))
            owned.callback(servers[-1].stop)
            servers[-1].start("--repl-diskless-sync-delay", "0")
        way = Way(servers[0].port)
        owned.callback(way.close)
        yield Pair(servers[0], servers[1], way)


@pytest.fixture
def backend(pair: Pair) -> Iterator[RedisBackend]:
    made = RedisBackend(pair.way.url, "a server")
    yield made
    made.close()


def after_one_error(call: Callable[[], T]) -> T:
    """What a call returns the second time; the first one has to say that the server takes no writes."""
    with pytest.raises(BusDown, match="read only replica"):
        call()
    return call()


def test_a_planned_fail_over_costs_one_call_and_no_value(pair: Pair, backend: RedisBackend) -> None:
    backend.set("k", '"kept"', None)
    assert backend.add("n", 1, None) == 1
    pair.replicate()
    pair.promote()
    pair.demote()
    assert after_one_error(lambda: backend.add("n", 1, None)) == 2
    assert backend.get("k") == '"kept"'
    with pair.second.client() as client:
        assert client.get("wsgicluster:store:n") == b"2"


def test_a_lock_goes_along_and_its_token_grows_without_its_data(pair: Pair, backend: RedisBackend) -> None:
    pair.replicate()
    lease = backend.take_lock("l", None)
    assert lease is not None
    token = lease.token()
    with pair.first.client() as client:
        assert client.execute_command("WAIT", 1, 5000) == 1
    pair.promote()
    pair.demote()
    # The thread that renews it meets the old server, and the new one in time.
    held_since = time.monotonic()
    wait_until(lambda: time.monotonic() > held_since + 1.5 * LEASE_S, 10)
    assert lease.token() == token
    lease.release()
    with pair.second.client() as client:
        client.flushall()
    following = backend.take_lock("l", None)
    assert following is not None
    assert following.token() > token
    following.release()


def test_a_server_that_dies_with_the_lock_costs_it(pair: Pair, backend: RedisBackend) -> None:
    lease = backend.take_lock("l", None)
    assert lease is not None
    pair.first.stop()
    pair.promote()  # it has copied nothing
    wait_until(lease.lost, 10, "the lease ends")
    for call in (lease.token, lease.release):
        with pytest.raises(LockLost, match="not renewed"):
            call()
    again = backend.take_lock("l", None)
    assert again is not None
    again.release()


def test_the_bus_goes_to_the_new_server(pair: Pair) -> None:
    here, there = RedisBus(pair.way.url, "a"), RedisBus(pair.way.url, "b")
    for bus in (here, there):
        bus.register()
        assert bus.take(0.01) is None
    version, queued = here.broadcast("config", b"old", retain=True)
    assert queued == 1
    pair.replicate()
    pair.promote()
    pair.demote()
    newer, queued = after_one_error(lambda: here.broadcast("config", b"new", retain=True))
    assert (newer > version, queued) == (True, 1)
    with pytest.raises(BusDown):
        there.take(0.01)
    # What was queued before is there, too: nothing of it was lost.
    packets = [mail.packet for mail in iter(lambda: there.take(0.01), None)]
    assert packets == [b"old", b"new"]
    assert there.retained() == {"config": (newer, b"new")}


def test_a_server_without_its_replicas_takes_no_writes(pair: Pair, backend: RedisBackend) -> None:
    with pair.first.client() as client:
        client.config_set("min-replicas-to-write", "1")
    with pytest.raises(BusDown, match="NOREPLICAS"):
        backend.add("n", 1, None)
    with pair.first.client() as client:
        client.config_set("min-replicas-to-write", "0")
    assert backend.add("n", 1, None) == 1


def test_a_full_server_takes_no_messages_and_says_why(pair: Pair) -> None:
    bus = RedisBus(pair.way.url, "a")
    bus.register()
    with pair.first.client() as client:
        client.config_set("maxmemory", "1")
    for call in (bus.register, lambda: bus.broadcast("t", b"x", retain=True), lambda: bus.send("a", "1", b"x")):
        with pytest.raises(BusDown, match="maxmemory"):
            call()
    assert bus.take(0.01) is None, "what is there can be taken"
    with pair.first.client() as client:
        client.config_set("maxmemory", "0")
    assert bus.send("a", "1", b"x") == ""


def test_a_lock_is_kept_over_a_slow_way(pair: Pair, backend: RedisBackend) -> None:
    pair.way.delay_s = LEASE_S / 50
    lease = backend.take_lock("l", None)
    assert lease is not None
    held_since = time.monotonic()
    wait_until(lambda: time.monotonic() > held_since + 2 * LEASE_S, 10)
    lease.token()
    lease.release()


def wait_line(member: Member, beginning: str) -> None:
    """Read what a member prints up to a line that begins like this."""
    wait_until(lambda: member.line().startswith(beginning), 20, beginning)


def test_a_job_goes_on_elsewhere_while_its_machine_is_cut_off(
    pair: Pair, backend: RedisBackend, tmp_path: pathlib.Path, fork_server: ForkServer
) -> None:
    code = "import logging, sys\nlogging.basicConfig(stream=sys.stdout, format='log: %(message)s')\n"
    with (
        cluster_in(tmp_path, fork_server, pair.way.url) as near,
        cluster_in(tmp_path, fork_server, pair.first.url) as far,
    ):
        cut = near.start(code + EVERY.format(seconds=0.2, work=""))
        assert cut.line() == "registered"
        assert cut.line().startswith("from")
        other = far.start(EVERY.format(seconds=0.2, work=""))
        assert other.line() == "registered"
        pair.way.cut()
        wait_line(cut, "log: cluster: the periodic job 'job' is not run: Redis does not respond")
        direct = RedisBackend(pair.first.url, "x")
        before = direct.counter_value("ticks")
        wait_until(lambda: direct.counter_value("ticks") >= before + 3, 20)
        pair.way.restore()
        wait_line(cut, "log: cluster: the periodic job 'job' is run again when it is due")
        direct.close()
        times = begun(stop([other, cut]))
    assert all(after - before > 0.05 for before, after in itertools.pairwise(times))


def test_a_job_whose_lock_was_lost_says_so(pair: Pair, tmp_path: pathlib.Path, fork_server: ForkServer) -> None:
    work = "time.sleep(0.1)\n    place_lost(cluster)"
    code = f"""
import logging, sys
logging.basicConfig(stream=sys.stdout, format='log: %(message)s')
import redis
def place_lost(cluster):
    redis.Redis(port={pair.first.port}).delete("wsgicluster:lock:i:every:job")
"""
    with cluster_in(tmp_path, fork_server, pair.way.url) as members:
        member = members.start(code + EVERY.format(seconds=0.3, work=work))
        assert member.line() == "registered"
        wait_line(member, "log: cluster: the lock of the periodic job 'job' was lost while it ran")
        stop([member])


def test_behind_haproxy_a_fail_over_needs_no_change_of_an_address(pair: Pair, tmp_path: pathlib.Path) -> None:
    front = find_free_ports(1)[0]
    addresses = {
        "FRONT": f"127.0.0.1:{front}",
        "ONE": f"127.0.0.1:{pair.first.port}",
        "TWO": f"127.0.0.1:{pair.second.port}",
    }
    pair.replicate()
    configuration = ROOT / "examples" / "three_hosts" / "redis-haproxy.cfg"
    with Proxy(tmp_path, [program("haproxy"), "-db", "-f", str(configuration)], addresses):
        backend = RedisBackend(f"redis://127.0.0.1:{front}/0", "a server")

        def added() -> int:
            with contextlib.suppress(BusDown):
                return backend.add("n", 1, None)
            return 0

        # Before it has asked both it may lead to the replica.
        first = wait_until(added, 20, "it leads to the first")
        with pair.first.client() as client:
            assert client.execute_command("WAIT", 1, 5000) == 1
        pair.promote()
        pair.demote()
        assert wait_until(added, 20, "it leads to the second") == first + 1
        with pair.second.client() as client:
            assert client.get("wsgicluster:store:n") == str(first + 1).encode()
        backend.close()
