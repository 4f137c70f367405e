"""Events of real servers: what happens to workers reaches the configuration file's handlers, web hooks and commands.

Where a test stands for one of Node's own, its docstring names that and its number in docs/explanation/node.rst.
"""

import dataclasses
import hashlib
import hmac
import http.server
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import (
    LiveServer,
    StartServer,
    descriptors_of,
    has_at_most,
    is_alive,
    process_state,
    steady_descriptors,
    wait_until,
)
from wsgicluster.ipc.events import EVENTS

pytestmark = pytest.mark.live

NOTE_ALL = """
import json, dataclasses
from wsgicluster import cluster

def _note(event):
    with open("events.log", "a") as file:
        file.write(json.dumps({"event": event.name, **dataclasses.asdict(event)}) + "\\n")

for _name in ("fork", "online", "listening", "ready", "draining", "disconnect", "exit", "timeout", "recycle", "reload",
              "scale", "degraded"):
    cluster.on(_name, _note)

@cluster.on_message("scale")
def scale(message):
    cluster.scale(message.value)

@cluster.on_message("drain")
def drain(message):
    cluster.drain(message.value)

@cluster.on_message("restart")
def restart(message):
    cluster.restart(message.value)

@cluster.on_message("reload")
def _reload(message):
    cluster.reload()
"""


class Noted:
    """A server whose handlers note all events."""

    def __init__(
        self,
        server: StartServer,
        folder: pathlib.Path,
        *arguments: str,
        more: str = "",
        log: pathlib.Path | None = None,
    ) -> None:
        self.folder = folder
        self.config = folder / "wsgicluster.conf.py"
        self.config.write_text(NOTE_ALL + more)
        self.live: LiveServer = server("tests.apps.events:app", *arguments, folder=folder, listening=log is None)
        if log is not None:
            self.live.log_path = log
            self.live.wait_listening()

    def started(self, workers: int = 1) -> "Noted":
        self.live.wait_log(rf"Started: {workers} workers? serves?", 30)
        self.wait(workers, event="ready", role="worker")
        return self

    def events(self, **fields: Any) -> list[dict[str, Any]]:
        """All that were noted with these fields."""
        path = self.folder / "events.log"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [each for each in found if all(each.get(name) == value for name, value in fields.items())]

    def wait(self, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """So many events with these fields."""

        def enough() -> list[dict[str, Any]]:
            found = self.events(**fields)
            return found if len(found) >= count else []

        return wait_until(enough, 20, f"{count} events with {fields}")

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.live.url}/{path}", timeout=20) as response:
            return response.read().decode()  # type: ignore[no-any-return]

    def get_deadly(self, path: str) -> None:
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            self.get(path)

    def pid(self, title: str) -> int:
        """The process with this title, waited for."""

        def found() -> int:
            for pid in self.live.children():
                try:
                    words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode()
                except OSError:
                    continue
                if words.startswith(f"wsgicluster: {title}"):
                    return pid
            return 0

        return wait_until(found, 20, f"there is a process {title}")


LIFE = ["fork", "online", "listening", "ready", "draining", "disconnect", "exit"]


