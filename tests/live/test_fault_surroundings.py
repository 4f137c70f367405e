"""Bad luck of the surroundings: no descriptors for the arbiter, full folders, lost log readers, broken files, users."""

import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess

import pytest

from tests.apps import versioned
from tests.conftest import StartServer, descriptors_of, steady_descriptors, wait_until
from tests.live.client import Connection, fetch

pytestmark = pytest.mark.live

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: changes the user, or makes a namespace")


def test_arbiter_without_descriptors(server: StartServer) -> None:
    """Workers could not be started: said with each wait, and recovered from by itself."""
    live = server("tests.apps.basic", "-w", "2")
    live.wait_log("2 workers serve")
    plenty = resource.prlimit(live.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(live.pid, resource.RLIMIT_NOFILE, (steady_descriptors(live.pid) - 4, plenty[1]))
    for pid in live.children():
        os.kill(pid, signal.SIGKILL)
    live.wait_log("could not be started .Too many open files., next try in", 5, count=4)
    live.send(signal.SIGUSR1)
    live.wait_log("SIGUSR1", 5)
    resource.prlimit(live.pid, resource.RLIMIT_NOFILE, plenty)
    live.wait_log("All 2 workers serve again", 15)
    assert fetch(live.port).status == 200
    assert "internal error" not in live.log()


def test_crowd_of_idle_clients(server: StartServer) -> None:
    """They cost neither an answer to others nor, in a reload, their own connection."""
    crowd_size = 400
    live = server("tests.apps.basic", "-w", "2")
    live.wait_log("2 workers serve")
    crowd = [Connection(live.port) for _ in range(crowd_size)]
    try:
        assert fetch(live.port).status == 200
        live.send(signal.SIGHUP)
        live.wait_log("Reload complete", 10)
        for client in crowd:
            client.ask()
        assert [client.response().status for client in crowd] == [200] * crowd_size
    finally:
        for client in crowd:
            client.close()
    assert live.stop() == 0


@AS_ROOT
def test_full_folders(server: StartServer, tmp_path: pathlib.Path) -> None:
    """A heartbeat folder and an upload folder without room: said, survived, and recovered from."""
    small = tmp_path / "small"
    small.mkdir()
    (tmp_path / "c.py").write_text(f"tmp_upload_dir = worker_tmp_dir = {str(small)!r}\n", "utf-8")
    inside = f'mount -t tmpfs -o size=64k small {small} && exec "$@"'
    prefix = [shutil.which("unshare") or "unshare", "--mount", "sh", "-c", inside, "sh"]
    live = server("tests.apps.basic", "-w", "1", "-c", "c.py", prefix=prefix)
    live.wait_log("1 worker serves")
    with Connection(live.port) as client:
        answer = client.exchange("/echo", "POST", bytes(1_100_000))
        assert answer.status == 503
        assert b"tmp_upload_dir" in answer.body
    with Connection(live.port) as slow:
        slow.ask("/blocks/200")
        live.wait_log("cannot keep a response in .*tmp_upload_dir", 5)
    assert fetch(live.port).status == 200
    fill = pathlib.Path(f"/proc/{live.pid}/root{small}/fill")
    subprocess.run(["dd", "if=/dev/zero", f"of={fill}", "bs=4096"], stderr=subprocess.DEVNULL, check=False)
    live.send(signal.SIGTTIN)
    live.wait_log("Worker 2 could not be started .worker_tmp_dir: no room", 5)
    assert fetch(live.port).status == 200
    fill.unlink()
    live.wait_log("Worker 2 .* is ready", 10)
    assert live.stop() == 0


@pytest.mark.parametrize("folder", ["/proc", "/nonexistent"])
def test_heartbeat_folder_that_cannot_be_used(server: StartServer, folder: str) -> None:
    live = server("tests.apps.basic", "--worker-tmp-dir", folder, listening=False)
    assert live.wait_end() in (1, 2)
    assert "worker_tmp_dir" in live.log().splitlines()[-1]


def test_log_reader_that_never_reads(server: StartServer, tmp_path: pathlib.Path) -> None:
    """A pipe that is full costs lines, and how many is said; a pipe that is closed costs all, and no process."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    plug = f"/proc/{os.getpid()}/fd/{writer}"
    inside = f'exec "$@" 3> {plug}'
    live = server("tests.apps.basic", "--access-logfile", "/dev/fd/3", prefix=["sh", "-c", inside, "sh"])
    os.close(writer)
    live.wait_log("1 worker serves")
    long = "/" + "x" * 4000
    for _ in range(40):
        assert fetch(live.port, long).status == 200
    assert os.read(reader, 1 << 20)
    assert fetch(live.port).status == 200
    live.wait_log("lines could not be written to the access log", 5)
    os.close(reader)
    for _ in range(3):
        assert fetch(live.port).status == 200
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete|Reload aborted", 10)
    assert fetch(live.port).status == 200
    assert live.stop() == 0


BROKEN = {
    "syntax": ("def (", "SyntaxError"),
    "unknown": ("wrokers = 1; strict = True", "did you mean workers"),
    "value": ("workers = -1", "expected a number from 1"),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "generator": ("raise GeneratorExit", "GeneratorExit"),
    "exit": ("import sys; sys.exit(1)", "SystemExit"),
    "raises": ("1 / 0", "ZeroDivisionError"),
    "log": ("errorlog = '/nonexistent/x'", "cannot open the log"),
    "user": ("user = 'no-such-user'", "no-such-user"),
    "folder": ("chdir = '/nonexistent'", "expected a folder that exists"),
    "handler": ("logconfig_dict = {'handlers': {'x': {'class': 'nope'}}}", "logconfig_dict"),
    "format": ("access_log_format = '%(q'", "access_log_format"),
}


def test_broken_configuration_changes_nothing(server: StartServer, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "c.py"
    file.write_text("workers = 2\n", "utf-8")
    live = server("tests.apps.basic", "-c", "c.py")
    live.wait_log("2 workers serve")
    workers = live.children()
    for count, (text, says) in enumerate(BROKEN.values(), 1):
        file.write_text(text, "utf-8")
        live.send(signal.SIGHUP)
        live.wait_log("Reload aborted: .*; the present settings stay in force", 5, count=count)
        assert says in live.log().splitlines()[-1]
    file.unlink()
    live.send(signal.SIGHUP)
    live.wait_log("c.py: cannot be read", 5)
    assert live.children() == workers
    assert fetch(live.port).status == 200
    file.write_text("workers = 3\nbind = '127.0.0.1:1'\n", "utf-8")
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete: 3 workers serve", 10)


def test_development_reload_waits_for_better_code(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("app", "-w", "1", "--reload", source="def (\n")
    live.wait_log("Waiting for a source file to change", 5)
    wait_until(lambda: b"SyntaxError" in fetch(live.port).body, 5, "the error is shown")
    (tmp_path / "app.py").write_text(versioned.good(), "utf-8")
    wait_until(lambda: fetch(live.port).status == 200, 8, "the new code")
    (tmp_path / "app.py").write_text("1 / 0\n", "utf-8")
    wait_until(lambda: b"ZeroDivisionError" in fetch(live.port).body, 8, "the new error")
    assert live.stop() == 0


def test_development_reload_of_a_preloaded_application_waits_too(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("app", "-w", "1", "--reload", "--preload", source="def (\n")
    live.wait_log("preload_app: turned off, because", 5)
    live.wait_log("Waiting for a source file to change", 5)
    (tmp_path / "app.py").write_text(versioned.good(), "utf-8")
    wait_until(lambda: fetch(live.port).status == 200, 8, "the new code")


def test_captured_output_stays_where_it_is(server: StartServer, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "c.py"
    file.write_text("capture_output = True\nerrorlog = 'log'\n", "utf-8")
    live = server("tests.apps.basic", "-c", "c.py", listening=False)
    log = tmp_path / "log"
    wait_until(lambda: log.exists() and " serve" in log.read_text(), 10, "the server in its log")
    file.write_text("capture_output = False\nerrorlog = '-'\n", "utf-8")
    live.send(signal.SIGHUP)
    wait_until(lambda: "Reload complete" in log.read_text(), 10, "the reload")
    for name in ("errorlog", "capture_output"):
        assert f"{name} has changed, which needs a restart" in log.read_text()
    assert live.log() == ""


def test_text_printed_by_the_configuration_appears_once(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "c.py").write_text("print('from the configuration')\n", "utf-8")
    live = server("tests.apps.basic", "-w", "3", "-c", "c.py", environ={"PYTHONUNBUFFERED": ""})
    live.wait_log("3 workers serve")
    assert live.stop() == 0
    assert live.log().count("from the configuration") == 1


LONG_ERROR = "raise RuntimeError('\N{GRINNING FACE}' * 20_000 + ' is the end')\n"


@pytest.mark.parametrize("extra", [(), ("--preload",)], ids=["each", "preload"])
def test_report_of_a_failure_that_is_very_long(server: StartServer, extra: tuple[str, ...]) -> None:
    live = server("app", *extra, source=LONG_ERROR, listening=False)
    assert live.wait_end() == 4
    assert "is the end" in live.log()
    assert "exit code 4" in live.log()


@pytest.mark.parametrize("extra", [(), ("--preload",)], ids=["each", "preload"])
def test_application_that_leaves_while_it_is_loaded(server: StartServer, extra: tuple[str, ...]) -> None:
    """No worker ever serves: an exit code of 0 makes it no better."""
    live = server("app", "-w", "2", *extra, source="import os\nos._exit(0)\n", listening=False)
    assert live.wait_end() == 3
    assert "No worker has ever booted" in live.log()


@AS_ROOT
def test_workers_of_another_user(server: StartServer, tmp_path: pathlib.Path) -> None:
    """The user alone is enough, and whatever rotates the logs for root does not stop them from being opened."""
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == 0 and folder != pathlib.Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    nobody = pwd.getpwnam("nobody")
    source = (
        "import os\n"
        + versioned.good()
        + (
            "\n\ndef who(environ, start_response):\n"
            "    start_response('200 OK', [])\n"
            "    return [f'{os.getuid()} {os.getgid()}'.encode()]\n"
        )
    )
    live = server("app:who", "-w", "2", "-u", "nobody", "--error-logfile", "log", source=source, listening=False)
    log = tmp_path / "log"
    wait_until(lambda: log.exists() and "2 workers serve" in log.read_text(), 10, "the server in its log")
    port = int(re.findall(r"Listening at: http://127.0.0.1:(\d+)", log.read_text())[0])
    assert fetch(port).body == f"{nobody.pw_uid} {nobody.pw_gid}".encode()
    log.rename(tmp_path / "log.1")
    log.touch()
    log.chmod(0o640)
    live.send(signal.SIGUSR1)
    wait_until(lambda: log.stat().st_uid == nobody.pw_uid, 5, "the file belongs to the workers")

    def all_write_there() -> bool:
        links = {number: os.readlink(f"/proc/{pid}/fd/{number}") for pid in live.children() for number in log_numbers}
        return set(links.values()) == {str(log)}

    log_numbers = [number for number, place in descriptors_of(live.pid).items() if place == str(log)]
    assert log_numbers
    wait_until(all_write_there, 5, "the workers have opened the new file")
    assert "cannot open the log" not in log.read_text() + (tmp_path / "log.1").read_text()
    assert live.stop() == 0


def test_address_in_use_leaves_no_other_address_behind(server: StartServer, tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        live = server("tests.apps.basic", "-b", f"127.0.0.1:{port}", bind="unix:socket", listening=False)
        assert live.wait_end() == 1
    assert f"127.0.0.1:{port}: the address is in use by process {os.getpid()}" in live.log()
    assert not (tmp_path / "socket").exists()


def test_killed_arbiter_can_be_started_anew_at_once(server: StartServer) -> None:
    """Its workers still hold the address, and its pid file and socket file are there."""
    live = server("tests.apps.basic", "-w", "2", "-p", "pid", "-b", "unix:socket")
    live.wait_log("2 workers serve")
    live.send(signal.SIGKILL)
    again = server("tests.apps.basic", "-p", "pid", "-b", "unix:socket", bind=f"127.0.0.1:{live.port}")
    again.wait_log("workers? serves?")
    assert fetch(again.port).status == 200


@AS_ROOT
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_first_process_ends_when_asked(server: StartServer, number: signal.Signals) -> None:
    prefix = [shutil.which("unshare") or "unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    live = server("tests.apps.basic", "-w", "2", prefix=prefix)
    live.wait_log("2 workers serve")
    (arbiter,) = live.children()
    os.kill(arbiter, number)
    assert live.wait_end(5) == 0
