"""Hooks of a configuration file: called when Gunicorn calls them, with what they look at there."""

import contextlib
import json
import os
import pathlib
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.conftest import LiveServer, StartServer, find_free_ports, wait_until
from tests.gunicorn.real_gunicorn import ABSENT, find
from tests.gunicorn.servers import GunicornServer
from tests.live.client import fetch

pytestmark = pytest.mark.live

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Own", "1")])
    return [b"hello"]
app = application
"""

TRACING = """
import json, os

def note(name, age=0, **more):
    line = json.dumps({"name": name, "age": age, "pid": os.getpid(), **more}) + "\\n"
    trace = os.open(os.path.join(os.path.dirname(__file__), "trace"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(trace, line.encode())
    os.close(trace)

def on_starting(server): note("on_starting", workers=server.num_workers, listeners=len(server.LISTENERS))
def on_reload(server): note("on_reload")
def when_ready(server):
    host, port = server.LISTENERS[0].getsockname()
    same = str(server.LISTENERS[0]) == f"http://{host}:{port}"
    own = server.pid == os.getpid()
    note("when_ready", same=same, host=server.address[0][0], workers=len(server.WORKERS), own=own)
def pre_fork(server, worker):
    worker.mine = worker.age
    note("pre_fork", worker.age, shown=worker.pid, alive=worker.alive, booted=worker.booted)
def post_fork(server, worker):
    wsgi = getattr(worker, "wsgi", None)
    note("post_fork", worker.mine, own=worker.pid == os.getpid(), booted=worker.booted, wsgi=wsgi)
def post_worker_init(worker):
    note("post_worker_init", worker.age, alive=worker.alive, served=worker.nr, sockets=len(worker.sockets),
         callable=callable(worker.wsgi), application=worker.app.callable is worker.wsgi)
def worker_int(worker): note("worker_int", worker.age)
def worker_abort(worker): note("worker_abort", worker.age)
def pre_request(worker, req):
    req.mark = 7
    note("pre_request", worker.age, req=[req.method, req.path, req.query, req.uri], peer=req.remote_addr[0],
         headers=sorted(name for name, value in req.headers), served=worker.nr)
def post_request(worker, req, environ, resp):
    note("post_request", worker.age, mark=req.mark, path=environ["PATH_INFO"], status=resp.status,
         own=dict(resp.headers)["X-Own"], sent=resp.sent, served=worker.nr)
def child_exit(server, worker): note("child_exit", worker.mine, known=worker.pid in server.WORKERS)
def worker_exit(server, worker): note("worker_exit", worker.mine, own=worker.pid == os.getpid())
nworkers_changed = lambda server, new, old: note("nworkers_changed", new=new, old=old, begun=hasattr(server, "pid"))
globals().update({"on_exit": lambda server: note("on_exit", workers=len(server.WORKERS))})
"""

BOOT = ("pre_fork", "post_fork", "post_worker_init")
Event = dict[str, object]


class Traced:
    """A server whose hooks write a trace."""

    def __init__(self, live: LiveServer) -> None:
        self.live = live
        self._path = live.folder / "trace"
        self._seen = 0
        self.events: list[Event] = []

    def take(self, count: int) -> list[Event]:
        """The next so many events, once they are there."""

        def found() -> list[Event]:
            lines = self._path.read_text().splitlines() if self._path.exists() else []
            new = lines[self._seen :]
            return [json.loads(line) for line in new] if len(new) >= count else []

        events = wait_until(found, 20, f"{count} events: {self.live.log()}")
        self._seen += len(events)
        self.events += events
        return events

    def worker(self, age: int) -> int:
        """The pid of the worker of this age."""
        return next(int(str(e["pid"])) for e in self.events if e["name"] == "post_fork" and e["age"] == age)


@contextlib.contextmanager
def traced(tmp_path: pathlib.Path, kind: type[LiveServer], *arguments: str) -> Iterator[Traced]:
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "gunicorn.conf.py").write_text(TRACING)
    live = kind(tmp_path, ["-b", "127.0.0.1:0", "-w", "1", *arguments, "app:app"], {})
    try:
        live.start()
        yield Traced(live)
    finally:
        live.end()
        print(live.whole_log())


def get(live: LiveServer, path: str = "/") -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(live.url + path, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def named(*names: str, age: int) -> list[tuple[str, object]]:
    return [(name, age) for name in names]


def of(events: Sequence[Event]) -> list[tuple[object, object]]:
    return sorted(((event["name"], event["age"]) for event in events), key=str)


@pytest.mark.parametrize("kind", [LiveServer, GunicornServer])
def test_moments_and_order(tmp_path: pathlib.Path, kind: type[LiveServer]) -> None:
    if kind is GunicornServer and find() is None:
        pytest.skip(ABSENT)
    with traced(tmp_path, kind) as server:
        live = server.live

        def expect(*expected: tuple[str, object]) -> list[Event]:
            events: list[Event] = server.take(len(expected))
            assert of(events) == sorted(expected, key=str)
            return events

        start = expect(("nworkers_changed", 0), ("on_starting", 0), ("when_ready", 0), *named(*BOOT, age=1))
        assert [event["name"] for event in start] == ["nworkers_changed", "on_starting", "when_ready", *BOOT]
        in_master = [event["name"] for event in start if event["pid"] == live.pid]
        assert in_master == ["nworkers_changed", "on_starting", "when_ready", "pre_fork"]
        for event in start:
            del event["pid"]
        assert start == [
            {"name": "nworkers_changed", "age": 0, "new": 1, "old": None, "begun": False},
            {"name": "on_starting", "age": 0, "workers": 1, "listeners": 0},
            {"name": "when_ready", "age": 0, "same": True, "host": "127.0.0.1", "workers": 0, "own": True},
            {"name": "pre_fork", "age": 1, "shown": "[booting]", "alive": True, "booted": False},
            {"name": "post_fork", "age": 1, "own": True, "booted": False, "wsgi": None},
            {
                "name": "post_worker_init", "age": 1, "alive": True, "served": 0, "sockets": 1, "callable": True,
                "application": True,
            },
        ]  # fmt: skip

        assert get(live, "/a%20b?x=1") == (200, b"hello")
        before, after = expect(*named("pre_request", "post_request", age=1))
        assert before["req"] == ["GET", "/a%20b", "x=1", "/a%20b?x=1"]
        assert (before["peer"], before["served"], after["served"]) == ("127.0.0.1", 0, 1)
        assert before["headers"] == ["ACCEPT-ENCODING", "CONNECTION", "HOST", "USER-AGENT"]
        assert [after[name] for name in ("mark", "path", "status", "own", "sent")] == [7, "/a b", "200 OK", "1", 5]

        live.send(signal.SIGHUP)
        reload = expect(
            ("nworkers_changed", 0), ("on_reload", 0), *named(*BOOT, age=2), *named("worker_exit", "child_exit", age=1)
        )
        assert [event["name"] for event in reload][:3] == ["nworkers_changed", "on_reload", "pre_fork"]
        assert [(e["new"], e["old"], e["begun"]) for e in reload[:1]] == [(1, 1, True)]
        assert [event["known"] for event in reload if event["name"] == "child_exit"] == [False]

        for age, number, last in (
            (2, signal.SIGABRT, ("worker_abort", "worker_exit", "child_exit")),
            (3, signal.SIGQUIT, ("worker_int", "worker_exit", "child_exit")),
            (4, signal.SIGKILL, ("child_exit",)),
        ):
            os.kill(server.worker(age) if age > 2 else last_pid(reload), number)
            events = expect(*named(*last, age=age), *named(*BOOT, age=age + 1))
            assert [event["name"] for event in events if event["age"] == age] == list(last)
            assert all((e["pid"] == live.pid) is (e["name"] in ("pre_fork", "child_exit")) for e in events)

        live.send(signal.SIGTTIN)
        more = expect(("nworkers_changed", 0), *named(*BOOT, age=6))
        assert (more[0]["new"], more[0]["old"]) == (2, 1)
        live.send(signal.SIGTTOU)
        fewer = server.take(3)
        assert [event["name"] for event in fewer] == ["nworkers_changed", "worker_exit", "child_exit"]
        assert (fewer[0]["new"], fewer[0]["old"]) == (1, 2)
        assert live.stop() == 0
        last_events = server.take(3)
        assert [event["name"] for event in last_events] == ["worker_exit", "child_exit", "on_exit"]
        assert {fewer[1]["age"], last_events[0]["age"]} == {5, 6}


def last_pid(events: Sequence[Event]) -> int:
    return next(int(str(event["pid"])) for event in events if event["name"] == "post_fork")


@pytest.mark.parametrize(
    "arguments",
    [("--preload",), ("-k", "gthread", "--threads", "2"), ("-k", "gevent"), ("-k", "gevent", "--preload")],
    ids=" ".join,
)
def test_every_kind(tmp_path: pathlib.Path, arguments: tuple[str, ...]) -> None:
    with traced(tmp_path, LiveServer, *arguments) as server:
        start = server.take(6)
        assert [event["name"] for event in start] == ["nworkers_changed", "on_starting", "when_ready", *BOOT]
        assert [e["name"] for e in start if e["pid"] == server.live.pid][3:] == ["pre_fork"]
        for served in (0, 1):
            assert get(server.live) == (200, b"hello")
            before, after = server.take(2)
            assert (before["name"], after["name"]) == ("pre_request", "post_request")
            assert (before["served"], after["mark"], after["sent"]) == (served, 7, 5)
        server.live.stop()
        assert [event["name"] for event in server.take(3)] == ["worker_exit", "child_exit", "on_exit"]


def test_the_same_in_plain_python(tmp_path: pathlib.Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "gunicorn.conf.py").write_text(TRACING)
    live = LiveServer(tmp_path, ["-b", "127.0.0.1:0", "app:app"], {"WSGICLUSTER_PURE": "1"})
    server = Traced(live)
    try:
        live.start()
        server.take(6)
        assert get(live) == (200, b"hello")
        assert [event["name"] for event in server.take(2)] == ["pre_request", "post_request"]
    finally:
        live.end()


def configured(server: StartServer, tmp_path: pathlib.Path, config: str, *arguments: str, **more: bool) -> LiveServer:
    (tmp_path / "gunicorn.conf.py").write_text(config)
    return server(*arguments, "app:app", source=APPLICATION, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("hook", ["on_starting(server)", "when_ready(server)", "nworkers_changed(server, new, old)"])
def test_a_start_that_fails(server: StartServer, tmp_path: pathlib.Path, hook: str) -> None:
    live = configured(server, tmp_path, f"def {hook}:\n    raise ValueError('boom')\n", listening=False)
    assert live.wait_end() == 3
    name = hook.partition("(")[0]
    assert live.log().splitlines()[-1] == f"wsgicluster: error: {name}: the hook failed: ValueError: boom"


@pytest.mark.parametrize("hook", ["post_fork(server, worker)", "post_worker_init(worker)"])
@pytest.mark.parametrize("arguments", [(), ("--preload",)])
def test_a_worker_that_cannot_start(
    server: StartServer, tmp_path: pathlib.Path, hook: str, arguments: tuple[str, ...]
) -> None:
    config = f"def {hook}:\n    raise ValueError('boom')\ndef on_exit(server): print('on_exit', flush=True)\n"
    live = configured(server, tmp_path, config, *arguments, listening=False)
    assert live.wait_end() == 3
    assert f"{hook.partition('(')[0]}: the hook failed: ValueError: boom" in live.log()
    assert "on_exit" in live.log().splitlines()


SURVIVED = {
    "pre_fork(server, worker)": signal.SIGHUP,
    "on_reload(server)": signal.SIGHUP,
    "child_exit(server, worker)": signal.SIGHUP,
    "worker_exit(server, worker)": signal.SIGHUP,
}


@pytest.mark.parametrize("hook", SURVIVED)
def test_a_hook_that_raises_is_logged(server: StartServer, tmp_path: pathlib.Path, hook: str) -> None:
    live = configured(server, tmp_path, f"def {hook}:\n    raise ValueError('boom')\n")
    live.wait_workers(1)
    live.send(SURVIVED[hook])
    live.wait_log(f"{hook.partition('(')[0]}: the hook failed\nTraceback")
    live.wait_log("Generation 2 is healthy")
    assert get(live) == (200, b"hello")
    assert live.stop() == 0


def test_request_hooks_that_raise(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = configured(
        server, tmp_path, "def pre_request(worker, req):\n    if req.path == '/no': raise ValueError('boom')\n"
        "def post_request(worker, req, environ): raise SystemExit(9)\n",
    )  # fmt: skip
    assert get(live, "/no")[0] == 500
    for _ in range(2):
        assert get(live) == (200, b"hello")
    live.wait_log("the application failed in GET /no")
    live.wait_log("post_request: the hook failed\nTraceback", count=3)
    assert live.stop() == 0


def test_a_slow_hook_is_named(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = configured(server, tmp_path, "import time\ndef pre_fork(server, worker): time.sleep(0.2)\n")
    live.wait_log(r"pre_fork: the hook took 0\.\d+ s; no worker is supervised meanwhile")


THREAD = """
import http.server, os, threading
served = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        import wave  # what is imported while workers are forked
        self.send_response(200); self.end_headers(); self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *words): pass
def when_ready(server):
    served.append(http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler))
    threading.Thread(target=served[0].serve_forever, daemon=True).start()
    def log_on():
        while not threading.Event().wait(0.001): server.log.info("a thread logs")
    threading.Thread(target=log_on, daemon=True).start()