def test_the_events_of_a_worker_come_in_order(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 1, 5, 80: basic, worker-init, listening-port)"""
    noted = Noted(server, tmp_path, "-w", "4").started(4)
    assert noted.live.stop() == 0
    for slot in range(1, 5):
        life = noted.events(slot=slot)
        assert [each["event"] for each in life] == LIFE
        assert len({(each["pid"], each["generation"]) for each in life}) == 1
        assert life[2]["address"] == f"127.0.0.1:{noted.live.port}"
        assert (life[-1]["asked"], life[-1]["by"], life[-1]["reason"]) == (True, "operator", "stop requested")
        assert (life[-1]["code"], life[-1]["signal"]) == (0, "")
    exits = [each["role"] for each in noted.events(event="exit")]
    assert exits == ["worker"] * 4, "the steward receives the exits of all others, and is the last one"
    assert not noted.live.members()


@pytest.mark.parametrize("preload", [False, True])
def test_a_worker_that_still_boots_has_all_events(server: StartServer, tmp_path: pathlib.Path, preload: bool) -> None:
    """(Node 69, 70, 82: disconnect-leak, disconnect-idle-worker)"""
    (tmp_path / "wsgicluster.conf.py").write_text(NOTE_ALL)
    slow = "import threading\nopen('booting', 'w').close()\nthreading.Event().wait()\n"
    live = server("app:app", *(["--preload"] if preload else []), source=slow, folder=tmp_path)
    wait_until(lambda: (tmp_path / "booting").exists(), 20)
    live.wait_log("Steward .* is ready")
    assert live.stop() == 0
    events = [json.loads(line) for line in (tmp_path / "events.log").read_text().splitlines()]
    role = "mold" if preload else "worker"
    life = [each["event"] for each in events if each["role"] == role]
    assert life[0] == "fork"
    assert life[-3:] == LIFE[-3:]
    assert "ready" not in life
    assert events[-1]["role"] == "steward"


def test_an_upgrade_ends_the_roles_of_the_old_server(server: StartServer, tmp_path: pathlib.Path) -> None:
    noted = Noted(server, tmp_path, "-w", "1", "--jobs-worker", "--pid", "pid").started()
    noted.wait(event="ready", role="jobs")
    old = {each["pid"]: each["role"] for each in noted.events(event="ready")}
    noted.live.send(signal.SIGUSR2)
    new = noted.wait(2, event="ready", role="worker")[1]["pid"]
    noted.wait(2, event="ready", role="jobs")
    noted.live.send(signal.SIGTERM)
    noted.live.wait_end()
    ends = [each["role"] for each in noted.events(event="exit") if each["pid"] in old]
    assert sorted(ends) == ["jobs", "worker"], "the steward of the old server is the last, and receives both"
    assert is_alive(new)
    assert not any(is_alive(pid) for pid in old)
    os.kill(new, signal.SIGKILL)
    noted.wait(event="exit", pid=new, signal="SIGKILL")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    wait_until(lambda: not noted.live.members(), 15, "no process is left")


def test_a_replacement_has_the_slot_and_a_reload_the_next_generation(
    server: StartServer, tmp_path: pathlib.Path
) -> None:
    """(Node 2: worker-constructor)"""
    noted = Noted(server, tmp_path, "-w", "1").started()
    first = noted.wait(event="ready", role="worker")[0]
    os.kill(first["pid"], signal.SIGKILL)
    second = noted.wait(2, event="ready", role="worker")[1]
    assert (second["slot"], second["generation"]) == (1, 1)
    noted.live.send(signal.SIGHUP)
    third = noted.wait(3, event="ready", role="worker")[2]
    assert (third["slot"], third["generation"]) == (1, 2)
    assert len({first["pid"], second["pid"], third["pid"]}) == 3


def test_json_has_the_fields_of_the_dataclass(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 4: basic)"""
    noted = Noted(server, tmp_path, "-w", "1").started()
    for event in noted.events():
        assert set(event) == {"event", *(field.name for field in dataclasses.fields(EVENTS[event["event"]]))}


