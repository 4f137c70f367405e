"""Deaths of workers, and what the log says of each: cause, request, place, cost."""

import contextlib
import os
import pathlib
import signal
import time

import pytest

from tests.apps import versioned
from tests.conftest import StartServer, wait_until
from tests.live.client import BrokenResponse, Connection, fetch

pytestmark = pytest.mark.live

DEADLY = (
    versioned.good()
    + """

ORDINARY = application


def hit(number):
    import signal
    # For this thread: the main one could let it go on for a moment, and finish the request.
    signal.raise_signal(number)


def close_the_loop_s_own_descriptor():
    import os
    with os.scandir("/proc/self/fd") as found:  # which is there, too, while its entries are read
        loop = next(int(each.name) for each in found if "eventpoll" in os.readlink(each.path))
    os.close(loop)


def application(environ, start_response):
    name, _, argument = environ["PATH_INFO"].lstrip("/").partition("/")
    if name == "signal":
        hit(int(argument))
    elif name == "close":
        close_the_loop_s_own_descriptor()
    elif name == "exit":
        import os
        os._exit(int(argument))
    elif name == "exit-later":
        import os, threading
        threading.Timer(0.02, os._exit, [int(argument)]).start()
    elif name == "eat":
        eaten = []
        while True:
            eaten.append(b"x" * 1_000_000)
    return ORDINARY(environ, start_response)
"""
)
MEMORY = pathlib.Path("/sys/fs/cgroup/memory")
OUT_OF_MEMORY = (
    "was killed by the kernel: out of memory: signal SIGKILL, up .* peak memory .* in GET /eat HTTP/1.1 from"
)


def ask_for_death(port: int, path: str) -> None:
    with contextlib.suppress(BrokenResponse, OSError):  # its worker dies of it
        fetch(port, path)


@pytest.mark.parametrize("extra", [(), ("--preload",)], ids=["each", "preload"])
def test_a_crash_in_c_code_names_the_line_of_python(server: StartServer, extra: tuple[str, ...]) -> None:
    live = server("app", "-w", "1", *extra, source=DEADLY)
    live.wait_log("1 worker serves")
    ask_for_death(live.port, f"/signal/{int(signal.SIGSEGV)}")
    live.wait_log(
        r"Worker 1 .* crashed: signal SIGSEGV.*, up .*, \d+ requests? served, peak memory .* MiB, "
        r"processor time .*, in GET /signal/11 HTTP/1.1 from 127\.0\.0\.1:\d+ for .*\n"
        r"Fatal Python error: Segmentation fault\n+Current thread .*\n"
        r'  File ".*/app\.py", line \d+ in hit\n'
    )
    live.wait_log("The worker serves again")
    assert live.log().count("Fatal Python error") == 1
    assert "Extension modules" not in live.log()


