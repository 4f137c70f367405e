"""Messages between workers of real servers: each kind of worker, with the application loaded before or after the fork.

Where a test stands for one of Node's own, its docstring names that and its number in docs/explanation/node.rst.
"""

import contextlib
import http.client
import json
import os
import pathlib
import queue
import re
import signal
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.conftest import (
    LEAST_DEADLINE_S,
    LiveServer,
    SharedServers,
    StartServer,
    descriptors_of,
    has_at_most,
    steady_descriptors,
    wait_until,
)
from tests.live.ctl import ctl

pytestmark = pytest.mark.live

KINDS = [
    pytest.param((kind, preload), id=f"{kind}{'-preload' if preload else ''}")
    for kind in ("sync", "gthread", "gevent")
    for preload in (False, True)
]
MEBIBYTE = 1024 * 1024


class Cluster:
    """A server with the application of `tests.apps.messages`."""

    def __init__(self, live: LiveServer, workers: int) -> None:
        self.live = live
        started = rf"Started: {workers} workers? serves?"
        # Of one that is lent the log was forgotten.
        if not re.search(started, live.whole_log()):
            live.wait_log(started, 30)

    def do(self, slot: int, command: str, *arguments: Any) -> Any:
        """Run a command in a worker: in the messenger of this slot, or with 0 in a request, wherever that is served."""
        query = urllib.parse.quote(json.dumps(arguments))
        with urllib.request.urlopen(f"{self.live.url}/do/{slot}/{command}?{query}", timeout=30) as response:
            return json.load(response)

    def attempt(self, *what: Any) -> list[Any]:
        """The same with the result in a list; empty when the worker that serves the request ends meanwhile."""
        try:
            return [self.do(*what)]
        except (ConnectionError, http.client.RemoteDisconnected):
            return []

    def do_deadly(self, *what: Any) -> Any:
        """The same for what ends a worker, once that is not the one which has served the request for it, too."""
        return wait_until(lambda: self.attempt(*what), 20)[0]

    def hang(self, slot: int, path: pathlib.Path) -> None:
        """Have the messenger of a worker wait until there is this file."""
        assert self.do(0, "send", slot, [str(path), None], "slow") is None
        wait_until(pathlib.Path(f"{path}.{slot}").exists, 10)

    def pid(self, slot: int) -> int:
        """The process of the worker in a slot."""
        found: int = self.do(slot, "who")["pid"]
        return found

    def wait_seen(self, slot: int, count: int = 1) -> list[list[Any]]:
        """What the handlers of a worker have been called with, once that is so many."""

        def enough() -> list[list[Any]]:
            for seen in self.attempt(slot, "seen"):
                # Between two workers of the slot it is an error.
                if isinstance(seen, list) and len(seen) >= count:
                    return seen
            return []

        return wait_until(enough, 10, f"{count} messages in {slot}")

    def wait_replaced(self, slot: int, pid: int) -> int:
        """The process of the worker that is ready in a slot in place of this one."""

        def another() -> int:
            for found in self.attempt(slot, "who"):
                if found.get("pid", pid) != pid and found["state"] == "ready":
                    return int(found["pid"])
            return 0

        return wait_until(another, 20, f"slot {slot} has another worker than {pid}")


Start = Callable[..., Cluster]


def command(kind: tuple[str, bool], workers: int, *arguments: str) -> list[str]:
    """The arguments of a server with so many workers of a kind."""
    preload = ("--preload",) if kind[1] else ()
    threads = ("--threads", "4") if kind[0] == "gthread" else ()
    return ["tests.apps.messages:app", "-w", str(workers), "-k", kind[0], *threads, *preload, *arguments]


@contextlib.contextmanager
def watched(made: Cluster, workers: int) -> Iterator[None]:
    """Find no descriptor or process too many in the end."""
    for slot in range(1, workers + 1):
        made.do(slot, "who")
    most = len(made.live.children())
    pids = {pid: steady_descriptors(pid) for pid in [made.live.pid, *made.live.children()]}
    yield
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ConnectionError):
        for pid, count in pids.items():
            if made.live.process.poll() is None and os.path.exists(f"/proc/{pid}"):
                wait_until(partial(has_at_most, pid, count), 10, f"{descriptors_of(pid)}")
        if made.live.process.poll() is None:
            # One that was replaced may still finish.
            wait_until(lambda: len(made.live.children()) <= most, 10)