def test_a_reload_says_which_settings_changed(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 15, 16: setup-primary-emit, setup-primary-multiple)"""
    noted = Noted(server, tmp_path, "-w", "1").started()
    noted.live.send(signal.SIGHUP)
    noted.wait(event="reload", result="complete", generation=2)
    begun = noted.events(event="reload", result="begun")
    assert [(each["changes"], each["by"]) for each in begun] == [({}, "operator")]
    noted.config.write_text(NOTE_ALL + "timeout = 17\nevent_webhook_secret = 'x'\n")
    noted.live.send(signal.SIGHUP)
    noted.wait(event="reload", result="complete", generation=3)
    changes = noted.events(event="reload", result="begun")[1]["changes"]
    assert set(changes) == {"timeout", "event_webhook_secret"}
    assert "17" in changes["timeout"]
    assert "x" not in changes["event_webhook_secret"].split()
    noted.config.write_text("raise LookupError('broken')\n")
    noted.live.send(signal.SIGHUP)
    refused = noted.wait(event="reload", result="refused")[0]
    assert "broken" in refused["reason"]
    noted.get("ask/reload/0")
    assert noted.wait(2, event="reload", result="refused")[1]["by"] == "steward", "handlers are those of before"


def test_a_reload_that_the_configuration_file_requests_is_named_so(server: StartServer, tmp_path: pathlib.Path) -> None:
    noted = Noted(server, tmp_path, "-w", "1").started()
    noted.get("ask/reload/0")
    noted.live.wait_log("Configuration file: reload")
    noted.wait(event="reload", result="complete", generation=2)
    noted.wait(event="exit", role="worker", generation=1)
    named = noted.events(event="reload") + [
        each for name in ("draining", "disconnect", "exit") for each in noted.events(event=name, role="worker")
    ]
    assert {each["by"] for each in named} == {"steward"}
    assert noted.live.stop() == 0
    assert noted.events(event="exit", role="worker", generation=2)[0]["by"] == "operator"
    assert "SIGHUP" not in noted.live.log()


def test_an_exit_code_of_its_own(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 78, 83: worker-exit, worker-death, worker-forced-exit)"""
    noted = Noted(server, tmp_path, "-w", "1").started()
    noted.get_deadly("exit/42")
    ended = noted.wait(event="exit", role="worker")[0]
    assert (ended["code"], ended["signal"], ended["asked"], ended["by"]) == (42, "", False, "")
    assert ended["reason"] == "crashed"
    assert ended["request"] == "GET /exit/42 HTTP/1.1"
    assert ended["age_s"] > 0
    assert ended["rss_bytes"] > 1 << 20
    noted.wait(event="degraded", recovered=False)
    noted.wait(2, event="ready", role="worker")


def test_a_kill_has_the_name_of_its_signal(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 84: worker-kill, worker-kill-signal)"""
    noted = Noted(server, tmp_path, "-w", "1").started()
    os.kill(noted.events(event="ready", role="worker")[0]["pid"], signal.SIGKILL)
    ended = noted.wait(event="exit", role="worker")[0]
    assert (ended["code"], ended["signal"], ended["reason"]) == (None, "SIGKILL", "killed from outside")
    assert [each["event"] for each in noted.events(pid=ended["pid"])][-2:] == ["disconnect", "exit"]


def test_a_worker_that_hangs_is_reported_with_its_stack(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 86: kill-infinite-loop)"""
    noted = Noted(server, tmp_path, "-w", "1", "--timeout", "1").started()
    noted.get_deadly("hang")
    hung = noted.wait(event="timeout", role="worker")[0]
    assert (hung["request"], hung["timeout_s"]) == ("GET /hang HTTP/1.1", 1.0)
    ended = noted.wait(event="exit", role="worker")[0]
    assert ended["reason"] == "timed out"
    assert "events.py" in ended["stack"]


def test_a_worker_that_asks_is_recycled(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 75: kill-disconnect, worker-disconnect-on-error)"""
    noted = Noted(server, tmp_path, "-w", "1").started()
    assert noted.get("recycle") == "ok"
    ended = noted.wait(event="exit", role="worker")[0]
    assert (ended["asked"], ended["by"]) == (True, "application")
    assert ended["reason"] == "recycled at the application's request"
    life = [each["event"] for each in noted.events(pid=ended["pid"])]
    assert life == [*LIFE[:4], "recycle", *LIFE[4:]]


def test_a_drained_slot_is_replaced_first(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 65, 74: worker-disconnect, worker-wait-server-close, call-and-destroy)"""
    noted = Noted(server, tmp_path, "-w", "2").started(2)
    # Its replacement does not get ready before the second command has come.
    held = tmp_path / "held"
    held.touch()
    noted.get("ask/drain/2")
    noted.get("ask/restart/2")
    noted.live.wait_log("slot 2: restart")
    held.unlink()
    ended = noted.wait(event="exit", role="worker")[0]
    assert (ended["slot"], ended["asked"], ended["by"], ended["reason"]) == (2, True, "steward", "stop requested")
    assert [each["event"] for each in noted.events(pid=ended["pid"])][-3:] == LIFE[-3:]
    replacements = noted.wait(3, event="ready", role="worker")
    order = noted.events()
    draining = next(i for i, each in enumerate(order) if each["event"] == "draining")
    assert draining > order.index(replacements[2]), "replaced first"
    noted.get("ask/drain/9")
    noted.live.wait_log("there is no worker in slot 9")
    assert len(noted.events(event="fork", role="worker")) == 3, "one replacement, not two"


