"""Servers whose number of workers follows their load, with real requests."""

import contextlib
import importlib.util
import json
import os
import pathlib
import signal

import pytest

from tests.conftest import LiveServer, StartServer, children_of, wait_until
from tests.live.client import Connection, Visitors, fetch
from tests.live.ctl import ctl
from tests.live.test_upgrade import begin_upgrade

pytestmark = pytest.mark.live

APP = """\
import contextlib
import hashlib
import os
import pathlib
import time


def application(environ, start_response):
    if environ["PATH_INFO"] == "/quick":
        start_response("200 OK", [("Content-Length", "1")])
        return [b"1" if environ["wsgi.multiprocess"] else b"0"]
    if environ["PATH_INFO"] == "/busy":
        from gevent import get_hub

        # Has one processor whatever else the machine does, and leaves it the others.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)
        with contextlib.suppress(OSError):
            pathlib.Path("/proc/self/autogroup").write_text("-20")
        threads = [get_hub().threadpool.spawn(hashlib.pbkdf2_hmac, "sha256", b"a", b"b", 50_000) for _ in range(2)]
        for each in threads:
            each.get()
    else:
        time.sleep(0.05)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


class Rush(Visitors):
    """Each on new connections."""

    def __init__(self, live: LiveServer, clients: int, path: str) -> None:
        super().__init__(live.port, clients)
        self.path = path
        self.served = 0

    def ask(self) -> None:
        with Connection(self.port) as connection:
            response = connection.exchange(self.path, extra="Connection: close\r\n")
        self.served += 1
        if response.status != 200:
            self.losses.append(str(response.status))


KINDS = {
    # How many there may be, how many clients, and what they ask for.
    "sync": ((), "2..8", 12, "/"),
    "gthread": (("--threads", "2"), "1..2", 8, "/"),
    # What counts is the processor time, which only root can be sure to get.
    "gevent": ((), "1..2", 4, "/busy"),
}


def test_workers_follow_a_step_of_load_up_and_down(server: StartServer, tmp_path: pathlib.Path) -> None:
    """All kinds at a time: what takes long is to wait for the looks, which are a second from each other."""
    servers, rushes = {}, {}
    has_gevent = os.geteuid() == 0 and importlib.util.find_spec("gevent") is not None
    kinds = {kind: row for kind, row in KINDS.items() if kind != "gevent" or has_gevent}
    small = kinds.keys() - {"sync"}
    for kind, (more, workers, _, _) in kinds.items():
        folder = tmp_path / kind
        folder.mkdir()
        arguments = ("app", "-w", workers, "-k", kind, *more, "--worker-idle-timeout", "1")
        servers[kind] = server(*arguments, source=APP, folder=folder)
    with contextlib.ExitStack() as owned:
        for kind, (_, _, clients, path) in kinds.items():
            live = servers[kind]
            live.wait_log("Started: ")
            if kind == "gthread":
                assert fetch(live.port, "/quick").body == b"1", "one worker that may get others is one of several"
            rushes[kind] = owned.enter_context(Rush(live, clients, path))
        for kind in small:
            # From here on it has nothing to do.
            servers[kind].wait_log(r"Autoscaling: 1 -> 2 workers, busy: \d+ % of 1 worker's time", 60)
            rushes[kind].end()
        live = servers["sync"]
        live.wait_log(r"Autoscaling: 2 -> 4 workers, busy: \d+ % of 2 workers' time", 30)
        live.wait_log("-> 8 workers, ", 30)
        wait_until(lambda: len(live.children()) == 8, 20)
    listed = json.loads(ctl(live, "list", "--json").stdout)["server"]
    assert listed["workers"]["range"] == "2..8"
    assert sum(listed["scalings"]["up"].values()) >= 2
    for kind in small:
        servers[kind].wait_log("Autoscaling: 2 -> 1 worker, idle: ", 30)
        wait_until(lambda kind=kind: len(servers[kind].children()) == 1, 20)  # type: ignore[misc]
    live.wait_log("Autoscaling: 7 -> 6 workers, idle: ", 30)
    for kind, (_, _, clients, _) in kinds.items():
        assert rushes[kind].losses == []
        assert rushes[kind].served > clients
        assert servers[kind].stop() == 0
        # It ends there.
        assert not servers[kind].said("Autoscaling: 1 -> 0")


def test_an_operator_may_choose_within_the_range(server: StartServer) -> None:
    # Nothing is decided in between.
    live = server("app", "-w", "2..4", "--worker-idle-timeout", "10m", source=APP)
    live.wait_workers(2)
    assert ctl(live, "scale", "3", "--wait").stdout == "2 -> 3 workers\n"
    found = ctl(live, "scale", "5")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == (
        "wsgiclusterctl: error: 5 workers are more than workers = 2..4 allows; change that and reload, or use 4\n"
    )
    assert ctl(live, "set", "workers", "+9").stderr.startswith("wsgiclusterctl: error: 12 workers are more than ")
    assert ctl(live, "get", "workers").stdout == "2..4\n"
    assert ctl(live, "set", "workers", "4").stdout == "workers = 4 (at once, until the next reload)\n"
    live.send(signal.SIGTTIN)
    live.wait_log("SIGTTIN: 4 workers")
    wait_until(lambda: len(live.children()) == 4, 20)
    live.send(signal.SIGTTOU)
    live.wait_log("SIGTTOU: 3 workers")
    wait_until(lambda: len(live.children()) == 3, 20)
    # A reload keeps the number that is there.
    assert ctl(live, "reload", "--wait").stdout.startswith("generation 2 serves with 3 workers ")
    # An upgrade does, too, and goes on from there.
    new = begin_upgrade(live)
    assert live.said("Started: 3 workers serve")
    assert live.stop() == 0
    wait_until(lambda: len(children_of(new)) == 3, 20)
    os.kill(new, signal.SIGTTOU)
    wait_until(lambda: len(children_of(new)) == 2, 20)
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not live.members(), 20)


def test_a_reload_gives_and_takes_a_range(server: StartServer) -> None:
    live = server("app", "--worker-idle-timeout", "10m", source=APP)
    live.wait_workers(1)
    for text, workers, says in (('"2..4"', 2, "workers: 1 -> 2..4"), ("1", 1, "workers: 2..4 -> 1")):
        (live.folder / "wsgicluster.conf.py").write_text(f"workers = {text}\n", "utf-8")
        found = ctl(live, "reload", "--wait")
        assert f" serves with {workers} worker" in found.stdout
        live.wait_log(f"Changed settings: {says}")
        wait_until(lambda workers=workers: len(live.children()) == workers, 20)  # type: ignore[misc]
    assert live.stop() == 0
