"""Reloads that are rehearsed, with real applications: what is tried, what calls one off, and what is said then."""

import os
import pathlib
import signal

import pytest

from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import Load, fetch

pytestmark = pytest.mark.live

APP = """\
import os
import time

VERSION = "@VERSION@"


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if environ.get("wsgicluster.smoke"):
        with open("smoke.log", "a") as log:
            log.write(f"{VERSION} {os.getpid()} {path}\\n")
    if path == "/login" and VERSION == "raises":
        raise LookupError("no table called users")
    if path == "/login" and VERSION == "hangs":
        time.sleep(60)
    status = "503 Full" if path == "/login" and VERSION == "refuses" else "200 OK"
    body = f"{VERSION} {os.getpid()}".encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

ONE_BOOTS = """\
import os
import time

try:
    os.mkdir("first")
except FileExistsError:
    while not os.path.exists("go"):
        time.sleep(0.02)


def application(environ, start_response):
    start_response("200 OK", [])
    return [b"x"]
"""


def write(folder: pathlib.Path, version: str) -> None:
    """Put a version in place in one step."""
    new = folder / ".app.new"
    new.write_text(APP.replace("@VERSION@", version), "utf-8")
    os.replace(new, folder / "app.py")


def rehearsals(folder: pathlib.Path) -> list[list[str]]:
    """Version, pid and path of each request of a rehearsal so far."""
    path = folder / "smoke.log"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def reload(live: LiveServer, version: str, says: str) -> None:
    write(live.folder, version)
    live.send(signal.SIGHUP)
    live.wait_log(says, 20)


KINDS = [("sync",), ("gthread", "--threads", "2"), ("gevent",), ("sync", "--preload"), ("gevent", "--preload")]


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_an_application_that_does_not_answer_changes_nothing(
    server: StartServer, tmp_path: pathlib.Path, kind: tuple[str, ...]
) -> None:
    write(tmp_path, "first")
    live = server("app", "-w", "2", "-k", *kind, "--smoke", "/,/login")
    live.wait_log("Started: 2 workers serve")
    assert [line[::2] for line in rehearsals(tmp_path)] == [["first", "/"], ["first", "/login"]]
    with Load(live.port, clients=2) as load:
        reload(live, "raises", "Reload aborted")
        reload(live, "refuses", "GET /login was answered 503 Full: refuses ")
        reload(live, "good", "Reload complete")
        wait_until(lambda: fetch(live.port).body.startswith(b"good "), 10)
    assert load.losses == []
    assert not {"raises", "refuses"} & load.versions()
    assert live.log().count("LookupError: no table called users") == 2  # in the line, and below its traceback
    # Each generation was tried once, by one worker.
    assert [line[0] for line in rehearsals(tmp_path)[2:]] == ["raises"] * 2 + ["refuses"] * 2 + ["good"] * 2
    assert live.stop() == 0


def test_old_workers_are_not_replaced_by_code_that_does_not_answer(server: StartServer, tmp_path: pathlib.Path) -> None:
    write(tmp_path, "first")
    # Without surge the rehearsal itself costs an old worker its place.
    live = server("app", "-w", "2", "--smoke", "/login", "--reload-surge", "0", "--min-ready", "1")
    live.wait_log("Started: 2 workers serve")
    with Load(live.port, clients=2) as load:
        reload(live, "refuses", "Reload aborted")
        live.wait_log(r"generation 1\) cannot boot: smoke: GET /login was answered 503 Full")
        live.wait_log("degraded: 1 of 2 workers serve")
        reload(live, "good", "Reload complete: 2 workers serve")
        wait_until(lambda: "good" in load.versions(), 10)
    assert load.losses == []
    assert load.versions() == {"first", "good"}
    assert live.stop() == 0


@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_a_rehearsal_that_hangs_is_ended_and_says_where(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    write(tmp_path, "first")
    live = server("app", "-k", kind, "--smoke", "/login", "--timeout", "3")
    live.wait_log("Started")
    reload(live, "hangs", "Reload aborted")
    live.wait_log(r"hung in its smoke test, in GET /login from smoke(.*\n)+.*app\.py.* in application")
    assert fetch(live.port, "/login").body.startswith(b"first ")


def test_a_server_whose_first_rehearsal_fails_does_not_start(server: StartServer, tmp_path: pathlib.Path) -> None:
    write(tmp_path, "raises")
    live = server("app", "-w", "2", "--smoke", "/login")
    assert live.wait_end() == 3
    assert live.said("cannot boot: smoke: GET /login failed: LookupError: no table called users")
    assert not live.members()


def test_few_workers_are_enough_to_have_started(server: StartServer) -> None:
    live = server("app", "-w", "3", "--min-ready", "1", source=ONE_BOOTS)
    live.wait_log("Started: 1 of 3 workers serve, the others boot")
    assert fetch(live.port).status == 200
    (live.folder / "go").touch()
    live.wait_log("Started: 3 workers serve")


def test_without_room_for_more_a_reload_loses_nothing(server: StartServer, tmp_path: pathlib.Path) -> None:
    write(tmp_path, "first")
    live = server("app", "-w", "3", "--reload-surge", "0", "--min-ready", "2")
    live.wait_log("Started: 3 workers serve")
    with Load(live.port, clients=3) as load:
        wait_until(lambda: load.versions() == {"first"}, 10)
        reload(live, "second", "Reload complete: 3 workers serve")
        wait_until(lambda: "second" in load.versions(), 10)
    assert load.losses == []
    assert live.stop() == 0
