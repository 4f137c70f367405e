"""A worker on probation whose clients all keep their connections: it gets its share of these, and none is lost."""

import os
import pathlib
import re
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.certificates import make_certificates
from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import BrokenResponse, Connection
from tests.live.ctl import ctl
from tests.live.test_canary import write
from tests.live.tls_client import TlsClient

pytestmark = pytest.mark.live

WORKERS, CLIENTS = 3, 12
SHARE = 1 / (WORKERS + 1)
KINDS = [("sync",), ("gthread", "--threads", "4"), ("gevent",)]
COMPARED = r"probation: 0 of (\d+) requests failed .*; the old workers: 0 of (\d+) requests failed"


class KeptClients:
    """Clients that ask without a pause, each on one connection as long as the server keeps it."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self.answers: list[tuple[int, str]] = []
        self.losses: list[str] = []
        self.connects = 0
        self._connect = connect
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self) -> "KeptClients":
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.answers) > 4 * CLIENTS, 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                with self._connect() as connection:
                    with self._lock:
                        self.connects += 1
                    self._ask_on(connection)
            except (OSError, BrokenResponse) as error:
                self.losses.append(repr(error))

    def _ask_on(self, connection: Connection) -> None:
        while not self._stop.is_set():
            response = connection.exchange()
            self.answers.append((response.status, response.body.decode()))
            if response.closes:
                return

    def count(self, version: str) -> int:
        """How many responses were those of a version."""
        return sum(body == version for _, body in list(self.answers))


@pytest.fixture(params=["compiled", "plain"])
def core(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment in which a server has the one or the other core."""
    return {"WSGICLUSTER_PURE": "1"} if request.param == "plain" else {}


@pytest.fixture(params=KINDS, ids=" ".join)
def live(
    request: pytest.FixtureRequest, server: StartServer, tmp_path: pathlib.Path, core: dict[str, str]
) -> Iterator[LiveServer]:
    if request.param[0] == "gevent":
        pytest.importorskip("gevent")
    yield from serving(server, tmp_path, "-k", *request.param, environ=core)


def serving(
    server: StartServer, folder: pathlib.Path, *arguments: str, environ: dict[str, str] | None = None
) -> Iterator[LiveServer]:
    write(folder, "first")
    live = server("app", "-w", str(WORKERS), "--reload-latency-factor", "0", *arguments, environ=environ)
    live.wait_workers(WORKERS)
    yield live
    assert live.stop() == 0
    assert not live.said("internal error")


def descriptors(live: LiveServer) -> int:
    """How many files the arbiter has open."""
    return len(os.listdir(f"/proc/{live.pid}/fd"))


def goes_through(live: LiveServer, clients: KeptClients, seconds: int = 4) -> None:
    """Reload with code that is as good; the new worker gets between half and twice its share in so many seconds."""
    write(live.folder, "second")
    found = ctl(live, "reload", "--canary", str(seconds), "--wait")
    assert found.returncode == 0, found.stderr
    (compared,) = re.findall(COMPARED, live.log())
    new, old = map(int, compared)
    assert SHARE / 2 <= new / (new + old) <= SHARE * 2
    before = clients.count("second")
    wait_until(lambda: clients.count("second") > before + 20, 20)


def test_good_code_gets_its_share_and_goes_through(live: LiveServer) -> None:
    before = descriptors(live)
    with KeptClients(lambda: Connection(live.port)) as clients:
        write(live.folder, "second")
        live.send(signal.SIGHUP)  # as ever: nothing is compared, and nothing given
        live.wait_log("Reload complete")
        live.forget_log()
        # Connections move to it at once; elsewhere it gets them as clients connect anew.
        goes_through(live, clients, seconds=3)
        live.wait_log("Reload complete")
    assert clients.losses == []
    assert {status for status, _ in clients.answers} == {200}
    wait_until(lambda: len(live.children()) == WORKERS, 20)
    wait_until(lambda: descriptors(live) <= before, 20)


def test_code_that_fails_is_rolled_back_and_twice_so(live: LiveServer) -> None:
    before = descriptors(live)
    with KeptClients(lambda: Connection(live.port)) as clients:
        for number in (2, 3):
            write(live.folder, "raises")
            found = ctl(live, "reload", "--canary", "60", "--wait")
            assert found.returncode == 1
            assert "LookupError: no table called users" in found.stderr
            live.wait_log(rf"generation {number}\) exited: stop requested")
            # Those that it had are served by the others.
            count = clients.count("first")
            wait_until(lambda count=count: clients.count("first") > count + 4 * CLIENTS, 20)  # type: ignore[misc]
    assert clients.losses == []
    wait_until(lambda: descriptors(live) <= before, 20)


def test_a_killed_one_loses_nothing_but_what_it_has(live: LiveServer) -> None:
    old = live.children()
    with KeptClients(lambda: Connection(live.port)) as clients:
        write(live.folder, "second")
        ctl(live, "reload", "--canary", "60")
        wait_until(lambda: clients.count("second") > 20, 20)
        (new,) = set(live.children()) - set(old)
        os.kill(new, signal.SIGKILL)
        live.wait_log("Reload aborted: generation 2 failed to start")
        before = clients.count("first")
        wait_until(lambda: clients.count("first") > before + 8 * CLIENTS, 20)
    # Those that it had, each once; in sync an idle worker takes what waits for the others, and may have had many.
    assert len(clients.losses) < CLIENTS
    assert live.children() == old


@pytest.mark.parametrize("policy", ["round-robin", "least-connections"])
def test_where_a_policy_places_clients(server: StartServer, tmp_path: pathlib.Path, policy: str) -> None:
    for live in serving(server, tmp_path, "-k", "gthread", "--threads", "4", "--scheduling", policy):
        with KeptClients(lambda: Connection(live.port)) as clients:  # noqa: B023 - ends before the next one
            goes_through(live, clients)
        assert clients.losses == []


def test_where_connections_cannot_move(server: StartServer, tmp_path: pathlib.Path, core: dict[str, str]) -> None:
    certificates = make_certificates(tmp_path)
    context = certificates.client()
    arguments = ("-k", "gthread", "--threads", "4", *certificates.flags())
    for live in serving(server, tmp_path, *arguments, environ=core):
        with KeptClients(lambda: TlsClient(live.port, context)) as clients:  # noqa: B023 - as above
            goes_through(live, clients)
        assert clients.losses == []


def test_where_clients_belong_to_workers(server: StartServer, tmp_path: pathlib.Path) -> None:
    arguments = ("-k", "gthread", "--threads", "4", "--scheduling", "sticky", "--sticky", "cookie")
    for live in serving(server, tmp_path, *arguments):
        with KeptClients(lambda: Connection(live.port)) as clients:  # noqa: B023 - as above
            goes_through(live, clients)
        assert clients.losses == []
