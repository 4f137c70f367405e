"""What a server counts over reloads, kills and scaling, while others read it: exactly what was sent, and never less."""

import collections
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.conftest import LiveServer, StartServer, wait_until
from wsgicluster.control import address
from wsgicluster.control.client import ControlConnection

pytestmark = pytest.mark.live

APP = """
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise LookupError("on purpose")
    if path == "/text":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return ["text"]
    if path == "/chunked":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"one", b"two"])
    if path == "/304":
        start_response("304 Not Modified", [])
        return []
    start_response(f"{path[1:]} Status", [("Content-Length", "2")])
    return [b"ok"]
"""
EXPECTED = {
    "/200": "2xx", "/302": "3xx", "/304": "3xx", "/404": "4xx", "/503": "5xx", "/raise": "5xx", "/text": "5xx",
    "/chunked": "2xx",
}  # fmt: skip


def connect(live: LiveServer) -> ControlConnection:
    where = address.address_of(live.pid)
    assert where is not None
    return ControlConnection(where)


def ask(live: LiveServer, path: str, method: str = "GET") -> bytes:
    """The whole response; the connection is closed behind it."""
    with socket.create_connection(("127.0.0.1", live.port), timeout=30) as sock:
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: sock.recv(65536), b""))


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """All numbers in a JSON value, by where they stand."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{name}/{key}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from leaves(part, f"{name}/{index}")
    else:
        yield name, value


def counters(status: Mapping[str, Any]) -> dict[str, float]:
    """All counters of a status."""
    found = dict(leaves({name: status["server"][name] for name in ("totals", "exits", "boots", "reloads")}))
    for each in status["slots"]:
        found |= leaves(each["totals"], f"slot {each['slot']}")
    return found


def statuses(live: LiveServer) -> Iterator[dict[str, float]]:
    """The counters of one status after the other."""
    with connect(live) as connection:
        while True:
            yield counters(connection.call("status"))


class Reader:
    """Takes one reading after the other, in a thread, until the context ends; ``falls`` are values that were less.

    A reading is None where there was none to be had.
    """

    def __init__(self, readings: Iterator[Mapping[str, float] | None]) -> None:
        self.falls: list[str] = []
        self.errors: list[Exception] = []
        self.readings = 0
        self._source = readings
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        last: Mapping[str, float] = {}
        try:
            for found in self._source:
                if self._over.is_set():
                    return
                if found is None:
                    continue
                self.falls += [
                    f"{name}: {value} -> {found.get(name)}"
                    for name, value in last.items()
                    if found.get(name, -1.0) < value
                ]
                last = found
                self.readings += 1
        except Exception as error:
            self.errors.append(error)


class Sender:
    """Sends requests one after the other, and knows what they come to."""

    def __init__(self, live: LiveServer, connection: ControlConnection) -> None:
        self._live = live
        self._connection = connection
        self.sent: collections.Counter[str] = collections.Counter()
        self.failed = 0

    def send(self, rounds: int) -> None:
        """Send each kind of request so many times; returns when all are counted."""
        for _ in range(rounds):
            for path, status_class in EXPECTED.items():
                for method in ("GET", "HEAD"):
                    status = ask(self._live, path, method).partition(b" ")[2][:1].decode()
                    assert f"{status}xx" == status_class, (path, method)
                    self.sent[status_class] += 1
                    self.failed += path in ("/raise", "/text")
        # A response is received before its request is counted.
        wait_until(self._is_counted, 30, f"all are counted: {self.sent}; there is {self.responses()}")

    def responses(self) -> collections.Counter[str]:
        """What the slots say they have answered."""
        found: collections.Counter[str] = collections.Counter()
        for each in self._connection.call("status")["slots"]:
            found.update(each["totals"]["responses"])
        return found

    def _is_counted(self) -> bool:
        found = self.responses()
        assert not +(found - self.sent), f"counted twice: {found}"
        return +found == self.sent


def workers(connection: ControlConnection) -> dict[int, str]:
    """The states of all workers by pid."""
    return {each["pid"]: each["state"] for each in connection.call("status")["workers"]}


@pytest.mark.parametrize(
    ("arguments", "pure", "rounds"),
    [
        (["-k", "sync"], "", 5),
        (["-k", "sync", "--preload"], "", 2),
        (["-k", "sync"], "1", 2),
        (["-k", "gthread"], "", 2),
        (["-k", "gthread"], "1", 2),
        (["-k", "gevent"], "", 2),
    ],
    ids=["sync", "preload", "sync-python", "gthread", "gthread-python", "gevent"],
)
def test_sums_are_what_was_sent_over_reloads_and_kills_for_each_reader(
    server: StartServer, arguments: list[str], pure: str, rounds: int
) -> None:
    live = server("app:app", "-w", "2", *arguments, source=APP, environ={"WSGICLUSTER_PURE": pure})
    live.wait_log("2 workers serve")
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(connect(live))
        sender = Sender(live, connection)
        reader = stack.enter_context(Reader(statuses(live)))
        for _ in range(rounds):
            sender.send(2)
            connection.call("reload", {"wait": True, "timeout": 60})
            sender.send(1)
            victim = min(workers(connection))
            os.kill(victim, signal.SIGKILL)
            sender.send(1)
            wait_until(
                lambda: victim not in (now := workers(connection)) and list(now.values()) == ["ready"] * 2,  # noqa: B023
                60,
                "another worker is ready",
            )
        connection.call("scale", {"workers": 3, "wait": True, "timeout": 60})
        sender.send(2)
        connection.call("scale", {"workers": 1, "wait": True, "timeout": 60})
        sender.send(2)
        wait_until(lambda: connection.call("status")["server"]["reloads"]["complete"] == rounds, 30)
        status = connection.call("status")
        wait_until(lambda: reader.readings > 1 or reader.errors, 30)
    assert reader.errors == []
    assert reader.falls == []
    totals = [each["totals"] for each in status["slots"]]
    assert [each["slot"] for each in status["slots"]] == [1, 2, 3], "those without a worker included"
    requests = sender.sent.total()
    assert sum(each["requests"] for each in totals) == requests == status["server"]["totals"]["requests"]
    for name in ("duration", "application", "queue"):
        assert sum(sum(each[name]["buckets"]) for each in totals) == requests
        assert sum(each[name]["seconds"] for each in totals) > 0.0
    assert sum(each["failures"]["exception"] + each["failures"]["bad_iterable"] for each in totals) == sender.failed
    # Of the two one may be nothing: the system tells them apart by samples.
    assert all(sum(each["cpu_seconds"].values()) > 0.0 for each in totals)
    counted = status["server"]
    assert counted["exits"]["killed_from_outside"] + counted["exits"]["out_of_memory"] == rounds
    assert sum(counted["exits"].values()) == 3 * rounds + 2 == counted["boots"]["ready"] - 1
    assert counted["reloads"] == {"complete": rounds, "refused": 0, "aborted": 0, "superseded": 0}
    for word, count in counted["exits"].items():
        assert sum(each["exits"][word] for each in totals) == count
