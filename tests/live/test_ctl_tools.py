"""What wsgiclusterctl does beyond watching and steering: units of systemd, logs, profiles, memory, findings."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.ctl import ctl
from tests.live.test_control import connect, control_clients, run
from wsgicluster.ctl.profiling.profiler import profile
from wsgicluster.ctl.profiling.samples import share, without_idle

pytestmark = pytest.mark.live

APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.fixture
def live(server: StartServer) -> LiveServer:
    found = server("app:app", "-w", "2", source=APP)
    found.wait_workers(2)
    return found


def test_the_unit_of_a_server_has_its_command(live: LiveServer) -> None:
    found = ctl(live, "systemd")
    assert found.returncode == 0, found.stderr
    lines = dict(line.partition("=")[::2] for line in found.stdout.splitlines() if "=" in line)
    words = shlex.split(lines["ExecStart"])
    assert words == [sys.executable, "-m", "wsgicluster", *live.arguments]
    assert pathlib.Path(lines["WorkingDirectory"]) == live.folder
    assert lines["TimeoutStopSec"] == "40"
    assert str(live.environ["PATH"]) not in found.stdout
    assert ("User" in lines) == (os.geteuid() != 0)


def test_files_that_need_a_folder_at_the_start_are_told(server: StartServer) -> None:
    live = server("app:app", "-b", "unix:app.sock,mode=0660", "-p", "app.pid", "--admin", "unix:admin.sock", source=APP)
    with connect(live) as client:
        assert client.call("launch")["files"] == [
            str(live.folder / name) for name in ("app.sock", "admin.sock", "app.pid")
        ]


def test_one_reload_has_a_smoke_test_of_its_own(live: LiveServer) -> None:
    source = APP.replace('start_response("200', 'environ["PATH_INFO"] == "/broken" and 1 / 0\n    start_response("200')
    (live.folder / "app.py").write_text(source)
    broken = ctl(live, "reload", "--wait", "--smoke", "/,/broken")
    assert broken.returncode == 1
    assert "ZeroDivisionError" in broken.stderr
    assert "GET /broken" in broken.stderr
    assert ctl(live, "get", "smoke").stdout == "\n", "the workers that serve have no smoke test"
    passed = ctl(live, "reload", "--wait", "--smoke", "/")
    assert passed.returncode == 0, passed.stderr
    live.wait_log("smoke test passed: /")
    assert ctl(live, "get", "smoke").stdout == "/\n"
    assert ctl(live, "reload", "--wait").returncode == 0
    assert ctl(live, "get", "smoke").stdout == "\n"
    wrong = ctl(live, "reload", "--smoke", "login")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), wrong.stderr
    assert "/login" in wrong.stderr


def test_a_smoke_test_is_refused_where_it_would_not_be_made(server: StartServer) -> None:
    live = server("app:app", "--reload", source=APP)
    live.wait_log("Started: 1 worker serves")
    refused = ctl(live, "reload", "--smoke", "/")
    assert refused.returncode == 1
    assert refused.stderr == (
        "wsgiclusterctl: error: smoke is off with the setting reload, because each worker reports its errors itself\n"
    )


def test_a_slot_is_drained_by_a_replacement(live: LiveServer) -> None:
    first = ctl(live, "pid", "2").stdout
    found = ctl(live, "drain", "2", "--wait")
    assert found.stdout == "slot 2: replaced\n", found.stderr
    assert ctl(live, "pid", "2").stdout not in ("", first)


WORKS = """
import ctypes, os, time

def seventy(until):
    while time.thread_time() < until:
        pass

def thirty(until):
    while time.thread_time() < until:
        pass

