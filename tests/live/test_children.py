"""Processes that an application starts: whatever the way and the moment, nothing of the server's is theirs.

One server for each kind of worker; the cases are the ways of ``tests.apps.children`` times the moments.
"""

import contextlib
import json
import os
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apps import children
from tests.conftest import LiveServer, StartServer, is_alive, wait_until
from tests.live.client import Connection, fetch
from tests.live.test_addresses import is_refused

pytestmark = pytest.mark.live

KINDS = {
    "sync": ("-k", "sync"),
    "plain": ("-k", "sync"),
    "preload": ("-k", "sync", "--preload"),
    "gthread": ("-k", "gthread", "--threads", "3"),
    "gevent": ("-k", "gevent"),
    "gevent-preload": ("-k", "gevent", "--preload"),
}
MOMENTS = ("import", "request", "thread", "iterator", "close")
TAKEN = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
    signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD, signal.SIGABRT, signal.SIGSEGV,
)  # fmt: skip


def ways_of(kind: str, moment: str = "") -> list[str]:
    """Those that work at all with the libraries of this kind: with gevent, ``Pool`` hangs under no server as well."""
    left_out = {"pool"} if kind.startswith("gevent") else set()
    if (kind, moment) == ("gevent-preload", "import"):
        left_out.add("executor")  # its thread is a greenlet, and the process that forks workers switches to none
    return [way for way in children.WAYS if way not in left_out]


def begin(folder: pathlib.Path, kind: str, *arguments: str, **environ: str) -> LiveServer:
    """A server of this kind, one worker, with the application of these tests."""
    if kind.startswith("gevent"):
        pytest.importorskip("gevent")
    if kind == "plain":
        environ["WSGICLUSTER_PURE"] = "1"
    every = ("tests.apps.children:application", "-b", "127.0.0.1:0", "-w", "1", "--chdir", str(folder), *KINDS[kind])
    live = LiveServer(folder, [*every, *arguments], environ)
    live.start().wait_listening()
    return live


