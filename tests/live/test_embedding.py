"""Servers within programs: `wsgicluster.serve`, `wsgicluster.testing`, and classes of Gunicorn's kind."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable
from typing import Any

import pytest

import wsgicluster
from tests.conftest import LiveServer, StartServer, children_of, descriptors_of, wait_until
from wsgicluster import testing
from wsgicluster.errors import ServerError, UsageError

pytestmark = pytest.mark.live


class Program(LiveServer):
    """A program of the user's in place of the command."""

    def start(self, prefix: Any = ()) -> "Program":
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "program.py", *self.arguments],
                cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        return self


@pytest.fixture
def program(server: StartServer, tmp_path: pathlib.Path) -> Any:
    """Start a program; ended after the test."""
    started: list[Program] = []

    def start(source: str, *arguments: str, environ: dict[str, str] | None = None) -> Program:
        (tmp_path / "program.py").write_text(source, "utf-8")
        live = Program(tmp_path, list(arguments), environ or {})
        started.append(live)
        return live.start()

    yield start
    for live in started:
        live.end()
        print(live.whole_log())


def body(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:
        found: bytes = response.read()
        return found


SERVE = """
import atexit, sys, wsgicluster
atexit.register(print, "the program ends", flush=True)
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served"]
print("exit code", wsgicluster.serve(application, bind="127.0.0.1:0", workers=2, SETTINGS), flush=True)
"""


@pytest.mark.parametrize("settings", ["", "preload_app=True", "worker_class='gthread', threads=2"])
def test_serve(program: Any, settings: str) -> None:
    live = program(SERVE.replace("SETTINGS", settings), environ={"WSGICLUSTER_WORKERS": "9"})
    live.wait_log("Started: 2 workers serve")
    assert body(live.url) == b"served"
    live.send(signal.SIGHUP)
    live.wait_log("Generation 2 is healthy")
    assert body(live.url) == b"served"
    assert live.stop() == 0
    assert live.log().splitlines()[-2:] == ["exit code 0", "the program ends"]
    assert live.log().count("the program ends") == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("wrokers=2", "serve: wrokers: no such setting; did you mean workers?"),
        ("timeout='x'", "serve: timeout: 'x'; expected a time"),
    ],
)
def test_wrong_settings(program: Any, settings: str, says: str) -> None:
    live = program(SERVE.replace("SETTINGS", settings))
    assert live.wait_end() == 1
    assert f"wsgicluster.errors.UsageError: {says}" in live.log()


def test_only_in_the_main_thread() -> None:
    found: list[BaseException] = []

    def call() -> None:
        try:
            wsgicluster.serve(lambda environ, start_response: [])
        except UsageError as error:
            found.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert str(found[0]).startswith("serve: has to be called in the main thread")


def test_the_package_stays_small() -> None:
    command = "import sys, wsgicluster; print([name for name in sys.modules if name.startswith('wsgicluster')])"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "['wsgicluster.version', 'wsgicluster']\n"
    with pytest.raises(AttributeError, match="no attribute 'server'"):
        wsgicluster.server  # noqa: B018


CUSTOM = """
import os, sys
from wsgicluster.gunicorn.app.base import BaseApplication

def handler_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.environ["MADE"].encode()]

class StandaloneApplication(BaseApplication):
    def __init__(self, app, options=None):
        self.options = options or {}
        self.application = app
        super().__init__()

    def load_config(self):
        config = {key: value for key, value in self.options.items() if key in self.cfg.settings and value is not None}
        for key, value in config.items():
            self.cfg.set(key.lower(), value)

    def load(self):
        os.environ["MADE"] = f"{self.cfg.workers} {self.cfg.bind}"
        return self.application

if __name__ == "__main__":
    def post_fork(server, worker): server.log.info("forked %s", worker.age)
    options = {"bind": ["127.0.0.1:0"], "workers": 2, "no_such": 1, "root_path": "/a", "post_fork": post_fork}
    if len(sys.argv) > 1:
        options["timeout"] = sys.argv[1]
    StandaloneApplication(handler_app, options).run()
"""


def test_a_class_derived_from_base_application(program: Any) -> None:
    live = program(CUSTOM)
    live.wait_log("Started: 2 workers serve")
    live.wait_log("forked 2")
    assert live.said("cfg.set: root_path: '/a'")
    assert body(live.url) == b"2 ['127.0.0.1:0']"
    live.send(signal.SIGHUP)
    live.wait_log("Generation 2 is healthy")
    assert live.stop() == 0
    wrong = program(CUSTOM, "x")
    assert wrong.wait_end() == 2
    assert wrong.log().splitlines()[-1].startswith("wsgicluster: error: cfg.set: timeout: 'x'; expected a time")


NAMED = """
import sys
from wsgicluster.gunicorn.app.wsgiapp import WSGIApplication

class Named(WSGIApplication):
    def __init__(self, app_uri, options):
        self.options = options
        self.app_uri = app_uri
        super().__init__()

    def load_config(self):
        for key, value in self.options.items():
            self.cfg.set(key, value)

if sys.argv[1:] == ["named"]:
    Named("own:application", {"bind": "127.0.0.1:0", "workers": 1}).run()
else:
    WSGIApplication("usage", prog="own").run()
"""


@pytest.mark.parametrize("arguments", [("named",), ("-b", "127.0.0.1:0", "-w", "1", "own")])
def test_a_named_application(program: Any, tmp_path: pathlib.Path, arguments: tuple[str, ...]) -> None:
    source = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'own']\n"
    (tmp_path / "own.py").write_text(source)
    (tmp_path / "gunicorn.conf.py").write_text("worker_class = 'gthread'\n")
    live = program(NAMED, *arguments)
    live.wait_log("Started: 1 worker serves")
    assert body(live.url) == b"own"
    assert live.stop() == 0


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def test_a_server_for_tests(tmp_path: pathlib.Path) -> None:
    before, children = descriptors_of(os.getpid()), children_of(os.getpid())
    texts = [b"first", b"second"]

    def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [texts[int(environ["PATH_INFO"][1:])]]

    with testing.server(echo) as first, testing.server(application, workers=2, worker_class="gthread") as second:
        assert [body(f"{first.url}/{number}") for number in (0, 1)] == texts
        assert int(body(second.url)) in children_of(second.pid)
        assert first.port != second.port
        wait_until(lambda: "Started: 2 workers serve" in second.log, 20)
    assert children_of(os.getpid()) == children
    assert descriptors_of(os.getpid()).keys() == before.keys()


def test_a_server_for_tests_that_cannot_start() -> None:
    def fails(worker: object) -> None:
        raise ValueError("boom")

    with (
        pytest.raises(ServerError, match=r"(?s)the server cannot start.*boom"),
        testing.server(application, post_worker_init=fails),
    ):
        pass
    with pytest.raises(ServerError, match="wrokers: no such setting"), testing.server(application, wrokers=2):
        pass