def test_the_configuration_file_scales(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 73: concurrent-disconnect)"""
    noted = Noted(server, tmp_path, "-w", "1").started()
    for _ in range(3):
        noted.get("ask/scale/6")
        noted.get("ask/scale/1")
    noted.wait(6, event="scale")
    noted.live.wait_children(2, 20)
    assert [(each["before"], each["workers"], each["by"]) for each in noted.events(event="scale")] == [
        (1, 6, "steward"),
        (6, 1, "steward"),
    ] * 3
    # Of those that are asked for in one turn of the arbiter's loop only the last counts: there may be no other worker.
    others = len(noted.events(event="fork", role="worker")) - 1
    ends = noted.wait(others, event="exit", role="worker") if others else []
    assert {(each["reason"], each["by"]) for each in ends} <= {("stop requested", "steward")}
    noted.get("ask/scale/0")
    noted.live.wait_log("0 is not a number of workers")
    assert "may only be called by handlers" in noted.get("refused")


def test_an_exit_that_was_asked_for_always_says_so(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 71: disconnect-exitedAfterDisconnect-race, disconnect-race, disconnect-before-exit)"""
    noted = Noted(server, tmp_path, "-w", "2", "--max-requests", "3").started(2)
    numbers = itertools.count()

    def replaced() -> bool:
        number = next(numbers)
        noted.get("recycle" if number % 5 == 0 else f"ask/{('restart', 'drain')[number % 2]}/{1 + number % 2}")
        return len(noted.events(event="exit", role="worker")) >= 20

    wait_until(replaced, 30, "20 workers were replaced")
    assert noted.live.stop() == 0
    ends = noted.events(event="exit", role="worker")
    assert len(ends) == len(noted.events(event="fork", role="worker"))
    wrong = [each for each in ends if not each["asked"] or not each["by"] or each["code"] != 0]
    assert wrong == []
    assert {each["reason"] for each in ends} <= {
        "stop requested", "recycled after its number of requests", "recycled at the application's request",
    }  # fmt: skip


def test_the_roles_inherit_what_is_decided(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 10: fork-stdio)"""
    noted = Noted(server, tmp_path, "-w", "1", "--jobs-worker").started()
    noted.wait(event="ready", role="jobs")
    steward, jobs, worker = noted.pid("steward"), noted.pid("jobs worker"), noted.pid("worker 1")
    listener = f"socket:[{_inode_of(noted.live.port)}]"
    assert listener in descriptors_of(worker).values()
    assert listener not in descriptors_of(steward).values()
    assert listener not in descriptors_of(jobs).values()
    blocked = [
        re.search(r"^SigBlk:\t(.*)$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        for pid in (steward, jobs)
    ]
    assert [int(found[1], 16) for found in blocked if found] == [0, 0]
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTTIN):
        for pid in (steward, jobs):
            os.kill(pid, number)
    before = {pid: steady_descriptors(pid) for pid in (noted.live.pid, worker, jobs)}
    for count in range(2, 5):  # each waits longer than the one before
        os.kill(noted.pid("steward"), signal.SIGKILL)
        noted.wait(count, event="ready", role="steward")
    for pid, known in before.items():
        wait_until(lambda pid=pid, known=known: has_at_most(pid, known), 10, f"{descriptors_of(pid)}")  # type: ignore[misc]
    assert (is_alive(jobs), is_alive(steward)) == (True, False)


def _inode_of(port: int) -> str:
    """The inode of the socket that listens on a port."""
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return next(words[9] for line in lines if (words := line.split())[1].endswith(f":{port:04X}") and words[3] == "0A")


def test_logs_are_reopened_in_the_steward_too(server: StartServer, tmp_path: pathlib.Path) -> None:
    more = """
@cluster.on_message("log")
def _log_it(message):
    raise LookupError(f"number {message.value}")
