"""Reforks: a worker that has served becomes the mold, and the others are forked from it."""

import json
import os
import pathlib
import re
import signal

import pytest

from tests.conftest import LiveServer, StartServer, children_of, has_at_most, steady_descriptors, wait_until
from tests.live.client import Load, fetch
from tests.live.ctl import ctl

pytestmark = pytest.mark.live

SOURCE = """
import os, socket, threading
LOADED = os.getpid()
SEEN = []
KEPT = []

def application(environ, start_response):
    SEEN.append(1)
    path = environ["PATH_INFO"]
    if path == "/thread":
        threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
    if path == "/connect":
        KEPT.append(socket.create_connection(("127.0.0.1", int(environ["SERVER_PORT"]))))
    if path == "/stream":
        start_response("200 OK", [])
        return (b"block" for _ in range(100))
    body = f"{os.getpid()} {LOADED} {len(SEEN)}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
HOOKS = """
import os

def before_mold_fork(server, worker):
    server.log.info("before a mold: worker %s is %d", worker.pid, os.getpid())
    BEFORE

def after_mold_fork(server):
    server.log.info("after it: %d", os.getpid())
    AFTER
"""
FORKED = r"Refork: Mold \(pid (\d+), generation \d+\) was forked from a worker"
SERVES = r"The new server \(pid \d+\) serves"
KINDS = {"sync": ("-k", "sync"), "plain": ("-k", "sync"), "gthread": ("-k", "gthread", "--threads", "2")}


def start(
    server: StartServer, tmp_path: pathlib.Path, *arguments: str, before: str = "", after: str = ""
) -> LiveServer:
    (tmp_path / "conf.py").write_text(HOOKS.replace("BEFORE", before).replace("AFTER", after))
    live = server("app", "-c", "conf.py", "--preload", "--refork-after", "5", *arguments, source=SOURCE)
    live.wait_log("Started: ")
    return live


def served(live: LiveServer, path: str = "/") -> tuple[int, int, int]:
    """The worker, the process that it has loaded the application in, and how many requests that has seen in all."""
    pid, loaded, seen = fetch(live.port, path).body.split()
    return int(pid), int(loaded), int(seen)


def said(live: LiveServer, pattern: str) -> tuple[str, ...]:
    """The groups of the first place in the log that matches."""
    live.wait_log(pattern)
    found = re.search(pattern, live.log())
    assert found is not None
    return found.groups()


def refork(live: LiveServer, workers: int) -> int:
    """Have a worker serve enough, and wait until all are of the mold that was forked from it; the pid of that."""

    def done() -> bool:
        served(live)
        return live.log().count("Refork: ") == before + 1

    before = live.log().count("Refork: ")
    wait_until(done, 15, "a refork")
    mold = int(re.findall(FORKED, live.log())[-1])
    wait_until(lambda: live.log().count("recycled after a refork") >= workers, 15, "all workers are replaced")
    return mold


@pytest.mark.parametrize("kind", KINDS)
def test_workers_of_a_worker(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    environ = {"WSGICLUSTER_PURE": "1"} if kind == "plain" else {}
    (tmp_path / "conf.py").write_text(HOOKS.replace("BEFORE", "").replace("AFTER", ""))
    live = server(
        "app", "-c", "conf.py", "--preload", "--refork-after", "5", "-w", "2", *KINDS[kind],
        source=SOURCE, environ=environ,
    )  # fmt: skip
    live.wait_log("Started: ")
    first = served(live)
    assert fetch(live.port, "/stream").body == b"block" * 100
    open_in_arbiter = steady_descriptors(live.pid)
    with Load(live.port, clients=1, paths=("/",)) as load:
        mold = refork(live, 2)
    assert load.losses == []
    source = said(live, r"before a mold: worker (\d+) is (\d+)")
    assert source[0] == source[1]
    live.wait_log(f"after it: {mold}")
    after = served(live)
    assert after[0] != first[0]
    assert after[1] == first[1], "what was loaded once is not loaded again"
    assert after[2] > 5, "what the promoted worker has seen is there"
    # A second life of all that the promoted worker had used.
    assert fetch(live.port, "/stream").body == b"block" * 100
    (listed,) = [each for each in json.loads(ctl(live, "list", "--json").stdout)["others"] if each["role"] == "mold"]
    assert (listed["pid"], listed["promoted"]) == (mold, True)
    wait_until(lambda: has_at_most(live.pid, open_in_arbiter), 5, "no descriptor is left behind")
    assert not children_of(live.pid, zombies=True)
    assert live.stop() == 0


def test_what_changes_behind_a_refork(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = start(server, tmp_path, "-w", "1")
    mold = refork(live, 1)
    _, loaded, _ = served(live)
    live.send(signal.SIGTTIN)
    live.wait_children(3)
    # What replaces a worker, for whatever reason, is forked from it, too.
    os.kill(served(live)[0], signal.SIGKILL)
    live.wait_log("All 2 workers serve again")
    assert {served(live)[1] for _ in range(10)} == {loaded}
    # A mold that is killed is replaced by one that loads the application, when the next worker is needed.
    os.kill(mold, signal.SIGKILL)
    live.wait_log(rf"Mold \(pid {mold}, generation 1\) was killed from outside")
    live.send(signal.SIGTTIN)
    wait_until(lambda: served(live)[1] != loaded, 15, "a worker of a fresh mold")
    live.send(signal.SIGHUP)
    live.wait_log("Generation 2 is healthy")
    refork(live, 1)


@pytest.mark.parametrize(
    ("path", "before", "after", "refusal"),
    [
        ("/thread", "", "", r"Refork refused by Worker 1 .*: it has other threads \(poller\)"),
        ("/connect", "", "", "no mold was forked from it: the application has connections"),
        ("/", "1 / 0", "", "no mold was forked from it: before_mold_fork: the hook failed: ZeroDivisionError"),
        ("/", "", "1 / 0", "after_mold_fork: the hook failed: ZeroDivisionError"),
    ],
    ids=["thread", "connection", "before", "after"],
)
def test_what_is_refused(
    server: StartServer, tmp_path: pathlib.Path, path: str, before: str, after: str, refusal: str
) -> None:
    live = start(server, tmp_path, "-w", "1", before=before, after=after)
    for _ in range(6):
        served(live, path)
    live.wait_log(refusal)
    assert served(live)[2] > 0
    live.send(signal.SIGTTIN)
    live.wait_children(3)
    assert "Refork: " not in live.log()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--refork-after", "5"), "refork_after: 5; expected preload_app as well"),
        (("--refork-after", "5", "--preload", "-k", "gevent"), "greenlets that wait for something"),
    ],
    ids=["no mold", "gevent"],
)
def test_settings_that_do_not_go_together(server: StartServer, arguments: tuple[str, ...], complaint: str) -> None:
    live = server("app", *arguments, source=SOURCE, listening=False)
    assert live.wait_end() == 2
    assert complaint in live.log()
    assert "Traceback" not in live.log()


def test_an_upgrade_and_recycling_behind_a_refork(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = start(server, tmp_path, "-w", "1", "--max-requests", "60")
    refork(live, 1)
    loaded = served(live)[1]
    wait_until(lambda: served(live) and "recycled after its number of requests" in live.log(), 15, "a recycled worker")
    assert served(live)[1] == loaded
    live.send(signal.SIGUSR2)
    live.wait_log(SERVES, 15)
    live.send(signal.SIGTERM)
    wait_until(lambda: live.process.poll() is not None, 15, "the server before has exited")
    assert live.process.returncode == 0
    assert served(live)[1] != loaded, "a fresh mold"