def test_a_fault_in_the_server_s_own_code_is_one_record(server: StartServer) -> None:
    live = server("app", "-w", "1", source=DEADLY)
    live.wait_log("1 worker serves")
    fetch(live.port, "/close")
    live.wait_log(
        r"crashed: exit code 3 \(OSError: \[Errno 9\] Bad file descriptor\), .*no request in progress\nTraceb"
    )
    live.wait_log("The worker serves again")
    assert "internal error" not in live.log()


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_a_stopped_worker_is_found_by_its_request(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    live = server("tests.apps.basic", "-w", "1", "-t", "3", "-k", kind)
    (worker,) = live.wait_children(1)
    mark = tmp_path / "mark"
    with Connection(live.port) as client:
        client.ask(f"/mark/{mark}/60")
        wait_until(mark.exists, 5)
        os.kill(worker, signal.SIGSTOP)
        live.wait_log("timeout of 3.0 s passed, it was stopped by a signal and was ended by KILL")
    live.wait_log(r"hung in GET /mark/.*\n\(no stacks: the process could not write them\)")
    wait_until(lambda: live.children() != [worker] and fetch(live.port).status == 200, 10)


def test_an_idle_worker_that_is_stopped_goes_on_later(server: StartServer) -> None:
    """Nobody waits for it, so nobody ends it; its sibling serves."""
    live = server("tests.apps.basic", "-w", "2", "-t", "2")
    live.wait_log("2 workers serve")
    stopped, other = live.children()
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    while time.monotonic() < began + 3.0:
        assert fetch(live.port, "/slow/0.05").body.split()[1] == str(other).encode()
    live.wait_log(
        f"Worker 1 .pid {stopped}, generation 1. was stopped by a signal; other workers serve until it is continued"
    )
    os.kill(stopped, signal.SIGCONT)
    live.wait_log("Worker 1 .* was continued by a signal")
    os.kill(other, signal.SIGSTOP)
    assert fetch(live.port).body.split()[1] == str(stopped).encode()
    os.kill(other, signal.SIGCONT)
    assert live.children() == [stopped, other]


def test_a_broken_boot_is_shown_once(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("app", "-w", "2", source=versioned.good())
    live.wait_log("2 workers serve")
    (tmp_path / "app.py").write_text(versioned.RAISES)
    for pid in live.children():
        os.kill(pid, signal.SIGKILL)
    live.wait_log(r"cannot boot: .*no database today.* \(the same traceback as before, 3 times\)")
    assert live.log().count("Traceback") == 1
    (tmp_path / "app.py").write_text(versioned.good("2"))
    live.wait_log("All 2 workers serve again", 15)
    assert fetch(live.port).status == 200


@pytest.fixture
def group(tmp_path: pathlib.Path) -> pathlib.Path:
    """A control group of its own for a server, with little memory."""
    made = MEMORY / f"wsgicluster-test-{os.getpid()}"
    limit = made / "memory.limit_in_bytes"
    if not MEMORY.is_dir():
        made = pathlib.Path("/sys/fs/cgroup") / made.name
        limit = made / "memory.max"
    try:
        made.mkdir()
        limit.write_text(str(150 << 20))
    except OSError as error:
        pytest.skip(f"no control group to be had here: {error}")
    return made


def test_out_of_memory_is_told_from_a_kill(server: StartServer, group: pathlib.Path) -> None:
    inside = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    live = server("app", "-w", "1", source=DEADLY, prefix=["sh", "-c", inside, "sh"])
    try:
        live.wait_log("1 worker serves")
        ask_for_death(live.port, "/eat")
        live.wait_log(OUT_OF_MEMORY)
        live.wait_log("The worker serves again")
        os.kill(live.children()[0], signal.SIGKILL)
        live.wait_log("was killed from outside")
        assert live.stop() == 0
    finally:
        live.end()
        wait_until(lambda: not (group / "cgroup.procs").read_text(), 5)
        group.rmdir()


@pytest.mark.parametrize(
    ("arguments", "pure"),
    [
        (("-k", "sync"), ""),
        (("-k", "sync"), "1"),
        (("-k", "sync", "--preload"), ""),
        (("-k", "sync", "--max-requests", "3"), ""),
        (("-k", "gthread"), ""),
        (("-k", "gevent"), ""),
        (("-k", "gevent", "--preload"), ""),
    ],
)
def test_poison_requests_do_not_silence_the_service(server: StartServer, arguments: tuple[str, ...], pure: str) -> None:
    """Deaths in requests, one after the other as soon as there is a worker: no slot waits for its next one."""
    live = server("app", "-w", "2", *arguments, source=DEADLY, environ={"WSGICLUSTER_PURE": pure})
    live.wait_log("2 workers serve")
    deadly = ["/signal/11", "/exit/9", "/signal/9", "/exit-later/9", "/exit/0"]
    for number, path in enumerate(deadly, start=1):
        ask_for_death(live.port, path)
        # A worker that was about to be recycled, and exits with 0 in one request more, was recycled.
        live.wait_log(r"crashed: |killed from outside|exited without a stop request|exited: recycled", count=number)
        assert fetch(live.port).status == 200
    live.wait_log(r"Worker \d .* is ready", count=2 + len(deadly))
    assert "next try" not in live.log()
    live.wait_log("All 2 workers serve again")
    assert live.stop() == 0
