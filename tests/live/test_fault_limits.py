"""Nothing left to be had: processes, descriptors, room on disks and in memory; and clocks that jump."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import LiveServer, StartServer, has_at_most, steady_descriptors, wait_until
from tests.live.client import Connection, fetch

pytestmark = pytest.mark.live

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: becomes another user, or makes a namespace")
STRANGER = 54321
"""A user that nobody is, so that no process but the server's counts for its limit."""

GREEDY = """
import os
from tests.apps.basic import application

held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    for number in held[-2:]:
        os.close(number)
"""
OPENS_FILES = """
from tests.apps.basic import application as basic


def application(environ, start_response):
    files = [open("/dev/null") for _ in range(4)]
    try:
        return basic(environ, start_response)
    finally:
        for file in files:
            file.close()
"""
HEAD = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n"
CROWDS = {
    "nothing": b"",
    "half a head": HEAD,
    "half a body": HEAD + b"\r\nhalf",
    "a request": HEAD + b"\r\n123456789",
}
"""What clients have sent before they stay, by name."""

JUMPING_CLOCK = """
import os
import time

real = time.time


def jumping():
    try:
        with open(os.environ["CLOCK_OFFSET"]) as file:
            return real() + float(file.read() or 0)
    except OSError:
        return real()


time.time = jumping
"""


def open_to_all(folder: pathlib.Path) -> None:
    """Let another user in."""
    for each in [folder, *folder.parents]:
        if each.stat().st_uid == 0 and each != pathlib.Path("/"):
            each.chmod(each.stat().st_mode | 0o055)


def mounted(command: str) -> list[str]:
    """What starts a server with file systems of its own."""
    return [shutil.which("unshare") or "unshare", "--mount", "sh", "-c", f'{command} && exec "$@"', "sh"]


def processes_of(live: LiveServer, role: str) -> list[int]:
    """The children with this title."""
    found = []
    for pid in live.children():
        if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"wsgicluster: {role} ".encode()):
            found.append(pid)
    return found


@AS_ROOT
@pytest.mark.parametrize("extra", [(), ("--preload",)], ids=["each", "preload"])
def test_no_process_to_be_had(server: StartServer, tmp_path: pathlib.Path, extra: tuple[str, ...]) -> None:
    """Said with each wait, the others go on, and it is over as soon as there are processes again."""
    open_to_all(tmp_path)
    as_stranger = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    live = server("tests.apps.basic", "-w", "2", *extra, prefix=as_stranger)
    live.wait_log("2 workers serve")
    (parent,) = processes_of(live, "mold") if extra else [live.pid]

    def limit(count: str) -> None:
        subprocess.run([*as_stranger, "prlimit", f"--pid={parent}", f"--nproc={count}:"], check=True)

    limit("1")
    os.kill(processes_of(live, "worker")[0], signal.SIGKILL)
    reason = "its mold could not fork it" if extra else "Resource temporarily unavailable"
    for wait in ("0.5", "1"):
        live.wait_log(f"could not be started .{reason}., next try in {wait} s; degraded: 1 of 2 workers serve")
    assert fetch(live.port).status == 200
    limit("100")
    live.wait_log("All 2 workers serve again", 15)
    assert "internal error" not in live.log()
    assert live.stop() == 0


def test_application_that_holds_all_descriptors_when_it_is_preloaded(server: StartServer) -> None:
    live = server("app", "-w", "1", "--preload", source=GREEDY, prefix=("prlimit", "--nofile=64:64"))
    live.wait_log("Mold: cannot fork: Too many open files", count=2)
    live.wait_log(
        "Worker 1 could not be started .its mold could not fork it., next try in 1 s; degraded: 0 of 1 worker serves"
    )
    assert "Traceback" not in live.log()
    assert live.stop() == 0
    assert live.members() == []


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_a_mold_takes_as_many_orders_together_as_it_has_descriptors_for(server: StartServer, kind: str) -> None:
    """The application has most of them."""
    held = "import os\nheld = [os.open('/dev/null', os.O_RDONLY) for _ in range(100)]\n"
    source = held + "from tests.apps.basic import application\n"
    live = server("app", "-w", "24", "-k", kind, "--preload", source=source, prefix=("prlimit", "--nofile=256:256"))
    live.wait_log("Started: 24 workers")
    assert not live.said("cannot fork"), live.log()