@pytest.fixture(scope="module", params=KINDS)
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose application has started processes while it was imported."""
    kind = request.param
    started = begin(tmp_path_factory.mktemp(kind), kind, AT_IMPORT=",".join(ways_of(kind, "import")))
    started.wait_log("1 worker serves", 20)
    yield started
    started.end()
    print(started.log())


def facts(folder: pathlib.Path, way: str, moment: str) -> dict[str, Any]:
    """What a process has written, once it has."""
    path = folder / f"{way}-{moment}.json"
    wait_until(path.exists, 20, path.name)
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    path.unlink()
    return found


def complaints(found: dict[str, Any], server_sockets: set[str], starts_program: bool) -> list[str]:
    """What a process has that it should not have."""
    wrong = []
    for number in TAKEN:
        bit = 1 << number - 1
        caught = () if number in (signal.SIGINT, signal.SIGCHLD) else ("SigCgt",)
        wrong += [f"{name} {number.name}" for name in ("SigIgn", "SigBlk", *caught) if found[name] & bit]
    wrong += [link for link in found["links"] if link in server_sockets or "wsgicluster" in link]
    if not starts_program and "wsgicluster: " in found["title"]:
        wrong.append(found["title"])
    return wrong


def sockets_of(pids: list[int]) -> set[str]:
    """What sockets these processes have open."""
    links = set()
    for pid in pids:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                links.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return {link for link in links if link.startswith("socket:")}


def ended_by_term(pid: int) -> None:
    """Have a process end as ``Process.terminate()`` does."""
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_alive(pid), 5, f"{pid} ends at SIGTERM")


@pytest.mark.parametrize("moment", [*MOMENTS, "greenlet"])
def test_a_process_inherits_nothing_of_the_server(live: LiveServer, moment: str) -> None:
    """(Node 10)"""
    kind = live.folder.name.removesuffix("0")
    if moment == "greenlet" and not kind.startswith("gevent"):
        pytest.skip("there are no greenlets")
    ways = ways_of(kind, moment)
    with Connection(live.port) as kept:
        worker = int(kept.exchange("/pid").body)
        if moment != "import":
            assert kept.exchange(f"/{moment}?{','.join(ways)}").status == 200
        found = {way: facts(live.folder, way, moment) for way in ways}
        # The connection of the request is open in the worker now.
        kept.exchange("/pid")
        sockets = sockets_of([worker, *live.children(), live.pid])
        # An executor's and a pool's own pipes are the application's, and none is a socket.
        wrong = {way: complaints(found[way], sockets, "process" not in way) for way in ways}
    assert wrong == {way: [] for way in ways}
    for way in ways:
        ended_by_term(found[way]["pid"])
    for _ in range(3):
        response = fetch(live.port, "/pid")
        assert (response.body, response.closes) == (b"%d" % worker, False)
    assert "internal error" not in live.log()


@pytest.mark.parametrize("kind", ["gevent", "gthread", "sync"])
def test_a_process_runs_no_request_of_its_parent(kind: str, tmp_path: pathlib.Path) -> None:
    """With greenlets all that waits would go on in both processes."""
    live = begin(tmp_path, kind)
    try:
        with Connection(live.port) as slow, Connection(live.port) as quick:
            if kind != "sync":
                slow.ask("/sleep/0.3")
            assert quick.exchange("/request?fork,process-fork").status == 200
            if kind != "sync":
                worker = slow.response().body
            else:
                worker = slow.exchange("/sleep/0.1").body
        pids = [facts(tmp_path, way, "request")["pid"] for way in ("fork", "process-fork")]
        assert all(map(is_alive, pids))
        assert (tmp_path / "slept").read_bytes() == worker + b"\n"
    finally:
        live.end()


MULTIPROCESSING = ["process-fork", "process-spawn", "process-forkserver", "executor", "pool"]


ENDS = [("sync", "stop"), ("plain", "quit"), ("preload", "stop"), ("preload", "quit"), ("preload", "reload"),
        ("gthread", "stop"), ("gthread", "reload"), ("gevent", "stop"), ("gevent", "quit"), ("gevent", "reload"),
        ("gevent-preload", "stop")]  # fmt: skip


@pytest.mark.parametrize(("kind", "how"), ENDS)
def test_a_stop_waits_for_no_process_and_ends_those_that_are_bound_to_it(
    kind: str, how: str, tmp_path: pathlib.Path
) -> None:
    ways = [way for way in MULTIPROCESSING if way in ways_of(kind, "import")]
    others = ["fork", "subprocess", "subprocess-descriptors"]
    live = begin(tmp_path, kind, "--graceful-timeout", "20", AT_IMPORT=",".join(ways + others))
    try:
        live.wait_log("1 worker serves", 20)
        assert fetch(live.port, f"/request?{','.join(ways + others)}").status == 200
        assert fetch(live.port, f"/atexit?{','.join(ways)}").status == 200
        bound = [facts(tmp_path, way, moment)["pid"] for way in ways for moment in ("import", "request")]
        free = [facts(tmp_path, way, moment)["pid"] for way in others for moment in ("import", "request")]
        port = live.port
        if how == "reload":
            live.send(signal.SIGHUP)
            live.wait_log("Reload complete", 15)
        else:
            assert live.stop(signal.SIGTERM if how == "stop" else signal.SIGQUIT) == 0
            assert is_refused(port)  # no process has kept the address
        wait_until(lambda: not any(map(is_alive, bound)), 8, "what is bound to the worker has ended")
        assert all(map(is_alive, free))
    finally:
        live.end()


NEVER_ENDING = """
import multiprocessing, os, signal, threading, time

def helper(name):
    if name == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(f"{name}-{os.getpid()}.pid", "w").close()
    while True:
        time.sleep(0.1)

def begin(name, daemon):
    multiprocessing.get_context("fork").Process(target=helper, args=(name,), daemon=daemon).start()

if multiprocessing.current_process().name == "MainProcess":
    begin("daemon", True)
    begin("lasting", False)
    begin("deaf", True)

def application(environ, start_response):
    if environ["PATH_INFO"] == "/begin":
        begin("work", False)
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]
"""


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_started_at_import_ends_with_its_worker_and_work_of_a_request_goes_on(
    server: StartServer, tmp_path: pathlib.Path, kind: str
) -> None:
    if kind.startswith("gevent"):
        pytest.importorskip("gevent")
    environ = {"WSGICLUSTER_PURE": "1"} if kind == "plain" else {}
    live = server("app", "-w", "1", "--graceful-timeout", "20", *KINDS[kind], source=NEVER_ENDING, environ=environ)
    live.wait_log("1 worker serves")
    assert fetch(live.port, "/begin").status == 200

    def pids(name: str) -> list[int]:
        return [int(path.stem.partition("-")[2]) for path in tmp_path.glob(f"{name}-*.pid")]

    wait_until(lambda: all(map(pids, ("daemon", "lasting", "deaf", "work"))), 10)
    assert live.stop() == 0
    ends = [*pids("daemon"), *pids("lasting"), *(pids("deaf") if "preload" not in kind else [])]
    wait_until(lambda: not any(map(is_alive, ends)), 5)
    assert all(map(is_alive, pids("work")))
