"""A server that is started without some of the standard streams: descriptors 0 to 2 are the null device."""

import contextlib
import itertools
import os
import pathlib
import signal

import pytest

from tests.conftest import LiveServer, StartServer, descriptors_of, is_alive, wait_until
from tests.live.client import fetch

pytestmark = pytest.mark.live

SOURCE = """
import os, subprocess, sys

print("printed at import")
print("printed at import", file=sys.stderr)

def application(environ, start_response):
    print("printed in a request", flush=True)
    print("printed in a request", file=sys.stderr)
    sys.stdin.read()
    body = subprocess.run(["echo", "child"], capture_output=True).stdout
    start_response("200 OK", [])
    return [body]
"""

CLOSED = ["".join(chosen) for size in (1, 2, 3) for chosen in itertools.combinations("012", size)]
KINDS = ["sync", "gthread", "gevent", "preload"]


def without(closed: str) -> list[str]:
    """What starts a program without these descriptors."""
    signs = " ".join(f"{number}<&-" if number == "0" else f"{number}>&-" for number in closed)
    return ["sh", "-c", f'exec "$@" {signs}', "sh"]


def streams(pid: int) -> dict[int, str]:
    """What the standard streams of a process are."""
    return {number: link for number, link in descriptors_of(pid).items() if number <= 2}


def start(server: StartServer, folder: pathlib.Path, kind: str, closed: str, *more: str) -> LiveServer:
    """A server of this kind that logs to a file."""
    if kind == "gevent":
        pytest.importorskip("gevent")
    kinds = ("-k", "sync", "--preload") if kind == "preload" else ("-k", kind)
    folder.mkdir(exist_ok=True)
    live = server(
        "app", "-w", "1", "--error-logfile", "error.log", "--access-logfile", "-", *kinds, *more,
        source=SOURCE, prefix=without(closed), listening=False, folder=folder,
    )  # fmt: skip
    live.log_path = folder / "error.log"
    return live


@pytest.mark.parametrize("kind", KINDS)
def test_streams_that_are_missing_are_the_null_device(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    servers = {closed: start(server, tmp_path / closed, kind, closed) for closed in CLOSED}
    for closed, live in servers.items():
        live.wait_log("1 worker serves")
        (*_, worker) = live.children()
        for _ in range(2):
            assert fetch(live.port).body == b"child\n"
        for pid in (live.pid, worker):
            found = streams(pid)
            assert set(found) == {0, 1, 2}
            assert {found[int(number)] for number in closed} == {"/dev/null"}, (closed, found)
        assert live.stop(timeout_s=5) == 0
        assert "Traceback" not in live.log()


@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_a_daemon_without_streams_serves_and_ends(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    live = start(server, tmp_path / "daemon", kind, "012", "--daemon", "--pid", "server.pid")
    assert live.wait_end() == 0
    assert live.said("Listening at")
    daemon = int((tmp_path / "daemon" / "server.pid").read_text())
    try:
        assert fetch(live.port).body == b"child\n"
        assert set(streams(daemon).values()) == {"/dev/null"}
        os.kill(daemon, signal.SIGTERM)
        wait_until(lambda: not is_alive(daemon), 5, "the daemon ends")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)


@pytest.mark.parametrize("closed", ["2", "012"])
def test_an_error_log_that_leads_nowhere(server: StartServer, free_port: int, closed: str) -> None:
    live = server("app", source=SOURCE, bind=f"127.0.0.1:{free_port}", prefix=without(closed), listening=False)

    def answer() -> bytes:
        try:
            return fetch(free_port).body
        except OSError:
            return b""

    assert wait_until(answer, 10) == b"child\n"
    assert live.stop(timeout_s=5) == 0


def test_the_command_answers_without_streams(tmp_path: pathlib.Path) -> None:
    """What it would say is lost, and nothing else."""
    live = LiveServer(tmp_path, ["--print-config"], {})
    live.start(without("012"))
    assert live.wait_end() == 0
