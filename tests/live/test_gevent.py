"""The gevent worker: many requests that wait, one thread, and a patched standard library."""

import concurrent.futures
import pathlib
import re

import pytest

from tests.conftest import ROOT, LiveServer, StartServer, wait_until
from tests.live.client import Connection, fetch

pytestmark = pytest.mark.live

pytest.importorskip("gevent")

SOURCE = """
import os, subprocess, time
import gevent.monkey

patched = gevent.monkey.is_module_patched("socket") and gevent.monkey.is_module_patched("threading")
cleaned = []
time.sleep(0.001)  # waits in a hub, which a worker that is forked from here must not inherit

meeting = []

def pieces(name):
    yield b"x" * 6_000_000
    while not os.path.exists(name):
        time.sleep(0.01)
    yield b"end"

def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = str(os.getpid())
    if path == "/sleep":
        try:
            time.sleep(float(environ["QUERY_STRING"]))
        except Exception:
            body = "caught"
        finally:
            cleaned.append(path)
    elif path == "/meet":
        meeting.append(path)
        while len(meeting) < int(environ["QUERY_STRING"]):
            time.sleep(0.1)
    elif path == "/spin":
        while True:
            pass
    elif path == "/pieces":
        start_response("200 OK", [("Content-Length", "6000003")])
        return pieces(environ["QUERY_STRING"])
    elif path == "/facts":
        body = f"{patched} {environ['wsgi.multithread']} {len(cleaned)}"
    elif path == "/process":
        body = subprocess.run(["echo", "child"], capture_output=True, text=True).stdout.strip()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]
"""


def gevent(server: StartServer, *arguments: str) -> LiveServer:
    return server("app", "-k", "gevent", *arguments, source=SOURCE)


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_the_library_is_patched_before_the_application_is_imported(
    server: StartServer, preload: tuple[str, ...]
) -> None:
    live = gevent(server, "-w", "2", *preload)
    assert fetch(live.port, "/facts").body == b"True True 0"
    assert fetch(live.port, "/process").body == b"child"
    assert "Warning" not in live.log()


def test_hundreds_of_requests_wait_at_the_same_time(server: StartServer) -> None:
    live = gevent(server, "-w", "1")
    crowd = [Connection(live.port, 30) for _ in range(300)]
    for each in crowd:
        each.ask("/meet?300")
    assert {each.response().status for each in crowd} == {200}
    # Of all these greenlets none is left in the way, and each connection is kept.
    assert {each.exchange().status for each in crowd} == {200}
    for each in crowd:
        each.close()


def test_what_a_greenlet_has_given_is_sent_while_it_goes_on(server: StartServer) -> None:
    live = gevent(server, "-w", "1")
    with Connection(live.port) as connection:
        connection.ask("/pieces?seen")
        received = b""
        while received.count(b"x") < 6_000_000:
            received += connection.sock.recv(1 << 20)
        (live.folder / "seen").touch()
        while not received.endswith(b"end"):
            received += connection.sock.recv(1 << 20)


def test_a_request_past_its_time_is_cancelled(server: StartServer) -> None:
    live = gevent(server, "-w", "1", "--timeout", "2")
    with Connection(live.port) as stuck, Connection(live.port) as neighbour:
        neighbour.exchange()
        stuck.ask("/sleep?60")
        assert neighbour.exchange("/sleep?0.2").status == 200
        assert stuck.response().status == 500
    live.wait_log("was cancelled")
    assert len(re.findall(r"stuck in GET /sleep\?60 HTTP/1.1 from 127.0.0.1:\d+ for \d+\.\d s", live.log())) == 1
    assert re.search(r"File .*app.py.*\n *time.sleep", live.log())


def test_a_blocked_hub_is_a_hang(server: StartServer) -> None:
    live = gevent(server, "-w", "1", "--timeout", "2")
    (worker,) = live.wait_children(1)
    with Connection(live.port) as connection:
        connection.ask("/spin")
        live.wait_log("hung in GET /spin HTTP/1.1")
        wait_until(lambda: worker not in live.children(), 5)
    assert fetch(live.port).status == 200


def test_a_full_worker_accepts_no_more(server: StartServer) -> None:
    live = gevent(server, "-w", "1", "--worker-connections", "3", "--keep-alive", "60")
    crowd = [Connection(live.port) for _ in range(3)]
    assert [each.exchange().status for each in crowd] == [200] * 3
    with Connection(live.port) as another:
        another.ask()
        another.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            another.sock.recv(1)
        another.sock.settimeout(15)
        crowd.pop().close()
        assert another.sock.recv(12) == b"HTTP/1.1 200"
    for each in crowd:
        each.close()


def test_every_request_is_in_the_access_log(server: StartServer, tmp_path: pathlib.Path) -> None:
    log = tmp_path / "access.log"
    live = gevent(server, "-w", "1", "--access-logfile", str(log))
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda number: fetch(live.port, f"/{number}"), range(100)))
    wait_until(lambda: log.read_text().count("\n") == 100, 2)


def test_without_the_package_the_server_says_what_to_install(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['gevent'] = None\n")
    live = server("tests.apps.basic", "-k", "gevent", environ={"PYTHONPATH": f"{tmp_path}:{ROOT}"}, listening=False)
    assert live.wait_end() == 2
    assert "worker_class: gevent needs the package gevent; pip install 'wsgicluster[gevent]'" in live.log()
    assert "Traceback" not in live.log()


QUICK_CHILD = """
import os
import gevent.os
from gevent.monkey import get_original

def fork_that_is_left_behind():
    pid = get_original("os", "fork")()
    if pid == 0:
        os._exit(7)
    # The child has exited before anybody watches it: its end is left to be waited for.
    get_original("os", "waitid")(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid

def application(environ, start_response):
    pid = gevent.os.fork_and_watch(fork=fork_that_is_left_behind)
    body = str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["each", "preload"])
def test_a_child_that_exits_at_once_is_waited_for(server: StartServer, preload: tuple[str, ...]) -> None:
    """gevent hears of no child before it has watched one; each is the first of its worker."""
    live = server("app", "-k", "gevent", "-w", "1", "-t", "10", *preload, source=QUICK_CHILD)
    for _ in range(2):
        assert fetch(live.port).body == b"7"
    assert not live.said("Traceback|stuck")
