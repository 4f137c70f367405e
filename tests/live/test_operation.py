"""The surroundings of a server: logs, sockets, users, exhausted descriptors, being the first process."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys

import pytest
import requests

from tests.apps import versioned
from tests.conftest import StartServer, children_of, wait_until
from tests.live.client import Connection, Load, fetch

pytestmark = pytest.mark.live

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: changes the user, or makes a namespace")


def test_logs_are_reopened(server: StartServer, tmp_path: pathlib.Path) -> None:
    error, access = tmp_path / "error.log", tmp_path / "access.log"
    live = server(
        "tests.apps.basic", "-w", "2", "--error-logfile", str(error), "--access-logfile", str(access), listening=False
    )
    live.log_path = error
    live.wait_listening()
    assert fetch(live.port, "/before").status == 200
    wait_until(lambda: "/before" in access.read_text(), 5)
    port = live.port
    error.rename(tmp_path / "error.old")
    access.rename(tmp_path / "access.old")
    live.send(signal.SIGUSR1)
    wait_until(lambda: error.exists() and access.exists(), 5)

    def in_new_file() -> bool:
        assert fetch(port, "/after").status == 200
        return "/after" in access.read_text()

    wait_until(in_new_file, 5)
    assert fetch(port, "/raise").status == 500
    wait_until(lambda: "the application's own mistake" in error.read_text(), 5)
    assert live.stop() == 0


def test_log_that_cannot_be_reopened(server: StartServer, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    error = folder / "error.log"
    live = server("tests.apps.basic", "-w", "2", "--error-logfile", str(error), listening=False)
    live.log_path = error
    live.wait_listening()
    port = live.port
    workers = set(live.wait_workers(2))
    live.log_path = tmp_path / "moved" / "error.log"
    folder.rename(tmp_path / "moved")
    live.send(signal.SIGUSR1)
    live.wait_log("error.log", 5)  # the old file goes on and says which one could not be opened
    assert fetch(port).status == 200
    assert set(live.children()) == workers


def test_log_on_a_full_disk(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "1", "--access-logfile", "/dev/full")
    for _ in range(5):
        assert fetch(live.port).status == 200
    live.send(signal.SIGUSR1)
    for _ in range(5):
        assert fetch(live.port).status == 200
    assert len(live.children()) == 1


def test_log_that_cannot_be_opened_at_start(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("tests.apps.basic", "--error-logfile", str(tmp_path / "none" / "error.log"), listening=False)
    assert live.wait_end() == 1
    assert "error.log" in live.log()
    assert "Traceback" not in live.log()


def test_access_log_line(server: StartServer, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "access.log"
    shape = '%(m)s %(U)s %(q)s %(s)s %(B)s "%(a)s"'
    live = server("tests.apps.basic", "--access-logfile", str(path), "--access-logformat", shape)
    requests.get(f"{live.url}/some/where?x=1", headers={"User-Agent": 'evil"agent'}, timeout=10)
    wait_until(lambda: path.read_text().endswith("\n"), 5)
    line = path.read_text().splitlines()[0]
    assert line.startswith("GET /some/where x=1 200 ")
    assert line.count('"') - line.count('\\"') <= 2


def test_unix_socket(server: StartServer, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "server.sock"
    live = server("tests.apps.basic", bind=f"unix:{path},mode=0600")
    wait_until(path.exists, 5)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert fetch(path).status == 200
    environ = json.loads(fetch(path, "/environ").body)
    assert environ["REMOTE_ADDR"] == ""
    live.stop()
    assert not path.exists()


def test_unix_socket_of_a_dead_server_is_taken_over(server: StartServer, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "server.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    live = server("tests.apps.basic", bind=f"unix:{path}")
    wait_until(lambda: live.said("Listening"), 5)
    assert fetch(path).status == 200
    second = server("tests.apps.basic", bind=f"unix:{path}", listening=False)
    assert second.wait_end() == 1
    assert str(path) in second.log()
    assert fetch(path).status == 200


def test_several_addresses(server: StartServer, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "server.sock"
    live = server("tests.apps.basic", "-b", f"unix:{path}")
    assert fetch(live.port).status == 200
    assert fetch(path).status == 200


def test_inherited_descriptor(server: StartServer, free_port: int) -> None:
    """(Node 37)"""
    listen = (
        "import os, socket, sys\n"
        f"listener = socket.create_server(('127.0.0.1', {free_port}))\n"
        "os.dup2(listener.fileno(), 9, inheritable=True)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    live = server("tests.apps.basic", bind="fd://9", prefix=[sys.executable, "-c", listen])
    assert fetch(free_port).status == 200
    assert live.stop() == 0


@AS_ROOT
def test_no_privilege_is_kept(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("tests.apps.basic", "-w", "1", "-u", "nobody", "-g", "nogroup")
    assert fetch(live.port).status == 200
    status = pathlib.Path(f"/proc/{live.children()[0]}/status").read_text()
    fields = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines() if ":" in line}
    assert len(set(fields["Uid"])) == 1
    assert fields["Uid"][0] != "0"
    assert "0" not in fields["Gid"]
    assert "0" not in fields["Groups"]
    assert int(fields["CapEff"][0], 16) == 0
    assert live.stop() == 0


def test_exhausted_descriptors(server: StartServer) -> None:
    """Accepting pauses, is said once, and recovers. (Node 39)"""
    prlimit = shutil.which("prlimit")
    assert prlimit, "prlimit (util-linux) is needed"
    live = server("tests.apps.basic", "-w", "1", prefix=[prlimit, "--nofile=64:64"])
    assert fetch(live.port).status == 200
    with contextlib.ExitStack() as crowd:
        for _ in range(120):
            crowd.enter_context(Connection(live.port))
        live.wait_log("(?i)descriptors|too many open files", 10)
    # They are gone, so there is room again.
    wait_until(lambda: fetch(live.port).status == 200, 10)
    assert len([line for line in live.log().splitlines() if "descriptor" in line.lower()]) <= 4
    assert len(live.children()) == 1


@AS_ROOT
def test_as_the_first_process(server: StartServer) -> None:
    """As PID 1 of a container: strangers' orphans are reaped, TERM ends the server."""
    unshare = shutil.which("unshare")
    assert unshare, "unshare (util-linux) is needed"
    source = versioned.good() + (
        "\n\nORDINARY = application\n\n\n"
        "def application(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/orphan':\n"
        "        import subprocess\n"
        "        subprocess.run(['sh', '-c', 'sleep 0.3 & exit 0'], check=True, close_fds=True)\n"
        "    return ORDINARY(environ, start_response)\n"
    )
    live = server("app", "-w", "2", source=source, prefix=[unshare, "--pid", "--fork", "--kill-child"])
    (arbiter,) = live.children()
    wait_until(lambda: len(children_of(arbiter)) == 2, 10)
    assert fetch(live.port, "/orphan").status == 200
    wait_until(lambda: not children_of(arbiter, zombies=True) and len(children_of(arbiter)) == 2, 10, "no zombie")
    with Load(live.port) as load:
        os.kill(arbiter, signal.SIGHUP)
        wait_until(lambda: len(load.pids()) >= 3, 10, "a reload")
    assert load.losses == []
    os.kill(arbiter, signal.SIGTERM)
    assert live.wait_end(10) == 0


def test_module_and_console_script_agree(server: StartServer, tmp_path: pathlib.Path) -> None:
    script = pathlib.Path(sys.executable).with_name("wsgicluster")
    if not script.exists():
        pytest.skip(f"{script} is not there: wsgicluster is not installed in this environment")
    live = server("--version", bind=None, listening=False)
    assert live.wait_end() == 0
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert shown.stdout in live.log()