def in_c():
    # As C code does that never gives the interpreter's lock back.
    ctypes.PyDLL(None).usleep(200_000)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    open("began", "w").close()
    rounds = 0
    while path != "/" and not os.path.exists("over"):
        if path == "/in-c":
            in_c()
        elif path == "/sleep":
            time.sleep(0.02)
        else:
            # Short ones, so that there are many, and no multiple of the time between two samples.
            length = (0.043, 0.057, 0.071)[rounds % 3]
            rounds += 1
            seventy(time.thread_time() + 0.7 * length)
            thirty(time.thread_time() + 0.3 * length)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@contextlib.contextmanager
def working(live: LiveServer, path: str) -> Iterator[None]:
    """A request that runs until the block ends."""
    with socket.create_connection(("127.0.0.1", live.port), timeout=30) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        wait_until((live.folder / "began").exists, 20)
        yield
        (live.folder / "over").touch()
        assert b"".join(iter(lambda: client.recv(65536), b"")).endswith(b"ok")


KINDS = ["sync", "gthread", "gevent"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_profile_finds_the_shares_of_two_functions(server: StartServer, kind: str) -> None:
    live = server("app:app", "-w", "1", "-k", kind, source=WORKS)
    live.wait_log("Started: 1 worker serves")
    with working(live, "/busy"), connect(live) as connection:
        facts, found, ended = profile(connection, 1, 2.5)
    assert (facts["slot"], ended) == (1, "")
    busy, _ = without_idle(found.counts)
    both = share(busy, "seventy") + share(busy, "thirty")
    assert both > 0.9, busy
    assert share(busy, "seventy") / both == pytest.approx(0.7, abs=0.1), busy
    assert share(busy, "app") == pytest.approx(1.0, abs=0.05)


def test_c_code_that_holds_the_lock_is_seen(server: StartServer) -> None:
    live = server("app:app", "-w", "1", source=WORKS)
    live.wait_log("Started: 1 worker serves")
    with working(live, "/in-c"), connect(live) as connection:
        _, found, _ = profile(connection, 1, 1.0)
    assert share(found.counts, "in_c") > 0.8, found.counts


def test_a_profile_is_one_picture_or_lines(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("app:app", "-w", "2", "--preload", source=WORKS)
    live.wait_log("Started: 2 workers serve")
    picture = tmp_path / "profile.svg"
    found = ctl(live, "profile", "1", "0.5", "-o", str(picture))
    assert (found.returncode, found.stdout) == (0, ""), found.stderr
    assert re.fullmatch(
        rf"{picture}: \d+ looks at worker 1 \(pid \d+\); waits for requests \(\d+ %\) are left out\n", found.stderr
    )
    assert picture.read_text().startswith("<?xml")
    lines = ctl(live, "-q", "profile", "2", "0.5", "--collapsed", "--idle")
    assert lines.stderr == ""
    assert "serve (wsgicluster/worker/kinds/worker.py);turn (wsgicluster/worker/loop/loop.py)" in lines.stdout
    assert re.search(r" \d+$", lines.stdout.splitlines()[0])
    unwritable = ctl(live, "profile", "1", "0.1", "-o", str(tmp_path / "no" / "file"))
    assert unwritable.returncode == 1
    assert unwritable.stderr == (
        f"wsgiclusterctl: error: cannot write {tmp_path}/no/file: No such file or directory; "
        "name another file with -o\n"
    )
    too_long = ctl(live, "profile", "1", "601")
    assert too_long.returncode == 2
    assert too_long.stderr == "wsgiclusterctl: error: seconds: 601.0 is not a number of seconds, 600 at most\n"


@contextlib.contextmanager
def profiling(live: LiveServer, slot: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A profile that is under way."""
    command = [sys.executable, "-m", "wsgicluster.ctl", "-n", str(live.pid), "profile", str(slot), str(seconds)]
    begun = len(re.findall("profile of slot", live.log()))
    with subprocess.Popen(
        [*command, "-o", "profile.svg"], cwd=live.folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as found:
        try:
            live.wait_log("profile of slot", count=begun + 1)
            yield found
        finally:
            found.kill()


def test_one_profile_of_a_slot_at_a_time(live: LiveServer) -> None:
    with profiling(live, 1, 600) as first:
        for command in (("profile", "1", "1"), ("stacks", "1")):
            second = ctl(live, *command)
            assert second.returncode == 1
            assert re.fullmatch(
                rf"wsgiclusterctl: error: slot 1 is being profiled, by pid {first.pid}; "
                r"try again in \d+ s, or end that one\n",
                second.stderr,
            )
        assert ctl(live, "profile", "2", "0.1", "--collapsed").returncode == 0
        first.kill()
        first.wait()
        wait_until(lambda: ctl(live, "stacks", "1").returncode == 0, 20, "the slot is free once the client has gone")


def test_a_profile_ends_with_its_worker_and_what_there_is_is_written(live: LiveServer) -> None:
    victim = int(ctl(live, "pid", "1").stdout)
    with profiling(live, 1, 600) as found:
        os.kill(victim, signal.SIGKILL)
        assert found.wait(20) == 1
        assert found.stderr is not None
        message = found.stderr.read().splitlines()[-1]
    assert re.search(rf"Worker 1 \(pid {victim}, generation 1\) has exited$", message)


def test_an_interrupt_ends_a_profile_with_its_picture(live: LiveServer) -> None:
    with profiling(live, 1, 600) as found:
        wait_until(lambda: has_stacks(live), 20)
        found.send_signal(signal.SIGINT)
        assert found.wait(20) == 0
        assert found.stderr is not None
        assert re.match(r"profile\.svg: \d+ looks at worker 1 ", found.stderr.read())
    assert (live.folder / "profile.svg").exists()


def has_stacks(live: LiveServer) -> bool:
    """Has a worker written stacks to its file?"""
    folder = pathlib.Path(f"/proc/{live.pid}/fd")
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            if "wsgicluster-stacks" in os.readlink(entry) and entry.stat().st_size > 0:
                return True
    return False


CRASHES = """
import ctypes, os, time
def fault():
    ctypes.string_at(0)
def hang():
    time.sleep(3600)
def app(environ, start_response):
    {"/fault": fault, "/hang": hang}[environ["PATH_INFO"]]()
"""


@pytest.mark.parametrize(("path", "function"), [("/fault", "in fault"), ("/hang", "in hang")])
def test_the_record_of_a_death_is_the_same_while_a_profile_is_taken(
    server: StartServer, path: str, function: str
) -> None:
    live = server("app:app", "-w", "1", "--timeout", "2", source=CRASHES)
    live.wait_log("Started: 1 worker serves")
    with profiling(live, 1, 600) as found:
        wait_until(lambda: has_stacks(live), 20)
        with socket.create_connection(("127.0.0.1", live.port), timeout=30) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            live.wait_log(rf"{function}\b", 30)
        assert found.wait(20) == 1
    live.wait_log("Worker 1 .* is ready", count=2)
    assert len(re.findall(rf"{function}\b", live.log())) == 1, "once, and no other stacks"
    assert "\0" not in live.log()


def test_a_profile_beside_one_of_a_slot_that_hangs(server: StartServer) -> None:
    live = server("app:app", "-w", "2", "--timeout", "1", source=CRASHES)
    live.wait_log("Started: 2 workers serve")
    with socket.create_connection(("127.0.0.1", live.port), timeout=30) as client, contextlib.ExitStack() as owned:
        both = {slot: owned.enter_context(profiling(live, slot, 600)) for slot in (1, 2)}
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        hangs = r"Worker (\d) \(pid \d+, generation 1\) hung in GET /hang"
        live.wait_log(hangs, 30)
        (number,) = re.findall(hangs, live.log())
        hung, other = both.pop(int(number)), both.popitem()[1]
        assert hung.wait(20) == 1
        live.wait_log(rf"Worker {number} .* is ready", count=2)
        # The slot has another worker, which may be looked at; the other profile goes on until it is ended.
        assert ctl(live, "profile", number, "0.1", "--collapsed").returncode == 0
        assert other.poll() is None
        other.send_signal(signal.SIGINT)
        assert other.wait(20) == 0


def test_a_worker_that_does_not_run_has_no_profile(live: LiveServer) -> None:
    victim = int(ctl(live, "pid", "1").stdout)
    os.kill(victim, signal.SIGSTOP)
    try:
        found = ctl(live, "profile", "1", "1")
    finally:
        os.kill(victim, signal.SIGCONT)
    assert found.returncode == 1
    assert f"worker 1 (pid {victim}) has written no stacks: it is stopped, or waits in the kernel" in found.stderr


LOGS = """
import logging
def app(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        raise LookupError("no such order")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def get(live: LiveServer, path: str) -> None:
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        b"".join(iter(lambda: sock.recv(65536), b""))


def test_the_log_of_a_redirected_stream_is_shown(live: LiveServer) -> None:
    found = ctl(live, "logs", "-n", "100")
    assert found.stdout == live.whole_log(), found.stderr
    ready = ctl(live, "logs", "--slot", "2", "--grep", "ready").stdout
    assert re.fullmatch(r"\[.*\] Worker 2 \(pid \d+, generation 1\) is ready after .*\n", ready)
    assert ctl(live, "logs", "--level", "error").stdout == ""
    assert ctl(live, "logs", "-n", "0").stdout == ""
    wrong = ctl(live, "logs", "--grep", "[")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("wsgiclusterctl: error: --grep: '[' is no regular expression: ")


def test_a_log_is_followed_over_its_rotation_until_the_server_ends(server: StartServer, tmp_path: pathlib.Path) -> None:
    log = tmp_path / "error.log"
    live = server("app:app", "-w", "2", "--error-logfile", str(log), source=LOGS, listening=False)
    wait_until(lambda: log.exists() and "Started: 2 workers serve" in log.read_text(), 20)
    port = re.findall(r"Listening at: http://127\.0\.0\.1:(\d+)", log.read_text())[0]
    live.log_path.write_text(f"Listening at: http://127.0.0.1:{port}\n")
    command = [sys.executable, "-m", "wsgicluster.ctl", "-n", str(live.pid), "logs", "-f", "-n", "100", "--json"]
    with subprocess.Popen([*command, "--level", "error"], stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        wait_until(lambda: control_clients(live) == 1, 20)
        get(live, "/fail")
        first = json.loads(follower.stdout.readline())
        assert first["level"] == "error"
        assert "LookupError: no such order" in first["message"]
        log.rename(tmp_path / "error.log.1")
        assert ctl(live, "reopen-logs").returncode == 0
        wait_until(log.exists, 20)
        live.send(signal.SIGTERM)
        live.wait_end()
        assert follower.wait(20) == 3
    assert "Stopped" in log.read_text()


def test_a_log_that_is_a_pipe_is_refused_with_the_remedy(server: StartServer) -> None:
    live = server("app:app", source=APP, prefix=("sh", "-c", 'exec "$@" 2>&1 | cat', "sh"))
    live.wait_log("Started: 1 worker serves")
    (pid,) = re.findall(r"Listening at: .* \((\d+)\)", live.log())
    command = [sys.executable, "-m", "wsgicluster.ctl", "-n", pid, "logs"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert re.fullmatch(
        r"wsgiclusterctl: error: the error log goes to standard error, which is a pipe and cannot be read here; "
        r"(see [a-z]+( -u)? \S+( \S+, outside of the container)?, or )?start the server with --error-logfile FILE\n",
        found.stderr,
    )
    os.kill(int(pid), signal.SIGTERM)
    live.wait_end()


LEAKS = """
import os, time
kept = []
def leak():
    kept.append(bytearray(1_000_000))
def app(environ, start_response):
    if environ["PATH_INFO"] == "/leak":
        leak()
    if environ["PATH_INFO"] == "/busy":
        open("began", "w").close()
        while not os.path.exists("over"):
            time.sleep(0.02)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_that_leaks_is_found(server: StartServer, kind: str) -> None:
    live = server("app:app", "-w", "1", "-k", kind, source=LEAKS)
    live.wait_log("Started: 1 worker serves")
    off = ctl(live, "memory", "1")
    assert off.returncode == 1
    assert off.stderr.endswith(": it does not trace its memory; begin with --start\n")
    begun = ctl(live, "memory", "1", "--start")
    assert "traces its memory until --stop" in begun.stdout, begun.stderr
    assert ctl(live, "memory", "1", "--start").returncode == 0, "once more is no failure"
    for rounds in (3, 2):
        for _ in range(rounds):
            get(live, "/leak")
        found = json.loads(ctl(live, "memory", "1", "--top", "5", "--json").stdout)
        first = found["largest"][0]
        assert (pathlib.Path(first["file"]).name, first["line"]) == ("app.py", 5)
        assert found["grown"][0] == first
        assert first["growth_bytes"] == pytest.approx(rounds * 1_000_000, rel=0.01)
    assert first["bytes"] == pytest.approx(5_000_000, rel=0.01)
    text = ctl(live, "memory", "1", "--top", "1").stdout
    assert re.search(r"largest:\nBYTES  GROWTH  BLOCKS  LINE\n +5M +\+0B +\d+  \S*app.py:5\n", text), text
    assert ctl(live, "memory", "1", "--stop").returncode == 0
    assert ctl(live, "memory", "1").returncode == 1
    assert ctl(live, "memory", "1", "--start").returncode == 0, "it may be begun a second time"
    assert ctl(live, "memory", "1", "--top", "51").returncode == 2


def test_a_busy_sync_worker_is_named_with_its_request(server: StartServer) -> None:
    live = server("app:app", "-w", "1", source=LEAKS)
    live.wait_log("Started: 1 worker serves")
    with working(live, "/busy"):
        found = ctl(live, "memory", "1", "--start", "--timeout", "0.3")
        assert found.returncode == 6
        assert re.fullmatch(
            r"wsgiclusterctl: error: Worker 1 \(pid \d+, generation 1\) has not answered within 0.3 s, and runs GET "
            r"/busy for \d+ s; a sync worker answers between two requests: try again, or wait longer with --timeout\n",
            found.stderr,
        )
    wait_until(lambda: ctl(live, "memory", "1").returncode == 0, 20, "what was asked for has been done since")


def test_the_doctor_finds_what_has_happened(server: StartServer) -> None:
    live = server("app:app", "-w", "1", "--max-requests", "50", source=WORKS)
    live.wait_log("Started: 1 worker serves")
    before = json.loads(ctl(live, "doctor", "--json").stdout)
    assert "exits" not in [each["subject"] for each in before["findings"]]
    os.kill(int(ctl(live, "pid", "1").stdout), signal.SIGKILL)
    live.wait_log("Worker 1 .* is ready", count=2)
    found = ctl(live, "doctor")
    assert found.returncode == 1
    *lines, last = found.stdout.splitlines()
    assert last == f"{len(lines)} finding{'s' * (len(lines) != 1)}"
    assert any(line.startswith("exits: since the start, of workers: 1 killed from outside; ") for line in lines), lines
    assert any(line.startswith("max_requests: each worker is replaced after 50 requests") for line in lines), lines


def test_the_full_doctor_runs_the_command_of_the_server(server: StartServer) -> None:
    live = server("app:app", "-w", "1", source=WORKS, environ={"WSGICLUSTER_WORKERS": "1"})
    live.wait_log("Started: 1 worker serves")
    (live.folder / "app.py").write_text("raise LookupError('broken since')\n")
    # As a process, because it starts others that write.
    found = run([sys.executable, "-m", "wsgicluster.ctl", "-n", str(live.pid), "doctor", "--full"])
    assert found.returncode == 1
    assert "broken since" in found.stdout + found.stderr
    assert ctl(live, "health").returncode == 0
