"""Under a service manager: sockets that it passes, news that it hears, and surroundings that it narrows."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.apps import versioned
from tests.conftest import ROOT, StartServer, children_of, wait_until
from tests.live.client import Load, fetch
from tests.live.test_reload import write_app

pytestmark = pytest.mark.live

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: changes the user, or makes a namespace")

PASS_ON = """
import os, socket, sys
port, path, names, pid = sys.argv[1].split(",")
tcp = socket.create_server(("127.0.0.1", int(port)))
local = socket.socket(socket.AF_UNIX)
local.bind(path)
local.listen()
for target, each in ((53, tcp), (54, local)):
    os.dup2(each.fileno(), target, inheritable=False)
os.dup2(53, 3, inheritable=True)
os.dup2(54, 4, inheritable=True)
os.environ.update(LISTEN_FDS="2", LISTEN_FDNAMES=names, LISTEN_PID=pid or str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What a service manager does before it executes a service: a TCP and a Unix socket under the numbers 3 and 4."""

BOOT_WHEN_TOLD = versioned.good().replace(
    "time.sleep(0.0)",
    """
for number in 1, 2, 3:
    try:
        os.mkdir(f"boots-{number}")
    except FileExistsError:
        continue
    while not os.path.exists(f"go-{number}"):
        time.sleep(0.02)
    break
""",
)
"""Each of three workers boots when its file is there."""


class Manager:
    """Hears what a service says, as a service manager does."""

    def __init__(self, path: pathlib.Path) -> None:
        self.ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ear.bind(str(path))
        self.ear.setblocking(False)
        self.heard: list[str] = []

    def hears(self, line: str, count: int = 1) -> bool:
        """Whether a line that begins like this has come so often."""
        with contextlib.suppress(BlockingIOError):  # all is heard
            while True:
                self.heard += self.ear.recv(4096).decode().split("\n")
        return len([each for each in self.heard if each.startswith(line)]) >= count

    def wait(self, line: str, count: int = 1) -> None:
        """Wait for it."""
        wait_until(lambda: self.hears(line, count), 15, f"{count} of {line!r} in {self.heard}")


@pytest.fixture
def manager(tmp_path: pathlib.Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.ear.close()


def passing(port: int, path: pathlib.Path, names: str = "web:local", pid: str = "") -> list[str]:
    """The command that passes two sockets on, before the server's own."""
    return [sys.executable, "-c", PASS_ON, f"{port},{path},{names},{pid}"]


def variables(target: int | pathlib.Path) -> set[str]:
    """The names of the variables that an application sees."""
    return set(json.loads(fetch(target).body)["variables"])


def test_sockets_take_the_place_of_bind(server: StartServer, tmp_path: pathlib.Path, free_port: int) -> None:
    path = tmp_path / "socket"
    live = server("tests.apps.environment", "-w", "1", prefix=passing(free_port, path))
    live.wait_log(rf"Listening at: http://127.0.0.1:{free_port} \(\d+\), passed as web")
    live.wait_log(rf"Listening at: unix:{path} \(\d+\), passed as local")
    live.wait_log("The service manager's sockets take the place of bind")
    assert live.port == free_port
    for target in (free_port, path):
        assert not [name for name in variables(target) if name.startswith("LISTEN_")]
    assert live.stop() == 0
    assert path.exists()  # it is the service manager's


def test_sockets_by_name_and_by_number(server: StartServer, tmp_path: pathlib.Path, free_port: int) -> None:
    path = tmp_path / "socket"
    live = server("tests.apps.environment", bind="fd://local", prefix=passing(free_port, path), listening=False)
    wait_until(lambda: live.said(rf"Listening at: unix:{path} "), 10)
    assert fetch(path).status == 200
    with pytest.raises(ConnectionRefusedError):
        fetch(free_port)
    assert live.stop() == 0

    path.unlink()
    live = server("tests.apps.environment", bind="fd://3", prefix=passing(free_port, path))
    assert (live.port, fetch(free_port).status) == (free_port, 200)
    assert live.stop() == 0

    path.unlink()
    wrong = server("tests.apps.environment", bind="fd://app", prefix=passing(free_port, path), listening=False)
    assert wrong.wait_end() == 1
    assert "cannot listen on fd://app: no socket of that name was passed; there is local, web" in wrong.log()
    assert "Traceback" not in wrong.log()


def test_sockets_for_another_process(server: StartServer, tmp_path: pathlib.Path, free_port: int) -> None:
    live = server("tests.apps.environment", prefix=passing(free_port, tmp_path / "socket", pid="1"))
    assert live.port != free_port
    assert not [name for name in variables(live.port) if name.startswith("LISTEN_")]
    assert live.stop() == 0


def test_news(server: StartServer, manager: Manager, tmp_path: pathlib.Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    source = versioned.good("v1") + "\nimport os\nassert 'NOTIFY_SOCKET' not in os.environ\n"
    live = server("app", "-w", "2", source=source, environ=environ)
    manager.wait("READY=1")
    assert fetch(live.port).status == 200
    manager.wait("STATUS=2 of 2 workers ready, generation 1")
    assert not manager.hears("RELOADING")
    live.send(signal.SIGHUP)
    manager.wait("RELOADING=1")
    manager.wait("READY=1", 2)
    live.wait_log("Generation 2 is healthy and now serving")
    said = manager.heard.index("RELOADING=1")
    assert manager.heard[said + 1].startswith("MONOTONIC_USEC=")
    write_app(live, versioned.RAISES)
    live.send(signal.SIGHUP)
    manager.wait("RELOADING=1", 2)
    manager.wait("READY=1", 3)
    manager.wait("STATUS=2 of 2 workers ready, generation 2")
    # Nothing happens, and still the watchdog hears of us.
    count = len([line for line in manager.heard if line == "WATCHDOG=1"])
    manager.wait("WATCHDOG=1", count + 3)
    assert not manager.hears("STOPPING")
    assert live.stop() == 0
    manager.wait("STOPPING=1")
    assert not manager.hears("READY=1", 4)


def test_an_application_that_cannot_boot_is_never_ready(
    server: StartServer, manager: Manager, tmp_path: pathlib.Path
) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    live = server("app", source=versioned.RAISES, environ=environ, listening=False)
    assert live.wait_end() == 4
    manager.wait("STOPPING=1")
    assert not manager.hears("READY=1")


def test_an_upgrade(server: StartServer, manager: Manager, tmp_path: pathlib.Path, free_port: int) -> None:
    """The new server has the service manager's sockets, and speaks for the service when the old one goes."""
    path = tmp_path / "socket"
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
    live = server("app", "-w", "2", source=versioned.good("v1"), environ=environ, prefix=passing(free_port, path))
    manager.wait("READY=1")
    with Load(free_port) as load:
        write_app(live, versioned.good("v2"))
        live.send(signal.SIGUSR2)
        live.wait_log(r"The new server \(pid \d+\) serves", 15)
        (new,) = [pid for pid in live.children() if children_of(pid)]
        assert not manager.hears("MAINPID")
        assert live.stop() == 0
        manager.wait(f"MAINPID={new}")
        manager.wait("READY=1", 2)
        manager.wait("WATCHDOG=1", manager.heard.count("WATCHDOG=1") + 2)
        wait_until(lambda: "v2" in load.versions(), 10)
    assert load.losses == []
    assert not manager.hears("STOPPING")
    assert fetch(path).body.startswith(b"v2 ")
    os.kill(new, signal.SIGTERM)
    manager.wait("STOPPING=1")
    wait_until(lambda: not live.members(), 10)
    assert path.exists()


def test_ready_with_the_least_that_is_asked_for(server: StartServer, manager: Manager, tmp_path: pathlib.Path) -> None:
    """Not before: the second worker to boot, and the third, wait for a word."""
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    live = server("app", "-w", "3", "--min-ready", "2", source=BOOT_WHEN_TOLD, environ=environ)
    (tmp_path / "go-1").touch()
    manager.wait("STATUS=1 of 3 workers ready")
    assert not manager.hears("READY=1")
    (tmp_path / "go-2").touch()
    manager.wait("READY=1")
    live.wait_log("Started: 2 of 3 workers serve, the others boot")
    (tmp_path / "go-3").touch()
    manager.wait("STATUS=3 of 3 workers ready, generation 1")
    assert not manager.hears("READY=1", 2)


def test_a_stop_with_a_delay_is_told_at_once(server: StartServer, manager: Manager, tmp_path: pathlib.Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    live = server("tests.apps.basic", "--drain-delay", "1h", environ=environ)
    manager.wait("READY=1")
    live.send(signal.SIGTERM)
    manager.wait("STOPPING=1")
    manager.wait("STATUS=about to stop, 1 of 1 worker ready")
    assert fetch(live.port).status == 200
    live.send(signal.SIGUSR2)
    live.wait_log("SIGUSR2 ignored: this server is stopping")
    assert live.stop() == 0
    assert not manager.hears("STOPPING=1", 2)


READ_ALL = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
"""The one privilege that is left: Python itself may lie in the home of whoever runs the tests."""


@AS_ROOT
def test_a_stranger_on_a_read_only_system(server: StartServer) -> None:
    """A random user without a name or a home, and nothing to write to but memory: no word about it."""
    unshare, setpriv = shutil.which("unshare"), shutil.which("setpriv")
    assert unshare, "unshare (util-linux) is needed"
    assert setpriv, "setpriv (util-linux) is needed"
    lock = 'mount -o remount,bind,ro / && exec "$@"'
    become = [setpriv, "--reuid=54321", "--regid=54321", "--clear-groups", *READ_ALL]
    prefix = [unshare, "--mount", "sh", "-c", lock, "sh", *become, "env", "-u", "USER", "HOME=/nonexistent"]
    live = server("tests.apps.environment", "-w", "2", prefix=prefix)
    assert json.loads(fetch(live.port).body)["user"] == 54321
    live.wait_log("Started: 2 workers serve")
    assert "WARNING" not in live.log()
    assert live.stop() == 0

    lock = 'mount -o remount,bind,ro / && mount -o remount,bind,ro /dev/shm && exec "$@"'
    prefix[prefix.index("-c") + 1] = lock
    nowhere = server("tests.apps.environment", prefix=prefix, environ={"TMPDIR": "/"}, listening=False)
    assert nowhere.wait_end() == 1
    assert "worker_tmp_dir: there is no folder to write to; name one that is in memory" in nowhere.log()
    assert "Traceback" not in nowhere.log()


@AS_ROOT
def test_a_shell_as_process_1(server: StartServer) -> None:
    unshare = shutil.which("unshare")
    assert unshare, "unshare (util-linux) is needed"
    shell = ["sh", "-c", '"$@"; exit $?', "sh"]
    live = server("tests.apps.environment", prefix=[unshare, "--pid", "--fork", "--kill-child", "--mount-proc", *shell])
    live.wait_log("WARNING. process 1 is a shell .sh. that does not pass SIGTERM on")
    (first,) = live.children()
    os.kill(children_of(first)[0], signal.SIGTERM)
    assert live.wait_end() == 0


@AS_ROOT
def test_no_new_server_beside_process_1(server: StartServer) -> None:
    unshare = shutil.which("unshare")
    assert unshare, "unshare (util-linux) is needed"
    live = server("tests.apps.environment", prefix=[unshare, "--pid", "--fork", "--kill-child"])
    (arbiter,) = live.children()
    os.kill(arbiter, signal.SIGUSR2)
    live.wait_log("no new server is started: this one is process 1 of a container")
    assert fetch(live.port).status == 200
    os.kill(arbiter, signal.SIGTERM)
    assert live.wait_end() == 0


def test_the_example_units(server: StartServer, tmp_path: pathlib.Path, free_port: int) -> None:
    """They are what systemd understands, and their command line is what the server understands."""
    units = ROOT / "examples" / "systemd"
    service = (units / "wsgicluster.service").read_text("utf-8")
    found = re.search(r"^ExecStart=(\S+)/wsgicluster (.+)$", service, re.MULTILINE)
    assert found
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        folder = tmp_path / "units"
        folder.mkdir()
        shutil.copy(units / "wsgicluster.socket", folder)
        # The program that it names is not on this machine.
        (folder / "wsgicluster.service").write_text(service.replace(f"{found[1]}/wsgicluster", sys.executable))
        verify = [analyze, "verify", f"{folder}/wsgicluster.service", f"{folder}/wsgicluster.socket"]
        shown = subprocess.run(verify, capture_output=True, text=True, check=False)
        # It may also have something to say about units of this machine.
        assert (shown.returncode, "wsgicluster" in shown.stdout + shown.stderr) == (0, False), shown.stderr
    path = tmp_path / "socket"
    arguments = ["--chdir", str(ROOT / "examples"), *found[2].split()]
    live = server(*arguments, bind=None, prefix=passing(free_port, path, "web:web"))
    assert fetch(free_port).body == fetch(path).body == b"Hello, world!\n"
    assert live.stop() == 0
