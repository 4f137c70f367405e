"""The control socket and wsgiclusterctl with real servers: look, scale, reload, restart, stop."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from tests.conftest import LiveServer, StartServer, is_alive, steady_descriptors, wait_until
from tests.live.ctl import ctl
from wsgicluster.control import address, protocol
from wsgicluster.control.client import ControlConnection
from wsgicluster.control.protocol import Request

pytestmark = pytest.mark.live

APP = """
import os, threading
def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        open("waiting", "w").close()
        threading.Event().wait(20)
    if environ["PATH_INFO"] == "/die":
        os.abort()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def connect(live: LiveServer) -> ControlConnection:
    where = address.address_of(live.pid)
    assert where is not None
    return ControlConnection(where)


@pytest.fixture
def live(server: StartServer) -> LiveServer:
    found = server("app:app", "-w", "2", source=APP)
    found.wait_workers(2)
    return found


def get(live: LiveServer, path: str = "/") -> bytes:
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_workers_are_listed(live: LiveServer) -> None:
    for _ in range(5):
        assert get(live).endswith(b"ok")
    found = ctl(live, "list")
    assert found.returncode == 0, found.stderr
    head, title, *rows = found.stdout.splitlines()
    assert f"app:app (pid {live.pid})" in head
    assert f"http://127.0.0.1:{live.port}" in head
    assert "serving" in head
    assert title.split()[:4] == ["SLOT", "PID", "GEN", "STATE"]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    listed = json.loads(ctl(live, "list", "--json").stdout)
    assert listed["schema"] == 1
    assert {each["pid"] for each in listed["workers"]} == set(live.children())
    assert listed["server"]["totals"]["requests"] == 5
    assert sum(each["requests"] for each in listed["workers"]) == 5
    assert all(each["rss_bytes"] > 1 << 20 for each in listed["workers"])


STEERED_APP = """
from wsgicluster import cluster
def app(environ, start_response):
    cluster.send("steward", environ["PATH_INFO"][1:], "policy")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
STEERING = """
from wsgicluster import cluster
@cluster.on_message("policy")
def change(message):
    cluster.set_scheduling(message.value)
