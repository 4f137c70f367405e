"""Leaving and staying, as Node's tests of its cluster module have it: of those, what no other file of ours tests.

The numbers are those of the list in docs/explanation/node.rst.
"""

import contextlib
import os
import pathlib
import signal
import socket
import time

import pytest

from tests.conftest import StartServer, has_at_most, is_alive, process_state, steady_descriptors, wait_until
from tests.live.client import Connection, fetch
from tests.live.test_events import Noted

pytestmark = pytest.mark.live

FOR_EVER = ("--graceful-timeout", "600")
"""No test waits for so long: what ends meanwhile has not waited for its deadline."""

NOTE_LAST = """
@cluster.on_message("last")
def _last(message):
    with open("last.log", "a") as file:
        file.write(message.value + "\\n")
"""

SAYS_GOODBYE = """
import atexit, os
from wsgicluster import cluster

def say(what):
    cluster.send("steward", f"{cluster.worker.slot} {what}", topic="last")

@cluster.on("draining")
def draining(event):
    say("draining")

@cluster.on("disconnect")
def disconnect(event):
    say("disconnect")

atexit.register(say, "exit")

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
"""

HOLDS_ON = """
import concurrent.futures, os, socket, threading

def wait():
    threading.Event().wait()

threading.Thread(target=wait).start()
pool = concurrent.futures.ThreadPoolExecutor(1)
pool.submit(wait)
to_a_database = socket.create_connection(("127.0.0.1", int(os.environ["DATABASE"])))

def app(environ, start_response):
    threading.Thread(target=wait).start()
    start_response("200 OK", [])
    return [b"ok"]
"""


def stopped(pid: int) -> bool:
    found = process_state(pid)
    return found is not None and found[0] == "T"


def test_idle_children_stay_and_then_leave_at_once(server: StartServer, tmp_path: pathlib.Path) -> None:
    """Whether they listen or not, as the jobs worker does not.

    (Node 45, 46, 50: rr-handle-close, rr-handle-keep-loop-alive, disconnect-unshared-tcp)
    """
    noted = Noted(server, tmp_path, "-w", "2", "--jobs-worker", "--timeout", "1", *FOR_EVER).started(2)
    noted.wait(event="ready", role="jobs")
    children, began = noted.live.children(), time.monotonic()
    wait_until(lambda: time.monotonic() > began + 1.5, 5)
    assert noted.live.children() == children
    assert not noted.events(event="timeout")
    noted.live.send(signal.SIGTERM)
    assert noted.live.wait_end() == 0


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_connections_of_a_worker_that_leaves_are_answered(
    server: StartServer, tmp_path: pathlib.Path, kind: str
) -> None:
    """They were passed to it, and lie in its mailbox when it is asked to leave. (Node 44: worker-handle-close)"""
    flags = ("-w", "2", "-k", kind, "--scheduling", "round-robin", "--defer-accept", "0", *FOR_EVER)
    noted = Noted(server, tmp_path, *flags).started(2)
    assert noted.get("") == "ok"
    leaves, before = noted.pid("worker 2"), steady_descriptors(noted.live.pid)
    os.kill(leaves, signal.SIGSTOP)
    wait_until(lambda: stopped(leaves), 5)
    with contextlib.ExitStack() as owned:
        clients = [owned.enter_context(Connection(noted.live.port)) for _ in range(8)]
        for client in clients:
            client.ask()
        noted.live.send(signal.SIGHUP)
        wait_until(lambda: noted.events(event="draining", pid=leaves), 10)
        os.kill(leaves, signal.SIGCONT)
        assert [client.response().status for client in clients] == [200] * 8
    noted.wait(event="exit", pid=leaves)
    noted.live.wait_children(3)  # with the steward
    wait_until(lambda: has_at_most(noted.live.pid, before), 10)
    assert noted.live.stop() == 0


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_what_an_application_holds_does_not_hold_its_worker(
    server: StartServer, tmp_path: pathlib.Path, kind: str
) -> None:
    """Threads that are no daemons, a pool that is at work, a connection to a database.

    (Node 47, 79: rr-handle-ref-unref, worker-no-exit)
    """
    with socket.create_server(("127.0.0.1", 0)) as database:
        variables = {"DATABASE": str(database.getsockname()[1])}
        live = server("app:app", "-w", "2", "-k", kind, *FOR_EVER, source=HOLDS_ON, environ=variables)
        workers = live.wait_workers(2)
        assert fetch(live.port).status == 200
        live.send(signal.SIGHUP)
        live.wait_log("Reload complete")
        wait_until(lambda: not any(is_alive(pid) for pid in workers), 10, "the old workers have left")
        assert live.stop() == 0


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_last_messages_arrive(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    """Those that a worker sends when it is asked to leave, when it has, and in its last moment. (Node 48: rr-ref)"""
    (tmp_path / "wsgicluster.conf.py").write_text("from wsgicluster import cluster\n" + NOTE_LAST)
    live = server("app:app", "-w", "2", "-k", kind, *FOR_EVER, source=SAYS_GOODBYE)
    live.wait_log("Started: 2 workers serve")
    live.wait_log("Steward .* is ready")
    assert live.stop() == 0
    said = sorted((tmp_path / "last.log").read_text().splitlines())
    assert said == [f"{slot} {what}" for slot in (1, 2) for what in ("disconnect", "draining", "exit")]


def test_a_worker_that_is_too_many_before_it_has_its_listener(server: StartServer, tmp_path: pathlib.Path) -> None:
    """Its mold has been asked for it, and has not answered yet. (Node 49: dgram and others, close before the reply)"""
    noted = Noted(server, tmp_path, "-w", "1", "--preload", *FOR_EVER).started()
    mold, arbiter = noted.pid("mold"), noted.live.pid
    before = steady_descriptors(arbiter)
    os.kill(mold, signal.SIGSTOP)
    wait_until(lambda: stopped(mold), 5)
    noted.get("ask/scale/2")
    noted.wait(2, event="fork", role="worker")
    noted.get("ask/scale/1")
    noted.wait(2, event="scale")
    os.kill(mold, signal.SIGCONT)
    ended = noted.wait(event="exit", role="worker")[0]
    assert (ended["slot"], ended["asked"], ended["by"], ended["reason"]) == (2, True, "steward", "stop requested")
    assert noted.get("") == "ok"
    noted.live.wait_children(3)  # with the mold and the steward
    wait_until(lambda: has_at_most(arbiter, before), 10)
    assert noted.live.stop() == 0


def test_a_stopped_worker_is_replaced_when_asked(server: StartServer, tmp_path: pathlib.Path) -> None:
    """It cannot leave, and is killed after graceful_timeout; another one serves by then. (Node 85: worker-destroy)"""
    noted = Noted(server, tmp_path, "-w", "1", "--graceful-timeout", "0.5", "--timeout", "600").started()
    stopped_pid = noted.pid("worker 1")
    held = tmp_path / "held"
    held.touch()
    noted.get("ask/restart/1")
    noted.wait(event="recycle", pid=stopped_pid)
    os.kill(stopped_pid, signal.SIGSTOP)
    held.unlink()
    ended = noted.wait(event="exit", pid=stopped_pid)[0]
    order = [(each["event"], each.get("pid")) for each in noted.events()]
    replacement = noted.events(event="ready", role="worker")[1]["pid"]
    assert order.index(("ready", replacement)) < order.index(("exit", stopped_pid))
    assert (ended["signal"], ended["asked"], ended["by"]) == ("SIGKILL", True, "steward")
    assert noted.get("") == "ok"
    assert noted.pid("worker 1") == replacement