"""


@pytest.mark.parametrize("arguments", [(), ("--preload",)])
def test_threads_of_hooks(server: StartServer, tmp_path: pathlib.Path, arguments: tuple[str, ...]) -> None:
    (port,) = find_free_ports(1)
    live = configured(server, tmp_path, THREAD.replace("PORT", str(port)), "-w", "2", *arguments)

    def answered() -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as response:
            body: bytes = response.read()
            return body

    live.wait_log("Started: 2 workers serve")
    assert not live.said("threads while it was preloaded")
    for generation in (2, 3, 4):
        assert answered() == str(live.pid).encode()
        live.send(signal.SIGHUP)
        live.wait_log(f"Generation {generation} is healthy", 30)
        assert get(live) == (200, b"hello")
    assert answered() == str(live.pid).encode()
    assert live.stop() == 0


OWN = """
import os, threading
of_the_file = open("file.log", "a", buffering=1)
def on_starting(server):
    server.numbers = set()
    server.lock = threading.Lock()
    server.large = "x" * 100_000
    server.own_log = os.open("own.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def pre_fork(server, worker):
    worker.number = next(number for number in range(99) if number not in server.numbers)
    server.numbers.add(worker.number)
def post_fork(server, worker):
    of_the_file.write(f"{worker.number}\\n")
    os.write(server.own_log, f"{worker.number} {sorted(server.numbers)}\\n".encode())
def child_exit(server, worker):
    server.numbers.discard(worker.number)
    os.write(server.own_log, f"-{worker.number}\\n".encode())
"""


@pytest.mark.parametrize("arguments", [(), ("--preload",)])
def test_own_attributes_and_files(server: StartServer, tmp_path: pathlib.Path, arguments: tuple[str, ...]) -> None:
    live = configured(server, tmp_path, OWN, *arguments)
    live.wait_log("Started: 1 worker serves")
    lines: Callable[[], list[str]] = lambda: (tmp_path / "own.log").read_text().splitlines()  # noqa: E731
    for expected in (["0 [0]"], ["0 [0]", "1 [0, 1]", "-0"], ["0 [0]", "1 [0, 1]", "-0", "0 [0, 1]", "-1"]):
        if len(expected) > 1:
            live.send(signal.SIGHUP)
        wait_until(lambda expected=expected: lines() == expected, 20, "own.log")  # type: ignore[misc]
    assert (tmp_path / "file.log").read_text() == "0\n1\n0\n"
    for attribute in ("lock", "large"):
        unsent = f"preload_app: server.{attribute}, set by a hook, does not reach workers"
        assert live.whole_log().count(unsent) == len(arguments)


NUMBERED = """
def pre_fork(server, worker):
    taken = {other.number for other in server.WORKERS.values() if other.alive}
    worker.number = min(set(range(1, 20)) - taken)
def post_fork(server, worker):
    server.log.info("number %d for %d", worker.number, worker.pid)
"""


@pytest.mark.parametrize("arguments", [(), ("--preload",)])
def test_numbers_that_are_free_among_the_workers(
    server: StartServer, tmp_path: pathlib.Path, arguments: tuple[str, ...]
) -> None:
    live = configured(server, tmp_path, NUMBERED, "-w", "3", *arguments)
    live.wait_log("Started: 3 workers serve")
    pids = dict(re.findall(r"number (\d+) for (\d+)", live.whole_log()))
    assert sorted(pids) == ["1", "2", "3"]
    os.kill(int(pids["2"]), signal.SIGKILL)
    wait_until(lambda: len(re.findall("number 2 for", live.whole_log())) == 2, 20)
    live.send(signal.SIGHUP)
    live.wait_log("Generation 2 is healthy", 30)
    assert "the hook failed" not in live.whole_log()
    assert live.stop() == 0


def test_a_hang(server: StartServer, tmp_path: pathlib.Path) -> None:
    config = """
def worker_abort(worker): print("worker_abort", worker.aborted, flush=True)
def worker_exit(server, worker): print("worker_exit", flush=True)
def pre_request(worker, req):
    import time
    while req.path == "/hang": time.sleep(0.05)
"""
    live = configured(server, tmp_path, config, "-t", "3")
    live.wait_log("Started: 1 worker serves")
    with contextlib.suppress(OSError):
        get(live, "/hang")
    live.wait_log(r"\[CRITICAL\] WORKER TIMEOUT \(pid:\d+\)")
    live.wait_log("worker_abort True\nworker_exit\n")
    wait_until(lambda: get(live) == (200, b"hello"), 20)


def test_a_worker_that_a_hook_ends(server: StartServer, tmp_path: pathlib.Path) -> None:
    config = "def post_request(worker, req):\n    if req.path == '/end': worker.alive = False\n"
    live = configured(server, tmp_path, config)
    (first,) = live.wait_workers(1)
    assert get(live, "/end") == (200, b"hello")
    wait_until(lambda: live.children() not in ([first], []) and first not in live.children(), 20)
    assert get(live) == (200, b"hello")
    assert live.said("a hook has set worker.alive to False")


def test_hooks_that_a_reload_brings(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = configured(server, tmp_path, "timeout = 30\n")
    live.wait_workers(1)
    (tmp_path / "gunicorn.conf.py").write_text(TRACING)
    live.send(signal.SIGHUP)
    events = Traced(live).take(5)
    assert [event["name"] for event in events] == ["nworkers_changed", "on_reload", *BOOT]
    (tmp_path / "gunicorn.conf.py").write_text("")
    live.send(signal.SIGHUP)
    live.wait_log("Generation 3 is healthy")
    assert get(live) == (200, b"hello")


CARRIED = """
import os

count, ages, lock = 0, [], __import__("threading").Lock()

def pre_fork(server, worker):
    global count
    count += 1
    ages.append(worker.age)
    os.environ["COLOR"] = ["blue", "green"][worker.age % 2]
    os.environ.pop("REMOVED", None)

def post_fork(server, worker):
    server.log.info("carried: %s %s %s %s", count, ages, os.environ["COLOR"], "REMOVED" in os.environ)
"""


@pytest.mark.parametrize("arguments", [(), ("--preload",)])
def test_variables_that_pre_fork_changes_reach_workers(
    server: StartServer, tmp_path: pathlib.Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CARRIED)
    live = server("-w", "2", *arguments, "app:app", source=APPLICATION, environ={"REMOVED": "1"})
    live.wait_log("Started: 2 workers serve")
    live.wait_log(r"carried: 1 \[1\] green False")
    live.wait_log(r"carried: 2 \[1, 2\] blue False")
    live.send(signal.SIGTTIN)
    live.wait_log(r"carried: 3 \[1, 2, 3\] green False")
    live.send(signal.SIGHUP)  # the file is read again, and its variables begin anew
    live.wait_log(r"carried: 1 \[4\] blue False")
    live.wait_log("Reload complete", 20)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
def test_post_fork_has_the_privileges_of_the_arbiter(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(
        "import os\ndef post_fork(server, worker): server.log.info('post_fork as %s', os.geteuid())\n"
    )
    live = server("-u", "65534", "-g", "65534", "app:app", source=APPLICATION, listening=False)
    live.wait_log("post_fork as 0")


VERBS = """
def post_worker_init(worker):
    worker.log.info("post_worker_init")

def child_exit(server, worker):
    if server.worker_age == 1:
        server.reload()

def on_reload(server):
    server.log.info("application %s of %d workers", server.app.wsgi(), server.app.cfg.workers)
    server.stop()
"""


def test_hooks_reload_and_stop_the_server(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(VERBS)
    live = server("app:app", source=APPLICATION)
    (worker,) = live.wait_workers(1)
    os.kill(worker, signal.SIGKILL)
    assert live.wait_end() == 0
    assert live.said("SIGHUP: reload")
    assert live.said("application None of 1 workers")
    assert live.said("SIGTERM: graceful stop")


WRAPPING = """
def post_worker_init(worker):
    application = worker.wsgi

    def wrapped(environ, start_response):
        return [b"wrapped ", *application(environ, start_response)]

    worker.wsgi = wrapped
"""


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
@pytest.mark.parametrize(
    "more", ["", "def pre_request(worker, req): pass\nscheduling = 'least-connections'\nworkers = 2\n"]
)
def test_what_is_called_may_be_replaced(server: StartServer, tmp_path: pathlib.Path, kind: str, more: str) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    (tmp_path / "gunicorn.conf.py").write_text(WRAPPING + more)
    live = server("-k", kind, "app:app", source=APPLICATION)
    for _ in range(2):
        assert fetch(live.port).body == b"wrapped hello"
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete")
    assert fetch(live.port).body == b"wrapped hello"