"""


def test_the_policy_in_force_is_listed(server: StartServer, tmp_path: pathlib.Path) -> None:
    config = tmp_path / "steering.py"
    config.write_text(STEERING)
    live = server("app:app", "-w", "2", "-c", str(config), "--weights", "2,1", source=STEERED_APP)
    live.wait_log("2 workers serve")

    def policy() -> str:
        found: str = json.loads(ctl(live, "list", "--json").stdout)["server"]["scheduling"]
        return found

    assert policy() == "weighted"
    assert get(live, "/round-robin").endswith(b"ok")
    live.wait_log("scheduling is round-robin")
    assert policy() == "round-robin"


def test_one_slot_is_shown_with_what_it_does(live: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: (live.folder / "waiting").exists(), 20)
        (request,) = json.loads(ctl(live, "requests", "--json").stdout)["requests"]
        assert (request["method"], request["path"]) == ("GET", "/wait")
        shown = ctl(live, "show", str(request["slot"]))
        assert "GET /wait" in shown.stdout
        assert "workers = 2" in shown.stdout
        stacks = ctl(live, "stacks", str(request["slot"]))
        assert "in app" in stacks.stdout, stacks.stderr
        again = ctl(live, "stacks", str(request["slot"]))
        assert again.stdout.count("in app") == 1, "stacks of the last time are not shown again"
        live.send(signal.SIGQUIT)
        live.wait_end()


def test_it_is_scaled_by_a_number_and_by_a_change(live: LiveServer) -> None:
    assert ctl(live, "scale", "+1", "--wait").stdout == "2 -> 3 workers\n"
    assert len(live.children()) == 3
    assert ctl(live, "scale", "-2", "--wait").stdout == "3 -> 1 workers\n"
    assert len(live.children()) == 1
    assert ctl(live, "scale", "1", "--wait").returncode == 0, "nothing to do is no failure"
    refused = ctl(live, "scale", "501")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1


def test_a_reload_is_waited_for_and_a_broken_one_shows_its_traceback(live: LiveServer) -> None:
    before = set(live.children())
    found = ctl(live, "reload", "--wait")
    assert re.match(r"generation 2 serves with 2 workers after [\d.]+ s\n", found.stdout), found.stderr
    assert not before & set(live.children())
    (live.folder / "app.py").write_text("raise LookupError('broken on purpose')\n")
    broken = ctl(live, "reload", "--wait")
    assert broken.returncode == 1
    assert broken.stdout == ""
    assert "Traceback" in broken.stderr
    assert "LookupError: broken on purpose" in broken.stderr
    assert broken.stderr.splitlines()[-1].startswith("wsgiclusterctl: error: reload aborted: ")
    assert get(live).endswith(b"ok")
    (live.folder / "wsgicluster.conf.py").write_text("workers = 'many'\n")
    refused = ctl(live, "reload", "--wait")
    assert refused.returncode == 1
    assert "workers: 'many'" in refused.stderr


def test_a_worker_is_replaced_and_its_death_is_remembered(live: LiveServer) -> None:
    first = ctl(live, "pid", "1").stdout
    assert ctl(live, "restart", "1", "--wait").stdout == "slot 1: replaced\n"
    assert ctl(live, "pid", "1").stdout != first
    status = json.loads(ctl(live, "list", "--json").stdout)
    assert [each["restarts"] for each in status["workers"]] == [0, 0]
    get(live, "/die")
    wait_until(lambda: "Aborted" in live.log() or "SIGABRT" in live.log(), 10)
    live.wait_workers(2)
    status = json.loads(ctl(live, "list", "--json").stdout)
    (dead,) = [each for each in status["workers"] if each["restarts"]]
    assert dead["last_exit"]["signal"] == "SIGABRT"
    assert "GET /die" in dead["last_exit"]["request"]
    assert dead["ends"]["crashed"] == 1
    gone = ctl(live, "restart", "7")
    assert gone.returncode == 1
    assert "no worker has slot 7; the workers have slots 1, 2" in gone.stderr
    unseen = ctl(live, "top")
    assert (unseen.returncode, unseen.stdout) == (1, "")
    assert unseen.stderr == "wsgiclusterctl: error: top needs a terminal; list prints its table once\n"


def test_events_are_shown_and_followed(live: LiveServer) -> None:
    found = ctl(live, "events", "--json", "-n", "100")
    events = [json.loads(line) for line in found.stdout.splitlines()]
    assert [each["event"] for each in events].count("ready") == 2
    command = [sys.executable, "-m", "wsgicluster.ctl", "-n", str(live.pid), "events", "-f", "--json", "-n", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        # It is followed once the last event before has come; a connection alone does not say so.
        assert json.loads(follower.stdout.readline()) == events[-1]
        ctl(live, "scale", "3")
        event = json.loads(follower.stdout.readline())
        assert (event["event"], event["workers"], event["before"]) == ("scale", 3, 2)
        live.stop()
        assert follower.wait(20) == 3


def control_clients(live: LiveServer) -> int:
    """Clients of the control socket that stay."""
    where = address.address_of(live.pid)
    assert where is not None
    name = address.shown(where)
    table = pathlib.Path("/proc/net/unix").read_text()
    return sum(line.endswith(f" 03 {line.split()[6]} {name}") for line in table.splitlines() if name in line)


def test_health_is_an_exit_code(live: LiveServer) -> None:
    assert ctl(live, "health").stdout == "serving: 2 of 2 workers ready\n"
    assert ctl(live, "health").returncode == 0
    assert ctl(live, "ping", "--json").returncode == 0
    live.stop()
    gone = ctl(live, "health")
    assert gone.returncode == 3
    assert gone.stderr.startswith("wsgiclusterctl: error: no server")


def test_a_stop_returns_the_exit_code(live: LiveServer) -> None:
    with connect(live) as waiting:
        waiting_for = waiting.items("events", {"follow": True, "last": 1})
        assert next(waiting_for)["event"] == "ready"
        found = ctl(live, "stop")
        assert (found.returncode, found.stdout) == (0, "stopped\n")
        assert live.wait_end() == 0
        assert [each["event"] for each in list_until_end(waiting_for)][-1] == "exit"


def list_until_end(items: Iterator[object]) -> list[dict[str, str]]:
    """What is left of a stream that ends with an error."""
    from wsgicluster.control.protocol import ControlError

    found: list[dict[str, str]] = []
    try:
        for item in items:
            assert isinstance(item, dict)
            found.append(item)
    except ControlError as error:
        assert error.code.value == "stopping"
    return found


def test_a_stop_that_aborts_a_request_exits_with_5(server: StartServer) -> None:
    live = server("app:app", "--graceful-timeout", "0.2", source=APP)
    live.wait_workers(1)
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: (live.folder / "waiting").exists(), 20)
        found = ctl(live, "stop")
        assert (found.returncode, found.stdout) == (5, "stopped, with exit code 5\n"), found.stderr
        assert live.wait_end() == 5


def test_the_only_server_of_a_pid_file_or_a_path_is_found(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("app:app", "--pid", "pid", "--control-socket", "control.sock", "-n", "shop", source=APP)
    live.wait_workers(1)
    assert (live.folder / "control.sock").stat().st_mode & 0o777 == 0o600
    ask = [sys.executable, "-m", "wsgicluster.ctl"]
    found = run([*ask, "--socket", str(live.folder / "control.sock"), "pid"])
    assert found.stdout == f"{live.pid}\n"
    missing = run([*ask, "-p", str(live.folder / "nothing"), "pid"])
    assert (missing.returncode, missing.stdout) == (3, "")
    (live.folder / "stale").write_text("999999\n")
    stale = run([*ask, "-p", str(live.folder / "stale"), "pid"])
    assert "process 999999 does not run any more" in stale.stderr
    live.stop()
    assert not (live.folder / "control.sock").exists()


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_without_a_socket_nothing_else_changes(server: StartServer) -> None:
    live = server("app:app", "--no-control-socket", source=APP)
    live.wait_workers(1)
    assert live.pid not in address.servers()
    assert ctl(live, "list").returncode == 3
    assert live.stop() == 0


def test_two_reloads_at_a_time_are_both_answered_by_the_last(live: LiveServer) -> None:
    with connect(live) as first, connect(live) as second:
        begun = [connection.items("reload", {"wait": True}) for connection in (first, second)]
        ends = []
        for each in begun:
            try:
                next(each)
            except StopIteration as end:
                ends.append(end.value["generation"])
    assert len(set(ends)) <= 2
    assert max(ends) >= 2


def test_clients_that_leave_leave_nothing_behind(live: LiveServer) -> None:
    """Three times as many as may wait at a time, each with a command that is not answered while the test runs."""
    where = address.address_of(live.pid)
    assert where is not None
    before = steady_descriptors(live.pid)
    (live.folder / "app.py").write_text("import threading\nthreading.Event().wait(90)\n", "utf-8")
    asked: list[tuple[str, dict[str, object]]] = [
        ("reload", {"wait": True}),
        ("events", {"follow": True}),
        ("scale", {"workers": 2, "wait": True}),
    ]
    with connect(live) as first:
        first.call("reload")
        for number in range(201):
            command, args = asked[number % 3] if number > 3 else asked[0]
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(where)
                sock.sendall(protocol.encode_request(Request(1, command, args)))
                if number % 2:
                    # Some close their half first.
                    sock.shutdown(socket.SHUT_WR)
                if not number % 20:
                    first.call("status")
        wait_until(lambda: first.call("status")["server"]["last_reload"], 20)
    # The worker that is tried by now has a channel and a file for stacks.
    wait_until(lambda: steady_descriptors(live.pid) <= before + 4, 20)
    assert ctl(live, "stop", "--quick").returncode == 0


def test_many_silent_clients_and_one_that_floods_change_nothing(live: LiveServer) -> None:
    where = address.address_of(live.pid)
    assert where is not None
    before = steady_descriptors(live.pid)
    silent = []
    try:
        for _ in range(120):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(where)
            silent.append(sock)
        flood = socket.socket(socket.AF_UNIX)
        silent.append(flood)
        flood.connect(where)
        flood.setblocking(False)
        line = b'{"id": 1, "command": "status", "args": {}}\n'
        sent = 0
        for _ in range(2000):
            try:
                sent += flood.send(line)
            except OSError:
                break
        assert sent > 0
        assert ctl(live, "reload", "--wait").returncode == 0
        assert get(live).endswith(b"ok")
    finally:
        for sock in silent:
            sock.close()
    wait_until(lambda: steady_descriptors(live.pid) <= before, 20)
    assert "did not beat" not in live.log()


def test_a_server_that_is_killed_leaves_no_name(live: LiveServer) -> None:
    workers = live.children()
    os.kill(live.pid, signal.SIGKILL)
    live.process.wait(20)
    wait_until(lambda: not any(is_alive(pid) for pid in workers), 40)
    assert live.pid not in address.servers()


def test_settings_are_read_and_set(live: LiveServer) -> None:
    assert ctl(live, "get", "timeout").stdout == "30\n"
    listed = ctl(live, "get").stdout
    assert re.search(r"^workers +=  ?2$", listed, re.MULTILINE), listed
    for name, value, then in (
        ("scheduling", "round-robin", "round-robin"), ("weights", "2,1", "2,1"), ("sticky", "header:X-A", "header:X-A"),
        ("scheduling", "shared", "shared"), ("workers", "3", "3"), ("workers", "+1", "4"),
    ):  # fmt: skip
        found = ctl(live, "set", name, value)
        assert (found.returncode, found.stderr) == (0, "")
        assert found.stdout == f"{name} = {then} (at once, until the next reload)\n"
        assert ctl(live, "get", name).stdout == f"{then}\n"
    live.wait_log(r"Control socket \(.*\): scheduling is sticky by header:X-A")
    live.wait_children(4)
    described = json.loads(ctl(live, "get", "workers", "--json").stdout)["settings"]["workers"]
    assert (described["value"], described["applies"]) == ("4", "at once, until the next reload")
    assert get(live).endswith(b"ok")
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete")
    assert ctl(live, "get", "workers").stdout == "2\n"


CANNOT_BE_SET = [
    (("get", "time-out"), 2, "time-out: there is no such setting; did you mean timeout?"),
    (("set", "timeout", "3"), 1, "timeout does not change live, but "),
    (("set", "weights", "3,2,1"), 2, "set: weights: 3,2,1; expected one for each of 2 workers"),
    (("set", "scheduling", "fair"), 2, "set: scheduling: 'fair'; expected one of shared, "),
    (("set", "workers", "many"), 2, "workers: 'many' is not a number from 1 to 500"),
]


def test_what_cannot_be_set(live: LiveServer) -> None:
    for arguments, code, message in CANNOT_BE_SET * 2:
        found = ctl(live, *arguments)
        assert (found.returncode, found.stdout) == (code, "")
        assert found.stderr.startswith(f"wsgiclusterctl: error: {message}"), found.stderr
        assert found.stderr.count("\n") == 1
