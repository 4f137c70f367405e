"""A primary that Sentinels watch is killed or gives its part away; the cluster goes on with what they name then."""

import contextlib
import pathlib
from collections.abc import Iterator

import pytest
import redis.exceptions

from tests.certificates import make_certificates
from tests.conftest import find_free_ports, wait_until
from tests.redis_server import RedisServer, Sentinel, needs_redis
from wsgicluster.cluster.errors import BusDown
from wsgicluster.cluster.redis.backend import RedisBackend
from wsgicluster.cluster.redis.bus import RedisBus
from wsgicluster.cluster.redis.connection import check_url, connect
from wsgicluster.errors import UsageError

pytestmark = [needs_redis, pytest.mark.live]


class Watched:
    """A primary and its replica, a Sentinel, and the URL of that behind one that is not there."""

    def __init__(self, folder: pathlib.Path, owned: contextlib.ExitStack) -> None:
        self.servers = []
        for name in ("primary", "replica"):
            (folder / name).mkdir()
            self.servers.append(RedisServer(folder / name))
            owned.callback(self.servers[-1].stop)
            # From its start on, so that no other command has to be waited for.
            replica_of = ("--replicaof", f"127.0.0.1 {self.servers[0].port}") if name == "replica" else ()
            self.servers[-1].start("--repl-diskless-sync-delay", "0", *replica_of)
        self.primary, self.replica = self.servers
        with self.replica.client() as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", 30, "it replicates")
        self.sentinel = Sentinel(folder, self.primary.port)
        owned.callback(self.sentinel.stop)
        self.sentinel.wait_replica()
        absent = find_free_ports(1)[0]
        self.url = f"redis+sentinel://127.0.0.1:{absent},127.0.0.1:{self.sentinel.port}/shop/0"

    def wait_copied(self) -> None:
        """Wait until the replica has what was written to the primary."""
        with self.primary.client() as client:
            client.set("test", "x")  # the command waits for writes of its own connection
            assert client.execute_command("WAIT", 1, 10_000) == 1


@pytest.fixture
def watched(tmp_path: pathlib.Path) -> Iterator[Watched]:
    with contextlib.ExitStack() as owned:
        yield Watched(tmp_path, owned)


@pytest.fixture
def backend(watched: Watched) -> Iterator[RedisBackend]:
    made = RedisBackend(watched.url, "a server")
    yield made
    made.close()


def added(backend: RedisBackend) -> int:
    """The next value of a counter, or 0 while there is no server to count."""
    with contextlib.suppress(BusDown):
        return backend.add("n", 1, None)
    return 0


def test_the_cluster_goes_on_after_its_primary_was_killed(watched: Watched, backend: RedisBackend) -> None:
    here, there = RedisBus(watched.url, "a"), RedisBus(watched.url, "b")
    for bus in (here, there):
        bus.register()
        assert bus.take(0.01) is None
    here.broadcast("config", b"kept", retain=True)
    assert added(backend) == 1
    watched.wait_copied()
    watched.primary.stop()
    with pytest.raises(BusDown):
        backend.add("n", 1, None)
    with pytest.raises(BusDown):
        there.take(0.01)
    assert wait_until(lambda: added(backend), 60, "the replica has taken over") == 2
    with watched.replica.client() as client:
        assert client.get("wsgicluster:store:n") == b"2"

    def taken() -> bytes | None:
        with contextlib.suppress(BusDown):
            mail = there.take(0.01)
            return mail.packet if mail is not None else None
        return None

    assert wait_until(taken, 20, "what was queued is there") == b"kept"
    with contextlib.suppress(BusDown):  # of the connection to the old one
        here.register()
    assert here.register() > 0
    assert here.broadcast("config", b"new", retain=True)[1] == 1
    assert taken() == b"new"
    for bus in (here, there):
        bus.abandon()


def test_a_planned_fail_over_loses_nothing(watched: Watched, backend: RedisBackend) -> None:
    with watched.primary.client() as client:
        # Sentinels make a replica of it ten seconds after; until then this keeps it from taking writes.
        client.config_set("min-replicas-to-write", "1")
    assert added(backend) == 1
    watched.wait_copied()
    watched.sentinel.ask("SENTINEL", "FAILOVER", "shop")

    def promoted() -> bool:
        with watched.replica.client() as there, watched.primary.client() as here:
            is_primary = there.info("replication")["role"] == "master"
            return bool(is_primary and here.info("replication")["connected_slaves"] == 0)

    wait_until(promoted, 60, "the replica was promoted")
    assert wait_until(lambda: added(backend), 60, "the replica counts") == 2
    with watched.replica.client() as client:
        assert client.get("wsgicluster:store:n") == b"2"