"""
    log, old = tmp_path / "error.log", tmp_path / "old.log"
    noted = Noted(server, tmp_path, "-w", "1", "--error-logfile", str(log), more=more, log=log).started()
    log.rename(old)
    noted.live.log_path = old
    noted.live.send(signal.SIGUSR1)

    def is_reopened() -> bool:
        noted.get("ask/log/7")
        return log.exists() and "number 7" in log.read_text()

    wait_until(is_reopened, 10, "the steward logs to the new file")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_roles_run_as_the_workers_user(server: StartServer) -> None:
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # that of pytest is closed to others
    live = server(
        "app:app", "--user", "65534", "--group", "65534", "--jobs-worker", "--event-exec", "true",
        source="def app(environ, start_response): ...\n", folder=folder,
    )  # fmt: skip
    live.wait_log("Started: 1 worker serves")
    live.wait_log("Steward .* is ready")
    for pid in live.wait_children(3):
        wait_until(lambda pid=pid: _user_of(pid) == 65534, 10)  # type: ignore[misc]
    live.stop()
    shutil.rmtree(folder)


def _user_of(pid: int) -> int:
    found = re.search(r"^Uid:\t(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def test_a_handler_that_raises_stops_nothing(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 89: primary-error)"""
    more = """
@cluster.on("exit", slot=1)
def fails(event):
    raise SystemExit(7)
@cluster.on("exit", slot=2)
def other_slot(event):
    open("two.log", "w").close()
@cluster.on("exit")
def works(event):
    open("works.log", "w").close()
"""
    noted = Noted(server, tmp_path, "-w", "1", more=more).started()
    steward = noted.pid("steward")
    noted.get_deadly("exit/3")
    noted.live.wait_log(r"the handler fails failed \(event exit\)")
    wait_until(lambda: (tmp_path / "works.log").exists(), 10)
    assert not (tmp_path / "two.log").exists()
    assert noted.pid("steward") == steward


def test_an_error_in_the_configuration_file_ends_the_start(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 88: uncaught-exception)"""
    (tmp_path / "wsgicluster.conf.py").write_text("from wsgicluster import cluster\ncluster.on('exti', print)\n")
    live = server("tests.apps.events:app", folder=tmp_path, listening=False)
    assert live.wait_end() == 2
    assert re.search(r"there is no event 'exti'; did you mean 'exit'\?", live.whole_log())
    assert not live.members()


def test_a_handler_that_hangs_costs_the_steward_only(server: StartServer, tmp_path: pathlib.Path) -> None:
    more = """
import os, threading
@cluster.on("exit", slot=1)
def hang_here(event):
    if not os.path.exists("hung"):
        open("hung", "w").close()
        threading.Event().wait()
