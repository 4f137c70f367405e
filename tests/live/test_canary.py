"""Reloads whose first worker is tried with real requests: what aborts one, what is said then, and what is lost."""

import json
import pathlib
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import Connection, Visitors, fetch
from tests.live.ctl import ctl

pytestmark = pytest.mark.live

APP = """\
import itertools
import time

VERSION = "@VERSION@"
TURNS = itertools.count()


def application(environ, start_response):
    if environ["PATH_INFO"] == "/long":
        open(f"long-{VERSION}", "w").close()
        time.sleep(1)
    if VERSION == "raises" and next(TURNS) % 5 == 0:
        raise LookupError("no table called users")
    time.sleep({"steady": 0.03, "slow": 0.15, "hangs": 60}.get(VERSION, 0.02))
    body = VERSION.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

KINDS = [("sync",), ("gthread", "--threads", "4"), ("gevent",), ("gthread", "--threads", "4", "--preload")]


def write(live_folder: pathlib.Path, version: str) -> None:
    """Put a version in place in one step."""
    new = live_folder / ".app.new"
    new.write_text(APP.replace("@VERSION@", version), "utf-8")
    new.replace(live_folder / "app.py")


class Callers(Visitors):
    """Each on new connections; they count what they get."""

    def __init__(self, port: int, clients: int = 6) -> None:
        super().__init__(port, clients)
        self.answers: list[tuple[int, str]] = []

    def ask(self) -> None:
        with Connection(self.port) as connection:
            response = connection.exchange(extra="Connection: close\r\n")
        self.answers.append((response.status, response.body.decode()))

    def count(self, version: str) -> int:
        """How many responses were those of a version."""
        return sum(body == version for _, body in list(self.answers))

    def failed(self) -> int:
        """How many were none of the application's."""
        return sum(status != 200 for status, _ in list(self.answers))


@pytest.fixture(params=KINDS, ids=" ".join)
def live(request: pytest.FixtureRequest, server: StartServer, tmp_path: pathlib.Path) -> Iterator[LiveServer]:
    if request.param[0] == "gevent":
        pytest.importorskip("gevent")
    write(tmp_path, "first")
    # Times are compared only by the test about them: on a busy machine any worker may be slow.
    live = server("app", "-w", "2", "-k", *request.param, "--reload-latency-factor", "0")
    live.wait_log("Started: 2 workers serve")
    yield live
    assert live.stop() == 0


def test_code_of_which_a_fifth_of_requests_fails_is_rolled_back(live: LiveServer) -> None:
    with Callers(live.port) as visitors:
        wait_until(lambda: visitors.count("first") > 20, 20)
        write(live.folder, "raises")
        found = ctl(live, "reload", "--canary", "60", "--wait")
        assert found.returncode == 1
        assert "LookupError: no table called users" in found.stderr
        *_, last = found.stderr.splitlines()
        assert "error: reload aborted: on probation " in last
        assert " requests failed (" in last
        assert last.endswith("in the old workers; generation 1 keeps serving")
        live.wait_log("Reload aborted: generation 2 did worse on probation: .* keeps serving")
        live.wait_log(r"generation 2\) exited: stop requested")
        before = visitors.count("first")
        wait_until(lambda: visitors.count("first") > before + 20, 20)
    assert visitors.losses == []
    # Four of five of its responses were good ones; no other worker has failed.
    assert 0 < visitors.failed() <= (visitors.count("raises") + visitors.failed()) / 4
    (event,) = [each for each in events(live) if each.get("result") == "aborted"]
    assert str(event["reason"]).startswith("on probation ")
    assert event["generation"] == 2
    status = json.loads(ctl(live, "list", "--json").stdout)
    assert (status["server"]["generation"], status["server"]["last_reload"]["result"]) == (1, "aborted")


def events(live: LiveServer) -> list[dict[str, object]]:
    found = ctl(live, "events", "--json", "-n", "100")
    return [json.loads(line) for line in found.stdout.splitlines()]


def test_code_that_is_as_good_goes_through(live: LiveServer) -> None:
    with Callers(live.port) as visitors:
        wait_until(lambda: visitors.count("first") > 20, 20)
        write(live.folder, "second")
        found = ctl(live, "reload", "--canary", "1", "--wait")
        assert found.returncode == 0, found.stderr
        live.wait_log("Generation 2 (after 1 s of probation: 0 of|could not be compared)")
        before = visitors.count("second")
        wait_until(lambda: visitors.count("second") > before + 20, 20)
    assert visitors.losses == []
    assert visitors.failed() == 0
    assert {body for _, body in visitors.answers} == {"first", "second"}