def test_no_connection_to_a_sentinel_is_kept(watched: Watched, backend: RedisBackend) -> None:
    before = watched.sentinel.ask("CLIENT", "LIST").count(b"cmd=sentinel|master")
    assert added(backend) == 1
    wait_until(lambda: watched.sentinel.ask("CLIENT", "LIST").count(b"cmd=sentinel|master") == before, 10)


@pytest.mark.parametrize("word", ["wanted", "wrong"])
def test_parameters_reach_the_server_and_the_sentinels(tmp_path: pathlib.Path, word: str) -> None:
    with contextlib.ExitStack() as owned:
        server = RedisServer(tmp_path)
        owned.callback(server.stop)
        server.start()
        sentinel = Sentinel(tmp_path, server.port, password="wanted")
        owned.callback(sentinel.stop)
        parameters = f"sentinel_password={word}&client_name=shop"
        client = connect(f"redis+sentinel://127.0.0.1:{sentinel.port}/shop/3?{parameters}")
        owned.callback(client.close)
        if word == "wrong":
            with pytest.raises(redis.exceptions.ConnectionError, match=r"shop \(127.*invalid username-password"):
                client.ping()
            return
        client.set("k", "v")
        with server.client() as there:
            assert there.execute_command("INFO", "keyspace")["db3"]["keys"] == 1
            assert b"name=shop" in there.execute_command("CLIENT", "LIST")


def test_with_tls_both_are_reached_by_it(tmp_path: pathlib.Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    tls = {"cert-file": "server.pem", "key-file": "server.key", "ca-cert-file": "ca.pem"}
    words = [(f"tls-{name}", made.path(file)) for name, file in tls.items()] + [("tls-auth-clients", "no")]
    at_server, at_sentinel = find_free_ports(2)
    with contextlib.ExitStack() as owned:
        server = RedisServer(tmp_path)
        owned.callback(server.stop)
        with server.start().client() as there:
            if not there.config_get("tls-port"):
                pytest.skip("this redis-server was built without TLS")
        server.stop()
        server.start("--tls-port", str(at_server), *(part for name, value in words for part in (f"--{name}", value)))
        lines = (f"tls-port {at_sentinel}", "tls-replication yes", *(" ".join(each) for each in words))
        owned.callback(Sentinel(tmp_path, at_server, *lines).stop)
        url = f"rediss+sentinel://localhost:{at_sentinel}/shop/0"
        with pytest.raises(redis.exceptions.ConnectionError, match="self-signed certificate"):
            connect(url).ping()
        client = connect(f"{url}?ssl_ca_certs={made.path('ca.pem')}")
        owned.callback(client.close)
        client.set("k", "v")
        with server.client() as there:
            assert there.get("k") == b"v"


def test_what_is_wrong_is_said_in_one_line(watched: Watched) -> None:
    absent = find_free_ports(1)[0]
    port = watched.sentinel.port
    for url, says in {
        f"redis+sentinel://127.0.0.1:{absent}/shop": rf"primary shop \(127\.0\.0\.1:{absent}: .*refused",
        f"redis+sentinel://127.0.0.1:{port}/chop": rf"primary chop \(127\.0\.0\.1:{port}: .*No such master",
        f"redis+sentinel://127.0.0.1:{port}/shop?colour=1": "colour",
    }.items():
        with pytest.raises(UsageError, match=says) as raised:
            check_url(url, url)
        assert "\n" not in str(raised.value)
    check_url(watched.url, watched.url)
    watched.replica.stop()
    watched.primary.stop()
    with pytest.raises(UsageError):
        check_url(watched.url, watched.url)
    wait_until(lambda: b"s_down" in b",".join(map(bytes, watched.sentinel.ask("SENTINEL", "MASTER", "shop"))), 30)
    with pytest.raises(UsageError, match="it is down, and no replica has taken its part"):
        check_url(watched.url, watched.url)