"""
    noted = Noted(server, tmp_path, "-w", "2", "--timeout", "1", more=more).started(2)
    steward = noted.pid("steward")
    os.kill(noted.events(event="ready", slot=1)[0]["pid"], signal.SIGKILL)
    noted.wait(event="timeout", role="steward", pid=steward)
    assert noted.get("") == "ok"
    ended = noted.wait(event="exit", role="steward", pid=steward)[0]
    assert ended["reason"] == "timed out"
    assert "hang_here" in ended["stack"]
    assert noted.pid("steward") != steward
    noted.wait(2, event="ready", slot=1)
    assert [each["event"] for each in noted.events(slot=1)].count("ready") == 2, "none was lost but the one that hung"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_steward_that_is_gone_is_replaced(
    server: StartServer, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    noted = Noted(server, tmp_path, "-w", "1", "--timeout", "2").started()
    steward = noted.pid("steward")
    os.kill(steward, number)
    wait_until(lambda: not is_alive(steward), 20, "the steward has ended")
    assert noted.pid("steward") != steward
    noted.wait(event="exit", role="steward", pid=steward)
    os.kill(noted.events(event="ready", slot=1)[0]["pid"], signal.SIGKILL)
    noted.wait(event="exit", slot=1, signal="SIGKILL")
    assert noted.live.stop() == 0
    assert not noted.live.members()


def test_a_reload_replaces_the_steward_or_ends_it(server: StartServer, tmp_path: pathlib.Path) -> None:
    noted = Noted(server, tmp_path, "-w", "1").started()
    steward = noted.pid("steward")
    noted.live.send(signal.SIGHUP)
    noted.wait(event="ready", role="steward", generation=2)
    assert not is_alive(steward)
    noted.config.write_text("workers = 1\n")
    noted.live.send(signal.SIGHUP)
    noted.live.wait_log("generation 2\\) exited: stop requested")
    noted.live.wait_children(1)
    noted.config.write_text(NOTE_ALL)
    noted.live.send(signal.SIGHUP)
    noted.wait(event="ready", role="steward", generation=4)


def test_without_use_there_is_nothing(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "wsgicluster.conf.py").write_text("from wsgicluster import cluster\n")
    live = server("app:app", source="def app(e, s):\n    s('200 OK', [])\n    return [b'']\n", folder=tmp_path)
    live.wait_log("Started: 1 worker serves")
    (worker,) = live.wait_children(1)
    assert [len(os.listdir(f"/proc/{pid}/task")) for pid in (live.pid, worker)] == [1, 1], "no thread"


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
@pytest.mark.parametrize("preload", [False, True])
def test_an_application_hears_of_its_own_worker(
    server: StartServer, tmp_path: pathlib.Path, kind: str, preload: bool
) -> None:
    """(Node 87: worker-isconnected)"""
    live = server("tests.apps.events:app", "-k", kind, *(["--preload"] if preload else []), folder=tmp_path)
    live.wait_log("Started: 1 worker serves")
    own = tmp_path / "own.log"
    wait_until(lambda: own.exists() and own.read_text().count("ready"), 10)
    live.wait_log("the handler fail failed")
    assert live.stop() == 0
    lines = [line.split() for line in own.read_text().splitlines()]
    assert [name for _, name in lines] == ["ready", "draining", "disconnect"]
    assert len({pid for pid, _ in lines}) == 1


class Receiver:
    """An HTTP server for web hooks; ``statuses`` are those of the first requests."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_events_are_posted_signed_and_again(server: StartServer, receiver: Receiver, tmp_path: pathlib.Path) -> None:
    receiver.statuses = [503]
    live = server(
        "tests.apps.events:app", "--event-webhook", receiver.url, folder=tmp_path,
        environ={"WSGICLUSTER_EVENT_WEBHOOK_SECRET": "key"},
    )  # fmt: skip
    live.wait_log("Started: 1 worker serves")
    wait_until(lambda: any(b'"ready"' in body and b'"worker"' in body for _, body in receiver.got), 20)
    assert live.stop() == 0
    headers, body = receiver.got[0]
    assert receiver.got[1][0]["X-Wsgicluster-Delivery"] == headers["X-Wsgicluster-Delivery"], "refused, sent again"
    signed = headers["X-Wsgicluster-Timestamp"].encode() + b"." + body
    assert headers["X-Wsgicluster-Signature"] == f"sha256={hmac.new(b'key', signed, hashlib.sha256).hexdigest()}"
    names = [json.loads(body)["event"] for _, body in receiver.got[1:] if json.loads(body)["role"] == "worker"]
    assert names == LIFE
    assert "key" not in live.whole_log()