@pytest.fixture
def start(server: StartServer) -> Iterator[Start]:
    """Start a server with so many workers, and find no descriptor or process too many in the end."""
    with contextlib.ExitStack() as ends:

        def make(kind: tuple[str, bool] = ("sync", False), workers: int = 2) -> Cluster:
            made = Cluster(server(*command(kind, workers)), workers)
            ends.enter_context(watched(made, workers))
            return made

        yield make


@pytest.fixture
def lent(shared_servers: SharedServers) -> Iterator[Start]:
    """The same with a server of two workers that tests use one after the other."""
    with contextlib.ExitStack() as ends:

        def make(kind: tuple[str, bool]) -> Cluster:
            made = Cluster(ends.enter_context(shared_servers.lend(*command(kind, 2))), 2)
            ends.enter_context(watched(made, 2))
            for slot in (1, 2):
                made.do(slot, "clear")
            return made

        yield make


@pytest.mark.parametrize("kind", KINDS)
def test_messages_reach_handlers_both_ways(start: Start, kind: tuple[str, bool]) -> None:
    """(Node 51: message, worker-events)"""
    made = start(kind)
    assert made.do(1, "send", 2, {"a": [1, None, "é\udcff"]}, "note") is None
    assert made.do(2, "send", 1, "without a topic") is None
    assert made.wait_seen(2) == [["note", {"a": [1, None, "é\udcff"]}, 1, False]]
    assert made.wait_seen(1) == [["", "without a topic", 2, False]]
    assert made.do(1, "request", 2, [1, {"b": 2.5}], 5, "echo") == [1, {"b": 2.5}]
    assert made.do(0, "broadcast", "note", "all") == 2
    assert [made.wait_seen(slot, 2)[1][:2] for slot in (1, 2)] == [["note", "all"]] * 2
    assert made.live.stop() == 0
    assert not made.live.members()


