"""The admin worker with real servers: what it answers whatever the others do, and that the arbiter keeps it."""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import (
    LiveServer,
    StartServer,
    has_at_most,
    is_alive,
    steady_descriptors,
    wait_until,
)

pytestmark = pytest.mark.live

TOKEN = "a-token-of-the-tests"
APP = """
import os, threading, time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        while not os.path.exists("go-on"):
            time.sleep(0.05)
    if environ["PATH_INFO"] == "/fail":
        raise RuntimeError("as asked")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
_ADMIN = re.compile(r"Admin worker at: http://127\.0\.0\.1:(\d+)")


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    fields: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def admin_port(live: LiveServer) -> int:
    return int(_ADMIN.findall(live.whole_log())[-1])


def ask(live: LiveServer, path: str, method: str = "GET", port: int | None = None, **fields: str) -> Answer:
    """One request over a connection of its own; OSError or HTTPException while the admin worker is replaced."""
    connection = http.client.HTTPConnection("127.0.0.1", port or admin_port(live), timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in fields.items()})
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def wait_for(live: LiveServer, path: str, is_wanted: Any, what: str) -> Answer:
    """The first answer that is as wanted, whatever the admin worker goes through meanwhile."""

    found: list[Answer] = []

    def look() -> bool:
        try:
            found.append(ask(live, path))
        except (OSError, http.client.HTTPException):
            return False
        return bool(is_wanted(found[-1]))

    wait_until(look, 20, what)
    return found[-1]


def change(live: LiveServer, path: str, token: str = TOKEN) -> Answer:
    return ask(live, path, "POST", Authorization=f"Bearer {token}")


def admin_pid(live: LiveServer) -> int:
    """The process that has said last that it is ready."""
    return int(re.findall(r"Admin worker \(pid (\d+), generation \d+\) is ready", live.whole_log())[-1])


def wait_admin(live: LiveServer, count: int = 1, generation: str = r"\d+") -> None:
    live.wait_log(rf"Admin worker \(pid \d+, generation {generation}\) is ready", count=count)


@pytest.fixture
def live(server: StartServer) -> LiveServer:
    found = server("app:app", "-w", "2", "--admin", "0", "--admin-token", TOKEN, source=APP)
    found.wait_log("Started: 2 workers serve")
    wait_admin(found)
    return found


@contextlib.contextmanager
def hung(live: LiveServer, count: int) -> Iterator[None]:
    """So many requests that run until the block ends."""
    with contextlib.ExitStack() as clients:
        for _ in range(count):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", live.port), timeout=30))
            client.sendall(b"GET /hang?secret=in-the-query HTTP/1.1\r\nHost: a\r\n\r\n")
        yield
        (live.folder / "go-on").touch()


def test_all_is_answered_while_all_workers_hang(live: LiveServer) -> None:
    with hung(live, 2):
        found = wait_for(
            live, "/status", lambda a: all(w["in_progress"] for w in a.json["workers"]), "both workers are busy"
        )
        assert {each["oldest_request"]["path"].partition("?")[0] for each in found.json["workers"]} == {"/hang"}
        for path in ("/livez", "/readyz", "/startupz"):
            answer = ask(live, path)
            assert (answer.status, answer.json["status"]) == (200, "ok"), answer.body
        metrics = ask(live, "/metrics").body.decode()
        assert 'wsgicluster_requests_in_progress{slot="1"} 1.0' in metrics
        assert "secret" not in metrics, "no request line"
        assert "/hang" not in metrics


def test_without_an_answer_of_the_arbiter_it_says_so(live: LiveServer) -> None:
    os.kill(live.pid, signal.SIGSTOP)
    try:
        for path in ("/livez", "/readyz", "/startupz"):
            answer = wait_for(live, path, lambda a: a.status == 503, f"{path} fails")
            assert answer.json["status"] == "unavailable"
            assert "no answer from the arbiter" in answer.json["reasons"][0]
        for path in ("/status", "/metrics"):
            assert ask(live, path).status == 503
    finally:
        os.kill(live.pid, signal.SIGCONT)
    wait_for(live, "/livez", lambda a: a.status == 200, "it is live again")
    metrics = wait_for(live, "/metrics", lambda a: a.status == 200, "metrics").body.decode()
    assert re.search(r"wsgicluster_scrape_errors_total [1-9]", metrics)


def test_what_changes_something_needs_the_token(live: LiveServer) -> None:
    missing = ask(live, "/reload", "POST")
    assert (missing.status, missing.fields["www-authenticate"]) == (401, 'Bearer realm="wsgicluster"')
    assert change(live, "/scale?workers=3", "a-token-of-others!").status == 401
    live.wait_log(r"wrong token from 127\.0\.0\.1:\d+ \(POST /scale\)")
    assert TOKEN not in live.whole_log()
    assert ask(live, "/reload").status == 405
    assert change(live, "/scale?workers=none").status == 400
    assert change(live, "/scale?workers=%2B1").json == {"workers": 3, "before": 2}
    live.wait_log("Worker 3 ")
    ready = {"wanted": 3, "ready": 3, "range": None}
    wait_for(live, "/status", lambda a: a.json["server"]["workers"] == ready, "three workers")
    assert change(live, "/reload").status == 202
    wait_admin(live, generation="2")
    wait_for(live, "/status", lambda a: a.json["server"]["generation"] == 2, "the new generation")


def test_without_a_token_nothing_changes(server: StartServer) -> None:
    live = server("app:app", "--admin", "0", source=APP)
    wait_admin(live)
    answer = change(live, "/reload")
    assert answer.status == 403
    assert "admin_token" in answer.json["error"]


def test_the_token_may_be_in_a_file(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    live = server("app:app", "--admin", "0", "--admin-token-file", "token", source=APP)
    wait_admin(live)
    assert change(live, "/scale?workers=1").status == 202


def test_a_taken_address_ends_the_start(server: StartServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        live = server("app:app", "--admin", str(port), source=APP, listening=False)
        assert live.wait_end() == 1
        (line,) = [line for line in live.whole_log().splitlines() if "error: " in line]
        assert f"admin: cannot listen on 127.0.0.1:{port}: the address is in use" in line
        assert line.endswith("choose another address (admin)")


def test_a_reload_replaces_it(live: LiveServer) -> None:
    before = admin_pid(live)
    live.send(signal.SIGHUP)
    wait_admin(live, generation="2")
    assert admin_pid(live) != before
    wait_until(lambda: not is_alive(before), 20, "the old one has exited")
    assert wait_for(live, "/readyz", lambda a: a.status == 200, "ready").json["generation"] == 2


def test_a_reload_adds_moves_and_removes_it(server: StartServer, tmp_path: pathlib.Path) -> None:
    config = tmp_path / "settings.py"
    config.write_text("workers = 1\n")
    live = server("app:app", "-c", str(config), source=APP)
    live.wait_log("Started: 1 worker serves")
    with socket.create_server(("127.0.0.1", 0)) as other:
        config.write_text(f"workers = 1\nadmin = {other.getsockname()[1]}\n")
        live.send(signal.SIGHUP)
        live.wait_log("Reload aborted: admin: cannot listen on .*in use")
    config.write_text("workers = 1\nadmin = ':0'\n")
    live.send(signal.SIGHUP)
    wait_admin(live)
    first = admin_port(live)
    assert ask(live, "/livez").status == 200
    config.write_text("workers = 1\nadmin = 'localhost:0'\n")
    live.send(signal.SIGHUP)
    wait_admin(live, 2)
    assert admin_port(live) != first
    wait_for(live, "/livez", lambda a: a.status == 200, "the new address answers")
    live.wait_log(f"No admin worker any more at: 127.0.0.1:{first}")
    with pytest.raises(ConnectionRefusedError):
        ask(live, "/livez", port=first)
    config.write_text("workers = 1\n")
    live.send(signal.SIGHUP)
    live.wait_log("No admin worker any more at:", count=2)
    live.wait_children(1)


def test_one_that_is_killed_comes_back(live: LiveServer) -> None:
    before = admin_pid(live)
    os.kill(before, signal.SIGKILL)
    wait_admin(live, 2)
    assert admin_pid(live) != before
    assert wait_for(live, "/livez", lambda a: a.status == 200, "live").json["generation"] == 1


def test_one_that_hangs_is_replaced(server: StartServer) -> None:
    live = server("app:app", "--admin", "0", "--timeout", "2", source=APP)
    wait_admin(live)
    before = admin_pid(live)
    os.kill(before, signal.SIGSTOP)
    wait_admin(live, 2, r"\d+")
    assert not is_alive(before)


def test_scrapes_leave_nothing_behind(live: LiveServer) -> None:
    for _ in range(5):
        ask(live, "/metrics")
    pids = (live.pid, admin_pid(live))
    before = {pid: steady_descriptors(pid) for pid in pids}
    for _ in range(200):
        assert ask(live, "/metrics").status == 200
    for pid in pids:
        wait_until(lambda pid=pid: has_at_most(pid, before[pid]), 20, "no descriptor more")  # type: ignore[misc]


def test_silent_clients_keep_nobody_waiting(live: LiveServer) -> None:
    with contextlib.ExitStack() as clients:
        for at in range(100):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", admin_port(live)), timeout=30))
            client.sendall(b"GET /livez HT" if at % 2 else b"")
        for path in ("/livez", "/metrics"):
            assert wait_for(live, path, lambda a: a.status == 200, "an answer").status == 200


def test_metrics_are_valid_and_count(live: LiveServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=30)
    with contextlib.closing(connection):
        for path in ("/", "/", "/fail"):
            connection.request("GET", path)
            connection.getresponse().read()

    def families() -> dict[str, Any]:
        text = ask(live, "/metrics").body.decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    # The response of a request comes before it is counted.
    def total(name: str, found: dict[str, Any], **labels: str) -> float:
        samples = found[f"wsgicluster_{name}"].samples
        return float(sum(each.value for each in samples if labels.items() <= each.labels.items()))

    wait_until(lambda: total("requests", families()) == 3, 20, "three requests are counted")
    found = families()
    assert total("requests", found, code="2xx") == 2
    assert total("request_failures", found, reason="exception") == 1
    for name, family in found.items():
        assert name.startswith("wsgicluster_")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample
            assert sample.name.endswith(("_bucket", "_count", "_sum")) == (family.type == "histogram"), sample
            assert not {"pid", "path", "method", "instance", "job"} & sample.labels.keys()


def test_the_format_is_what_the_client_takes(live: LiveServer) -> None:
    plain = ask(live, "/metrics")
    assert plain.fields["content-type"].startswith("text/plain; version=")
    assert "content-encoding" not in plain.fields
    openmetrics = ask(live, "/metrics", Accept="application/openmetrics-text; version=1.0.0", Accept_Encoding="gzip")
    assert openmetrics.fields["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.fields["content-encoding"] == "gzip"
    assert len(openmetrics.body) < len(plain.body) / 2


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool of the package prometheus")
def test_promtool_finds_nothing(live: LiveServer) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=ask(live, "/metrics").body, capture_output=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_events_come_as_they_happen(live: LiveServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", admin_port(live), timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/events?last=0")
        response = connection.getresponse()
        assert response.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        assert change(live, "/scale?workers=3").status == 202
        while not (line := response.readline()).startswith(b"data: "):
            assert line, "the stream has ended"
        event = json.loads(line.removeprefix(b"data: "))
        assert (event["event"], event["workers"]) == ("scale", 3)


def test_it_serves_without_a_control_socket_and_at_a_unix_socket(server: StartServer, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "admin.sock"
    live = server("app:app", "--admin", f"unix:{path}", "--no-control-socket", source=APP)
    wait_admin(live)
    assert path.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"".join(iter(lambda: client.recv(65536), b"")).startswith(b"HTTP/1.1 200 OK\r\n")
    assert live.stop() == 0
    assert not path.exists()


def test_until_the_end_of_a_stop_it_says_what_happens(live: LiveServer) -> None:
    with hung(live, 1):
        wait_for(live, "/status", lambda a: any(w["in_progress"] for w in a.json["workers"]), "a request runs")
        live.send(signal.SIGTERM)
        # On a busy machine the arbiter may respond late, which is a reason of its own for a moment.
        stopping = "server: stopping"
        answer = wait_for(live, "/readyz", lambda a: stopping in a.json["reasons"], "it says that the server stops")
        assert answer.status == 503
        wait_for(live, "/livez", lambda a: a.status == 200, "the arbiter lives")
    assert live.wait_end() == 0


def test_an_upgrade_keeps_the_address(live: LiveServer) -> None:
    port = admin_port(live)
    old = live.pid
    live.send(signal.SIGUSR2)
    live.wait_log(r"The new server \(pid \d+\) serves")
    found = wait_for(live, "/status", lambda a: a.status == 200 and a.json["server"]["pid"] != old, "the new one")
    assert admin_port(live) == port
    new = found.json["server"]["pid"]
    live.send(signal.SIGTERM)
    assert live.wait_end() == 0
    for _ in range(3):
        assert wait_for(live, "/livez", lambda a: a.status == 200, "live").json["pid"] == new


def test_an_upgrade_that_is_called_off_gives_it_back(live: LiveServer) -> None:
    old = live.pid
    live.send(signal.SIGUSR2)
    live.wait_log(r"The new server \(pid \d+\) serves")
    found = wait_for(live, "/status", lambda a: a.status == 200 and a.json["server"]["pid"] != old, "the new one")
    os.kill(found.json["server"]["pid"], signal.SIGTERM)
    wait_for(live, "/status", lambda a: a.status == 200 and a.json["server"]["pid"] == old, "the old one again")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_it_runs_as_the_user_of_workers(server: StartServer) -> None:
    user = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)  # that of pytest is closed to others
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        live = server(
            "app:app", "--admin", "0", "--admin-token-file", "token", "--user", str(user.pw_uid),
            source=APP, folder=folder,
        )  # fmt: skip
        wait_admin(live)
        assert f"Uid:\t{user.pw_uid}\t{user.pw_uid}" in pathlib.Path(f"/proc/{admin_pid(live)}/status").read_text()
        for path in ("/", "/livez", "/metrics", "/status"):
            assert ask(live, path).status == 200, path
        assert change(live, "/scale?workers=1").status == 202
        assert live.stop() == 0


def test_only_its_own_names_are_served(server: StartServer) -> None:
    live = server("app:app", "--admin", "0", "--admin-host", "shop.internal", "--admin-token", TOKEN, source=APP)
    wait_admin(live)
    port = admin_port(live)
    for host in (f"127.0.0.1:{port}", "localhost", "shop.internal:1"):
        assert ask(live, "/livez", Host=host).status == 200
    for path, method in (("/", "GET"), ("/metrics", "GET"), ("/nothing", "GET"), ("/reload", "POST")):
        found = ask(live, path, method, Host="evil.example", Authorization=f"Bearer {TOKEN}")
        assert found.status == 421
        assert "--admin-host evil.example" in found.json["error"]
    assert not live.said("Reload")