@pytest.mark.parametrize("kind", [("sync",), ("gthread", "--threads", "4")], ids=" ".join)
def test_code_that_is_five_times_slower_is_rolled_back(
    server: StartServer, tmp_path: pathlib.Path, kind: tuple[str, ...]
) -> None:
    write(tmp_path, "steady")
    # The old worker may be slow, too, on a busy machine; a factor of two is enough to find out five.
    live = server(
        "app", "-w", "2", "-k", *kind, "--reload-probation", "60", "--reload-latency-factor", "2",
        "--reload-least-requests", "4",
    )  # fmt: skip
    live.wait_log("Started: 2 workers serve")
    with Callers(live.port) as visitors:
        wait_until(lambda: visitors.count("steady") > 20, 20)
        write(live.folder, "slow")
        live.send(signal.SIGHUP)
        live.wait_log(r"Reload aborted: generation 2 did worse on probation: .* requests took .* keeps serving", 60)
        live.wait_log(r"generation 2\) exited: stop requested")
    assert visitors.losses == []
    assert visitors.failed() == 0
    assert live.stop() == 0


def test_code_whose_requests_never_end_is_rolled_back(server: StartServer, tmp_path: pathlib.Path) -> None:
    write(tmp_path, "first")
    live = server("app", "-w", "2", "--reload-probation", "2", "--graceful-timeout", "0.5")
    live.wait_log("Started: 2 workers serve")
    with Callers(live.port) as visitors:
        wait_until(lambda: visitors.count("first") > 20, 20)
        write(tmp_path, "hangs")
        live.send(signal.SIGHUP)
        live.wait_log(
            r"did worse on probation: a request has been running for .* requests in the old workers none does"
        )
        live.wait_log(r"generation 2\) .*graceful_timeout")
        before = visitors.count("first")
        wait_until(lambda: visitors.count("first") > before + 20, 20)
    # One at a time: only the request that hung was cut off.
    assert len(visitors.losses) <= 1
    assert visitors.failed() == 0
    assert live.stop() == 0


def test_what_the_rejected_worker_has_begun_is_answered(server: StartServer, tmp_path: pathlib.Path) -> None:
    write(tmp_path, "first")
    live = server("app", "-k", "gthread", "--threads", "4", "--reload-probation", "60", "--scheduling", "shared")
    live.wait_log("Started")
    write(tmp_path, "raises")
    live.send(signal.SIGHUP)
    live.wait_log(r"generation 2\) is ready")
    answers: list[int] = []
    asked = [
        threading.Thread(target=lambda: answers.append(fetch(live.port, "/long").status), daemon=True)
        for _ in range(12)
    ]
    # More than the old worker has threads: some of them run in the new one.
    for each in asked:
        each.start()
    wait_until((tmp_path / "long-raises").exists, 20)
    with Callers(live.port, clients=2) as visitors:
        live.wait_log("Reload aborted", 60)
        for each in asked:
            each.join(20)
        live.wait_log(r"generation 2\) exited: stop requested")
    assert len(answers) == len(asked)
    assert visitors.losses == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGKILL])
def test_a_signal_on_probation(server: StartServer, tmp_path: pathlib.Path, number: signal.Signals) -> None:
    write(tmp_path, "first")
    live = server("app", "-w", "2", "--reload-probation", "60")
    old = live.wait_workers(2)
    write(tmp_path, "second")
    live.send(signal.SIGHUP)
    live.wait_log(r"generation 2\) is ready")
    (new,) = set(live.children()) - set(old)
    with Callers(live.port, clients=2) as visitors:
        if number is signal.SIGKILL:
            subprocess.run(["kill", "-KILL", str(new)], check=True)
            live.wait_log("Reload aborted: generation 2 failed to start")
            wait_until(lambda: live.children() == old, 20)
        elif number is signal.SIGHUP:
            live.send(number)
            live.wait_log("Generation 2 superseded by a newer reload")
            live.wait_log(r"generation 3\) is ready")
            wait_until(lambda: len(live.children()) == 3 and new not in live.children(), 20)
        elif number is not signal.SIGTERM:
            live.send(number)
            count = 4 if number is signal.SIGTTIN else 2
            wait_until(lambda: len(live.children()) == count, 20)
            assert new in live.children()
    if number is not signal.SIGKILL:
        assert visitors.losses == []
    assert live.stop() == 0
    assert not live.said("internal error")


@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_an_upgrade_on_probation(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    pytest.importorskip("gevent")
    write(tmp_path, "first")
    live = server("app", "-k", kind, "--reload-probation", "60")
    live.wait_log("Started")
    write(tmp_path, "second")
    live.send(signal.SIGHUP)
    live.wait_log(r"generation 2\) is ready")
    with Callers(live.port, clients=2) as visitors:
        found = ctl(live, "upgrade", "--wait")
        assert found.returncode == 0, found.stderr
        assert live.stop() == 0
        before = len(visitors.answers)
        wait_until(lambda: len(visitors.answers) > before + 10, 20)
    assert visitors.losses == []
    live.wait_log("Started", count=2)