@pytest.mark.parametrize("kind", KINDS)
def test_numbered_messages_come_in_order_and_none_is_lost(lent: Start, kind: tuple[str, bool]) -> None:
    """(Node 52: worker-events)"""
    made = lent(kind)
    made.do(1, "send_numbers", 2, 5000)
    wait_until(lambda: made.do(2, "order")["next"] == 5000, 10)
    assert made.do(2, "order")["wrong"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_mebibyte_arrives_intact_and_one_byte_more_is_refused(lent: Start, kind: tuple[str, bool]) -> None:
    """(Node 60, 101: send-handle-large-payload)"""
    made = lent(kind)
    for size in (64 * 1024, 64 * 1024 + 1, MEBIBYTE):
        digest = made.do(1, "send_bytes", 2, size)
        assert made.wait_seen(2)[0][:2] == ["note", ["bytes", size, digest]]
        made.do(2, "clear")
        assert made.do(1, "echo_bytes", 2, size) is True
    refused = made.do(1, "send_bytes", 2, MEBIBYTE + 1)
    assert refused["raised"] == "MessageTooLarge"
    assert {"ClusterError", "ValueError"} <= set(refused["also"])
    assert made.do(2, "seen") == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_knows_its_place_from_the_import_on(lent: Start, kind: tuple[str, bool]) -> None:
    """With preload the application is imported in no worker yet. (Node 7: worker-init, worker-constructor)"""
    made = lent(kind)
    for slot in (1, 2):
        who = made.do(slot, "who")
        assert [who["role"], who["slot"], who["generation"], who["variable"]] == ["worker", slot, 1, str(slot)]
        assert who["state"] == "ready"
        at_import: dict[str, Any] = {"role": "alone", "slot": None, "variable": None}
        if not kind[1]:
            at_import = {"role": "worker", "slot": slot, "variable": str(slot)}
        assert who["import"] == at_import
    rows = made.do(0, "workers")
    assert [[row[0], row[2], row[4]] for row in rows] == [[1, 1, "ready"], [2, 1, "ready"]]
    assert {row[3] for row in rows} == {made.pid(1), made.pid(2)}
    assert len({row[1] for row in rows}) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_application_forks_or_starts_is_no_member(lent: Start, kind: tuple[str, bool]) -> None:
    """(Node 3: basic, worker-init)"""
    made = lent(kind)
    found = made.do(0, "in_fork")
    assert found[:6] == [*["NotInCluster"] * 4, "alone", "None"]
    child = made.do(0, "child")
    assert child["out"] == "alone None 0\n", child
    assert made.do(1, "request", 2, 1, 5, "echo") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_two_that_fill_each_other_both_get_an_answer(
    lent: Start, kind: tuple[str, bool], tmp_path: pathlib.Path
) -> None:
    """(Node 59: send-deadlock)"""
    made = lent(kind)
    path = tmp_path / "go on"
    for slot in (1, 2):
        made.hang(slot, path)
    # Requests run elsewhere than the messengers, which hang; with gevent a handler that waits lets others run.
    for slot in (1, 2):
        count, seconds = made.do(0, "fill", slot)
        assert count > 50
        assert seconds < LEAST_DEADLINE_S
        assert made.do(0, "send", slot, 0, "note")["raised"] == "QueueFull"
    path.touch()
    for slot in (1, 2):
        made.wait_seen(slot, 50)
        assert made.do(slot, "counted")[1] == 0


def test_a_hung_receiver_delays_no_other(start: Start, tmp_path: pathlib.Path) -> None:
    """(Node 64)"""
    made = start(("sync", False), 4)
    path = tmp_path / "go on"
    made.hang(3, path)
    made.do(0, "fill", 3)
    queued, seconds = made.do(1, "timed_broadcast", "for all")
    assert queued == 3
    assert seconds < LEAST_DEADLINE_S
    for slot in (1, 2, 4):
        assert made.wait_seen(slot)[-1][1] == "for all"
    assert made.do(1, "counted")[1] == 1, "the one that was missed is counted"
    path.touch()


def test_accepted_messages_outlive_their_sender(start: Start) -> None:
    """(Node 62: issue 36268)"""
    made = start()
    pid = made.pid(1)
    assert made.do_deadly(0, "request", 1, ["send_and_exit", [2, 100]], 10, "do")["raised"] == "WorkerGone"
    seen = made.wait_seen(2, 100)
    assert [each[1] for each in seen[-100:]] == list(range(100))
    assert {each[2] for each in seen} == {1}
    made.wait_replaced(1, pid)


def test_a_slot_between_two_workers_keeps_its_mail(start: Start, tmp_path: pathlib.Path) -> None:
    made = start()
    pid, path = made.pid(2), tmp_path / "never"
    made.hang(2, path)
    for number in range(10):
        made.do(1, "send", 2, number, "note")
    os.kill(pid, signal.SIGKILL)
    assert [each[1] for each in made.wait_seen(2, 10)] == list(range(10))
    assert made.pid(2) != pid


def test_a_reload_loses_no_message_and_no_reply(start: Start) -> None:
    made = start()
    made.do(0, "broadcast", "config", {"v": 1}, True)
    for reload in (1, 2):
        made.live.send(signal.SIGHUP)
        sent = 0
        while not made.live.said("Reload complete", reload):
            assert made.do(0, "request", 1 + sent % 2, sent, 10, "echo") == sent
            sent += 1
        assert sent
    for slot in (1, 2):
        assert made.do(slot, "who")["generation"] == 3
        assert made.wait_seen(slot)[0] == ["config", {"v": 1}, made.do(slot, "seen")[0][2], True]


@pytest.mark.parametrize("kind", KINDS)
def test_retained_values_reach_who_comes_later_newest_only(start: Start, kind: tuple[str, bool]) -> None:
    """(Node 64)"""
    made = start(kind)
    for version in range(5):
        assert made.do(1 + version % 2, "broadcast", "config", version, True) == 2
    assert [each[1] for each in made.wait_seen(1, 5)] == list(range(5))
    assert all(each[3] for each in made.do(1, "seen"))
    pid = made.pid(1)
    os.kill(pid, signal.SIGKILL)
    made.wait_replaced(1, pid)
    assert [each[:2] for each in made.wait_seen(1)] == [["config", 4]]
    made.do(2, "clear")
    made.do(2, "subscribe", "config")
    assert [each[:2] for each in made.wait_seen(2)] == [["config", 4]], "the new handler alone gets it"
    # One more slot than there was when the value was retained.
    made.live.send(signal.SIGTTIN)
    made.live.wait_log("3 workers")
    wait_until(lambda: made.do(0, "request", 3, 1, 5, "echo") == 1, 15)
    assert [each[:2] for each in made.wait_seen(3)] == [["config", 4]]
    made.live.send(signal.SIGTTOU)


def test_a_retained_value_that_was_missed_comes_when_there_is_room(start: Start, tmp_path: pathlib.Path) -> None:
    made = start()
    path = tmp_path / "go on"
    made.hang(2, path)
    made.do(0, "fill", 2)
    assert made.do(1, "broadcast", "config", "newest", True) == 1
    path.touch()
    wait_until(lambda: ["config", "newest"] in [each[:2] for each in made.do(2, "seen")], 10)


@pytest.mark.parametrize("kind", KINDS)
def test_requests_fail_in_words(start: Start, kind: tuple[str, bool], tmp_path: pathlib.Path) -> None:
    """(Node 64)"""
    made = start(kind)
    path = tmp_path / "go on"
    late = made.do(1, "request", 2, [str(path), "late"], 0.2, "slow")
    assert late["raised"] == "RequestTimeout"
    assert "TimeoutError" in late["also"]
    path.touch()
    assert made.do(1, "request", 2, "next", 5, "echo") == "next", "the late reply reaches nobody"
    wait_until(lambda: made.do(2, "counted")[2] == 1, 5, "the late reply is counted")
    failed = made.do(1, "request", 2, "x", 5, "fail")
    assert failed["raised"] == "RemoteError"
    assert "LookupError: refused x" in failed["text"]
    assert made.wait_seen(2)[0][:2] == ["after", "x"], "other handlers run all the same"
    assert "value['deep'][0]" in made.do(1, "request", 2, "x", 5, "not json")["text"]
    assert made.do(1, "request", 2, "x", 5, "nothing")["raised"] == "NoHandler"
    assert made.do(1, "request", 1, "x", 5, "echo")["raised"] == "ClusterError", "a handler cannot wait for itself"
    gone = made.do_deadly(1, "request", 2, "x", 5, "die")
    assert gone["raised"] == "WorkerGone"
    assert "LookupError" in gone["also"]
    made.live.wait_log("fail.* failed")


def test_without_an_arbiter_calls_fail_and_do_not_crash(start: Start, tmp_path: pathlib.Path) -> None:
    """(Node 63: primary-kill)"""
    made = start()
    begun, results = tmp_path / "begun", queue.SimpleQueue[Any]()
    # A request: a worker that loses its arbiter finishes what it runs.
    threading.Thread(target=lambda: results.put(made.do(0, "orphaned", str(begun)))).start()
    wait_until(begun.exists, 10)
    os.kill(made.live.pid, signal.SIGKILL)
    assert results.get(timeout=20) == ["WorkerGone", "WorkerGone"]
    wait_until(lambda: not made.live.members(), 15)


def test_without_descriptors_messages_are_lost_in_words(start: Start, tmp_path: pathlib.Path) -> None:
    made = start(("sync", False), 2)
    path = tmp_path / "room again"
    made.do(1, "send", 2, str(path), "exhaust")

    def raised(*what: Any) -> str:
        """What a call raises in a request of worker 1: the other one can make none."""

        def attempt() -> str:
            result = made.do(0, *what)
            name = result["raised"] if isinstance(result, dict) else "nothing"
            return "" if name == "QueueFull" else name

        return wait_until(attempt, 10)

    # A message with a file beside it, and one with the way back of a reply.
    assert raised("send_bytes", 2, MEBIBYTE) == "nothing"
    assert raised("request", 2, "x", 5, "echo") == "WorkerGone"
    path.touch()
    wait_until(lambda: made.do(0, "request", 2, "x", 5, "echo") == "x", 10)
    assert made.do(2, "seen") == []
    assert made.do(2, "counted")[1] >= 2
    assert len(re.findall("messages are lost, since no descriptor was left", made.live.log())) == 1


def test_wrong_calls_say_what_is_wrong(start: Start) -> None:
    """(Node 61: advanced-serialization, send-after-close)"""
    made = start()
    assert "value['a'][1]: module is neither" in made.do(1, "send_odd", 2)["text"]
    assert made.do(1, "send", 9, 1)["text"] == "there is no slot 9"
    assert made.do(1, "send", "steward", 1)["raised"] == "WorkerGone"
    assert made.do(1, "send", None, 1)["raised"] == "TypeError"
    assert made.do(1, "broadcast", "", 1)["raised"] == "ValueError"
    assert made.do(1, "subscribe", "")["raised"] == "ValueError"


def test_what_is_no_message_is_ignored_and_counted(start: Start) -> None:
    """(Node 55: invalid-message)"""
    made = start()
    made.do(1, "post_rubbish", 2)
    made.do(1, "send", 2, 1, "nobody's")
    wait_until(lambda: made.do(2, "counted")[1] == 4, 5)
    assert made.do(1, "request", 2, 1, 5, "echo") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_slots_come_and_go(start: Start, kind: tuple[str, bool]) -> None:
    made = start(kind)
    before = {pid: steady_descriptors(pid) for pid in (made.live.pid, made.pid(1))}
    for _ in range(3):
        made.live.send(signal.SIGTTIN)
        # Asked in a request at once: the worker's loop may not have heard of the slot.
        wait_until(lambda: made.do(0, "request", 3, "new", 5, "echo") == "new", 15)
        assert made.do(3, "request", 1, "back", 5, "echo") == "back"
        assert ctl(made.live, "scale", "2").returncode == 0  # by a signal the oldest worker would go
        wait_until(lambda: (made.do(1, "send", 3, 1) or {}).get("raised") == "WorkerGone", 15)
        wait_until(lambda: all(has_at_most(pid, count) for pid, count in before.items()), 10)


def test_a_worker_that_asks_is_replaced_after_its_response(start: Start) -> None:
    """(Node 76: kill-disconnect, worker-disconnect-on-error)"""
    made = start(("sync", False), 1)
    pid = made.pid(1)
    assert made.do(0, "recycle", "cache is too large") is None
    made.wait_replaced(1, pid)
    made.live.wait_log("will be replaced: its application asks for it: cache is too large")
    made.live.wait_log(r"exited: recycled at the application.s request")
    assert not made.live.said("crashed|left without")


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_worker_that_closes_its_own_channel_is_replaced(start: Start, kind: str) -> None:
    """(Node 77: process-disconnect)"""
    made = start((kind, False))
    pid = made.pid(1)
    assert made.do(1, "close_channel") is None
    made.wait_replaced(1, pid)
    made.live.wait_log(r"Worker 1 .* has closed its channel to the arbiter: it will be replaced")
    wait_until(lambda: pid not in made.live.children(), 10)
    assert made.do(2, "request", 1, "x", 5, "echo") == "x"
    assert not made.live.said("internal error|crashed")


def test_a_server_that_is_upgraded_keeps_what_is_retained(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("tests.apps.messages:app", "-w", "2", "--pid", "pid")
    made = Cluster(live, 2)
    made.do(0, "broadcast", "config", "before the upgrade", True)
    live.send(signal.SIGUSR2)
    live.wait_log(r"The new server \(pid \d+\) serves", 20)
    new = int((tmp_path / "pid.2").read_text())
    live.send(signal.SIGTERM)
    assert live.wait_end(20) == 0
    try:
        for slot in (1, 2):
            assert made.wait_seen(slot)[0][:2] == ["config", "before the upgrade"]
        assert made.do(1, "broadcast", "config", "after it", True) == 2
        assert made.wait_seen(2, 2)[1][1] == "after it"
    finally:
        os.kill(new, signal.SIGTERM)
        wait_until(lambda: not live.members(), 15)


UNUSED = """
from wsgicluster import cluster
import threading, os
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"%d %d" % (threading.active_count(), len(os.listdir("/proc/self/fd")))]
"""


def test_imported_and_unused_it_costs_no_thread_and_no_descriptor(server: StartServer) -> None:
    counts = []
    for source in (UNUSED, UNUSED.replace("from wsgicluster import cluster\n", "")):
        live = server("app:app", "--threads", "1", source=source)
        live.wait_log("Started")
        with urllib.request.urlopen(live.url, timeout=10) as response:
            counts.append(response.read())
        assert live.stop() == 0
    assert counts[0] == counts[1]