@pytest.mark.parametrize("is_silent", [True, False], ids=["silent", "refuses"])
def test_a_receiver_that_does_not_answer_costs_nothing(
    server: StartServer, tmp_path: pathlib.Path, is_silent: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        if not is_silent:
            listener.close()
        noted = Noted(server, tmp_path, "-w", "1", "--event-webhook", url, "--graceful-timeout", "1").started()
        os.kill(noted.events(event="ready", slot=1)[0]["pid"], signal.SIGKILL)
        noted.wait(2, event="ready", slot=1)
        assert noted.live.stop() == 0
        assert not noted.live.members()


def test_a_command_is_run_for_each_event(server: StartServer, tmp_path: pathlib.Path) -> None:
    script = tmp_path / "note.py"
    script.write_text(
        "import os, sys\n"
        "with open('commands.log', 'a') as file:\n"
        "    print(os.environ['CLUSTER_EVENT'], os.environ.get('CLUSTER_EVENT_SLOT'), sys.stdin.read(), file=file)\n"
    )
    command = f"{sys.executable} -S {script}"
    live = server("tests.apps.events:app", "--event-exec", command, "-w", "1", folder=tmp_path)
    live.wait_log("Started: 1 worker serves")
    assert live.stop() == 0
    lines = [line.split(" ", 2) for line in (tmp_path / "commands.log").read_text().splitlines() if line]
    worker = [name for name, slot, text in lines if slot == "1" and json.loads(text)["event"] == name]
    assert worker == LIFE


def test_a_command_that_cannot_be_run_is_logged(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("tests.apps.events:app", "--event-exec", "/nowhere/command", folder=tmp_path)
    live.wait_log("event_exec: /nowhere/command cannot be run: No such file")
    live.wait_log("Started: 1 worker serves")


def test_the_jobs_worker_takes_messages_and_is_supervised(server: StartServer, tmp_path: pathlib.Path) -> None:
    noted = Noted(server, tmp_path, "-w", "1", "--jobs-worker", "--max-memory", "120M").started()
    jobs = noted.pid("jobs worker")
    assert noted.get("jobs") == str({"role": "jobs", "at import": "jobs", "pid": jobs})
    os.kill(jobs, signal.SIGKILL)
    wait_until(lambda: not is_alive(jobs), 10)
    second = noted.pid("jobs worker")
    noted.wait(2, event="ready", role="jobs")
    assert noted.get("jobs") == str({"role": "jobs", "at import": "jobs", "pid": second})
    noted.get("grow/150")
    noted.wait(event="recycle", role="jobs", pid=second)
    ended = noted.wait(event="exit", role="jobs", pid=second)[0]
    assert (ended["reason"], ended["by"]) == ("recycled for its memory", "arbiter")
    noted.wait(3, event="ready", role="jobs")
    noted.live.send(signal.SIGHUP)
    noted.wait(event="ready", role="jobs", generation=2)
    assert noted.live.stop() == 0
    assert process_state(second) is None
    assert not noted.live.members()


def test_the_jobs_worker_finishes_what_it_runs(server: StartServer, tmp_path: pathlib.Path) -> None:
    noted = Noted(server, tmp_path, "-w", "1", "--jobs-worker").started()
    first = noted.wait(event="ready", role="jobs")[0]["pid"]
    own = tmp_path / "own.log"
    noted.get("slow")
    wait_until(lambda: own.exists() and f"{first} slow began" in own.read_text(), 10)
    noted.get("slow")
    noted.live.send(signal.SIGHUP)
    noted.wait(event="draining", role="jobs", pid=first)
    # That is the arbiter's word; this is the process's own, which takes no message from now on.
    wait_until(lambda: f"{first} draining\n" in own.read_text(), 10)
    assert is_alive(first)
    (tmp_path / "released").touch()
    second = noted.wait(event="ready", role="jobs", generation=2)[0]["pid"]
    wait_until(lambda: f"{second} slow done" in own.read_text(), 10, "the message that waited reaches the successor")
    wait_until(lambda: f"{first} disconnect\n" in own.read_text(), 10)
    lines = own.read_text().splitlines()
    assert [line for line in lines if "slow" in line] == [
        f"{first} slow began", f"{first} slow done", f"{second} slow began", f"{second} slow done",
    ]  # fmt: skip


def test_a_message_handler_that_hangs_ends_the_jobs_worker(server: StartServer, tmp_path: pathlib.Path) -> None:
    noted = Noted(server, tmp_path, "-w", "1", "--jobs-worker", "--timeout", "1").started()
    noted.get("slow")
    hung = noted.wait(event="exit", role="jobs")[0]
    assert hung["reason"] == "timed out"
    assert "in slow" in hung["stack"]
    noted.wait(2, event="ready", role="jobs")


def test_children_leave_when_the_arbiter_is_killed(server: StartServer, tmp_path: pathlib.Path) -> None:
    """(Node 90: primary-kill)"""
    noted = Noted(server, tmp_path, "-w", "1", "--jobs-worker").started()
    noted.pid("jobs worker")
    noted.live.send(signal.SIGKILL)
    wait_until(lambda: not noted.live.members(), 15, "no process is left")