@AS_ROOT
def test_full_disk_under_logs_and_pid_file(server: StartServer, tmp_path: pathlib.Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    logs = ["--error-logfile", f"{small}/error", "--access-logfile", f"{small}/access"]
    mount = f"mount -t tmpfs -o size=64k small {small}"
    live = server("tests.apps.basic", "-w", "1", "-p", f"{small}/pid", *logs, prefix=mounted(mount), listening=False)
    inside = pathlib.Path(f"/proc/{live.pid}/root{small}")
    said = inside / "error"
    wait_until(lambda: said.exists() and "1 worker serves" in said.read_text(), 10, "the server in its log")
    (port,) = map(int, re.findall(r"Listening at: http://127\.0\.0\.1:(\d+)", said.read_text()))
    subprocess.run(["dd", "if=/dev/zero", f"of={inside}/fill", "bs=4096"], stderr=subprocess.DEVNULL, check=False)
    for _ in range(50):
        assert fetch(port, "/" + "x" * 100).status == 200

    def complain() -> bool:
        live.send(signal.SIGTTOU)
        return said.stat().st_size % 4096 == 0

    wait_until(complain, 10, "no room for another line")
    (before,) = live.children()
    live.send(signal.SIGUSR1)
    live.send(signal.SIGHUP)
    wait_until(lambda: live.children() not in ([], [before]) and before not in live.children(), 10, "a reload")
    for _ in range(5):
        assert fetch(port).status == 200
    (inside / "fill").unlink()
    assert fetch(port).status == 200
    live.send(signal.SIGTTIN)
    wait_until(lambda: re.search(r"\d+ lines could not be written to .* and are lost", said.read_text()), 10)
    wait_until(lambda: "lines could not be written to the access log" in said.read_text(), 10)
    assert (inside / "pid").read_text() == f"{live.pid}\n"
    assert live.stop() == 0


@AS_ROOT
def test_start_on_a_full_disk(server: StartServer, tmp_path: pathlib.Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=4k small {small} && (dd if=/dev/zero of={small}/fill 2>/dev/null; true)"
    live = server("tests.apps.basic", "-p", f"{small}/pid", prefix=mounted(mount), listening=False)
    assert live.wait_end() == 1
    assert f"pidfile: cannot write {small}/pid: No space left on device" in live.log().splitlines()[-1]


@AS_ROOT
@pytest.mark.parametrize(
    ("mount", "says"),
    [
        ("mount -t tmpfs -o ro none /dev/shm", "is on a disk"),
        (
            "mount -t tmpfs -o size=4k none /dev/shm && (dd if=/dev/zero of=/dev/shm/fill 2>/dev/null; true)",
            "No space left on device.* is used instead",
        ),
        ("mount -t tmpfs -o size=4k none /dev/shm", "No space left on device.* is used instead"),
    ],
    ids=["read-only", "full", "too small for the workers"],
)
def test_shared_memory_that_cannot_be_used(server: StartServer, mount: str, says: str) -> None:
    """The server takes the next best place, and says so where it costs something."""
    live = server("tests.apps.basic", "-w", "1", prefix=mounted(mount))
    live.wait_log("1 worker serves")
    assert re.search(f"worker_tmp_dir: .*{says}", live.log()) or not _on_disk("/tmp")
    assert fetch(live.port).status == 200
    assert live.stop() == 0


def _on_disk(folder: str) -> bool:
    return subprocess.check_output(["stat", "-f", "-c", "%T", folder], text=True).strip() != "tmpfs"


@pytest.mark.parametrize("pure", ["", "1"], ids=["compiled", "plain"])
def test_a_clock_that_is_set_back_and_forth(server: StartServer, tmp_path: pathlib.Path, pure: str) -> None:
    """No wait, deadline or duration is taken with the clock on the wall."""
    (tmp_path / "sitecustomize.py").write_text(JUMPING_CLOCK)
    offset = tmp_path / "offset"
    paths = f"{tmp_path}:{pathlib.Path(__file__).parents[2]}"
    environ = {"CLOCK_OFFSET": str(offset), "PYTHONPATH": paths, "WSGICLUSTER_PURE": pure}
    access = ["--access-logfile", "access", "--access-logformat", "%(D)s %(t)s %(U)s"]
    live = server("tests.apps.basic", "-w", "2", "-t", "2", *access, environ=environ)
    live.wait_log("2 workers serve")
    workers = live.children()
    for jump in (-86_400, 86_400, -30, 3600):
        offset.write_text(str(jump))
        assert fetch(live.port, "/slow/0.1").status == 200
    log = tmp_path / "access"
    wait_until(lambda: len(log.read_text().splitlines()) == 4, 5)
    durations = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert all(100_000 <= microseconds < 30_000_000 for microseconds in durations), "none has a jump in it"
    assert len({line.split()[1].partition(":")[0] for line in log.read_text().splitlines()}) >= 2, "the clock jumped"
    assert live.children() == workers
    os.kill(workers[0], signal.SIGKILL)
    live.wait_log("All 2 workers serve again")
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete")
    assert "timeout" not in live.log()
    assert live.stop() == 0


@contextlib.contextmanager
def crowd_of(live: LiveServer, count: int, sent: bytes) -> Iterator[None]:
    """So many clients who send this, and stay."""
    with contextlib.ExitStack() as crowd:
        for _ in range(count):
            crowd.enter_context(socket.create_connection(("127.0.0.1", live.port))).sendall(sent)
        yield


@pytest.mark.parametrize(
    ("kind", "pure", "names"),
    [
        (("-k", "sync"), "", ["half a head", "a request", "half a head"]),
        (("-k", "sync"), "1", ["half a head", "nothing"]),
        (("-k", "gthread", "--threads", "2"), "", ["half a head", "a request", "half a body"]),
        (("-k", "gevent"), "", ["half a head", "a request", "nothing"]),
        (("-k", "sync", "--preload"), "", ["half a body"]),
    ],
)
def test_silent_clients_that_hold_all_descriptors_make_room(
    server: StartServer, kind: tuple[str, ...], pure: str, names: list[str]
) -> None:
    """Those who speak are served, with files of the application to open, and nothing is left behind."""
    patient = ["--keep-alive", "60", "--head-timeout", "60", "--body-timeout", "60", "--graceful-timeout", "2"]
    live = server(
        "app", "-w", "2", *kind, *patient, source=OPENS_FILES, environ={"WSGICLUSTER_PURE": pure},
        prefix=("prlimit", "--nofile=80:80"),
    )  # fmt: skip
    live.wait_log("2 workers serve")
    workers = processes_of(live, "worker")
    assert fetch(live.port).status == 200
    # The thread beside a sync worker's own opens an epoll and an eventfd when clients might first have to wait.
    before = [steady_descriptors(pid) + 2 * ("sync" in kind) for pid in workers]
    for name in names:
        with crowd_of(live, 160, CROWDS[name]):
            assert [fetch(live.port).status for _ in range(5)] == [200] * 5, name
        wait_until(
            lambda: all(has_at_most(pid, most) for pid, most in zip(workers, before, strict=True)),
            10, "as many descriptors as before",
        )  # fmt: skip
    assert processes_of(live, "worker") == workers
    live.wait_log(r"worker \d: closed \d+ connections that were silent .*, the longest first, to make room")
    assert len(re.findall("the longest first", live.log())) <= 4 * len(names)
    assert "Traceback" not in live.log()
    assert live.stop() == 0


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_connections_are_handed_to_a_worker_that_has_no_descriptor_left(server: StartServer, kind: str) -> None:
    """They wait until it has one: each client that has been kept has its next request answered."""
    patient = ["-w", "2", "-k", kind, "--keep-alive", "60"]
    live = server("tests.apps.basic", *patient, prefix=("prlimit", "--nofile=68:68"))
    live.wait_log("2 workers serve")
    clients: list[Connection] = []
    try:
        while len(clients) < 66:
            client = Connection(live.port, 20)
            clients.append(client)
            if client.exchange().closes:
                clients.pop().close()
        live.send(signal.SIGTTOU)
        live.wait_log("SIGTTOU: 1 worker")
        for client in clients:
            client.ask()
        assert [client.response().status for client in clients] == [200] * len(clients)
    finally:
        for client in clients:
            client.close()
    assert "lost" not in live.log()
    assert live.stop() == 0


@AS_ROOT
def test_metrics_of_an_application_that_have_no_room(server: StartServer, tmp_path: pathlib.Path) -> None:
    """What does not fit is not shown; a store into a file without room would end the worker with SIGBUS."""
    pytest.importorskip("prometheus_client", reason="--app-metrics needs prometheus-client")
    small = tmp_path / "small"
    small.mkdir()
    source = """
from prometheus_client import Counter
SEEN = Counter("seen", "x" * 2000, ["number"])
numbers = iter(range(10**9))
def app(environ, start_response):
    for _ in range(10):
        SEEN.labels(str(next(numbers))).inc()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
    live = server("app:app", "-w", "1", "--app-metrics", "--worker-tmp-dir", str(small), source=source,
                  prefix=mounted(f"mount -t tmpfs -o size=128k small {small}"))  # fmt: skip
    live.wait_log("1 worker serves")
    (before,) = live.children()
    for _ in range(20):
        assert fetch(live.port).status == 200
    assert live.children() == [before]
    assert (
        len(re.findall(f"app_metrics: no room in {small}/.*; new metrics of pid {before} are not shown", live.log()))
        == 1
    )
    assert live.stop() == 0
