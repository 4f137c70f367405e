"""Starting: what is refused, with which exit code and which words, and what the command line prints."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket

import pytest

from tests.apps import versioned
from tests.conftest import ROOT, LiveServer, StartServer, children_of, descriptors_of, is_alive, wait_until
from tests.live.client import Connection, fetch

pytestmark = pytest.mark.live


def run(
    server: StartServer, *arguments: str, source: str | None = None, bind: str | None = "127.0.0.1:0"
) -> LiveServer:
    """Start a server that is expected to end by itself."""
    live = server(*arguments, source=source, bind=bind, listening=False)
    live.wait_end(15)
    assert not live.members()
    return live


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (versioned.SYNTAX, ["SyntaxError", "app.py"]),
        (versioned.RAISES, ["RuntimeError: no database today", "app.py", "in connect"]),
        ("import a_module_that_is_not_there", ["a_module_that_is_not_there", "app.py"]),
        ("applicatoin = object()", ["applicatoin", "application"]),
        ("application = 5", ["int", "callable"]),
        ("raise SystemExit(0)", ["SystemExit"]),
    ],
    ids=["syntax", "raises", "import", "attribute", "type", "exit"],
)
def test_application_that_cannot_be_loaded(server: StartServer, source: str, says: list[str]) -> None:
    live = run(server, "app", "-w", "2", source=source)
    assert live.process.returncode == 4
    for words in says:
        assert words in live.log()
    # The application's own frames, said once.
    assert "wsgicluster/arbiter" not in live.log()
    assert live.log().count("Traceback") <= 1
    assert len(live.log().splitlines()) <= 40


ASGI = "class App:\n    async def __call__(self, scope, receive, send): ...\n\napplication = App()\n"
FACTORY = "def application(config=None):\n    return lambda environ, start_response: []\n"
IS_ASGI = r"app: is an ASGI application \(async def __call__\), and wsgicluster serves WSGI"
IS_FACTORY = r"app: is probably a factory: .* name what it returns: app:application\(\)"


@pytest.mark.parametrize(
    "arguments", [[], ["-w", "2", "--preload"], ["--threads", "2"], ["-k", "gevent"], ["--check-config"]], ids=" ".join
)
def test_what_is_no_wsgi_application(server: StartServer, arguments: list[str]) -> None:
    if "gevent" in arguments:
        pytest.importorskip("gevent")
    for source, says in ((ASGI, IS_ASGI), (FACTORY, IS_FACTORY)):
        live = run(server, "app", *arguments, source=source)
        assert live.process.returncode == 4
        assert re.search(says, live.log())
        assert "Traceback" not in live.log()


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_a_reload_to_what_is_no_wsgi_application(server: StartServer, preload: list[str]) -> None:
    live = server("app", *preload, source=versioned.good())
    assert fetch(live.port).status == 200
    for count, (source, says) in enumerate(((ASGI, IS_ASGI), (FACTORY, IS_FACTORY)), 1):
        (live.folder / "app.py").write_text(source)
        live.send(signal.SIGHUP)
        live.wait_log(says)
        live.wait_log("Reload aborted|no workers of the new", count=count)
        assert fetch(live.port).status == 200
    (live.folder / "app.py").write_text(versioned.good())
    live.send(signal.SIGHUP)
    live.wait_log("takes over|now serving")
    assert fetch(live.port).status == 200


def test_module_that_is_not_there(server: StartServer) -> None:
    live = run(server, "no_such_module:application")
    assert live.process.returncode == 4
    assert "no_such_module" in live.log()


def test_factory(server: StartServer, tmp_path: pathlib.Path) -> None:
    source = (
        versioned.good()
        + "\n\ndef make(name, loud=False):\n    assert (name, loud) == ('x', True)\n    return application\n"
    )
    live = server('app:make("x", loud=True)', source=source)
    assert fetch(live.port).status == 200


def test_worker_that_cannot_boot(server: StartServer) -> None:
    """(Node 25)"""
    live = run(server, "app", "-w", "2", source="import os\nos._exit(7)\n")
    assert live.process.returncode == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--wokers", "2", "app"], ["--wokers", "--workers"]),
        (["-w", "many", "app"], ["workers", "many"]),
        (["--timeout", "-1", "app"], ["timeout", "-1"]),
        (["--log-level", "loud", "app"], ["loud"]),
        (["-c", "missing.py", "app"], ["missing.py"]),
        ([], []),
    ],
)
def test_wrong_usage(server: StartServer, arguments: list[str], says: list[str]) -> None:
    live = run(server, *arguments)
    assert live.process.returncode == 2
    assert "Traceback" not in live.log()
    for words in says:
        assert words in live.log()


def test_a_misspelt_name_in_the_file_is_an_error_where_all_is_to_be_right(
    server: StartServer, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "wsgicluster.conf.py").write_text("workesr = 2\n")
    live = run(server, "app", "--strict")
    assert live.process.returncode == 2
    lines = live.log().splitlines()
    assert len(lines) == 1
    assert "workesr" in lines[0]
    assert "workers" in lines[0]


def test_address_in_use(server: StartServer) -> None:
    """(Node 21)"""
    first = server("tests.apps.basic")
    second = run(server, "tests.apps.basic", bind=f"127.0.0.1:{first.port}")
    assert second.process.returncode == 1
    assert f"127.0.0.1:{first.port}" in second.log()
    assert str(first.pid) in second.log() or any(str(pid) in second.log() for pid in first.children())
    assert fetch(first.port).status == 200


def test_version(server: StartServer) -> None:
    live = run(server, "--version", bind=None)
    assert live.process.returncode == 0
    assert re.match(r"wsgicluster \d+\.\d+\.\d+", live.log())


def test_help_is_grouped(server: StartServer) -> None:
    live = run(server, "--help", bind=None)
    assert live.process.returncode == 0
    for flag in ("--bind", "--workers", "--graceful-timeout", "--max-memory", "--access-logfile"):
        assert flag in live.log()


def test_print_config(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "wsgicluster.conf.py").write_text("workers = 3\ntimeout = '45s'\n")
    live = server(
        "app",
        "--print-config",
        "--max-memory",
        "512M",
        environ={"WSGICLUSTER_TIMEOUT": "50", "WSGICLUSTER_GRACEFUL_TIMEOUT": "7"},
        listening=False,
    )
    assert live.wait_end() == 0
    shown = live.log()

    def line(name: str) -> str:
        found = [line for line in shown.splitlines() if re.match(rf"\s*{name}\b", line)]
        assert len(found) == 1, shown
        return found[0]

    assert "3" in line("workers")
    assert "wsgicluster.conf.py" in line("workers")
    assert "50" in line("timeout")
    assert "WSGICLUSTER_TIMEOUT" in line("timeout")
    assert "WSGICLUSTER_GRACEFUL_TIMEOUT" in line("graceful_timeout")
    assert "--max-memory" in line("max_memory")
    assert "default" in line("backlog")


def test_check_config(server: StartServer) -> None:
    good = run(server, "app", "--check-config", source=versioned.good())
    assert good.process.returncode == 0
    broken = run(server, "app", "--check-config", source=versioned.RAISES)
    assert broken.process.returncode == 4
    assert "no database today" in broken.log()


def test_environment_of_the_application(server: StartServer) -> None:
    source = (
        "import os\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [(os.environ['COLOUR'] + ' ' + os.getcwd()).encode()]\n"
    )
    live = server("app", "-e", "COLOUR=green", source=source)
    assert fetch(live.port).body.decode() == f"green {os.path.realpath(live.folder)}"


class TestPidFile:
    """The pid file: written whole, refused when held, taken over when stale, removed at the end."""

    def test_written_and_removed(self, server: StartServer, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "server.pid"
        live = server("tests.apps.basic", "-p", str(path))
        wait_until(path.exists, 5)
        assert int(path.read_text()) == live.pid
        assert live.stop() == 0
        assert not path.exists()

    def test_held(self, server: StartServer, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "server.pid"
        first = server("tests.apps.basic", "-p", str(path))
        wait_until(path.exists, 5)
        second = run(server, "tests.apps.basic", "-p", str(path))
        assert second.process.returncode == 1
        assert str(first.pid) in second.log()
        assert int(path.read_text()) == first.pid
        assert fetch(first.port).status == 200

    @pytest.mark.parametrize("content", ["4194304\n", "", "no number"], ids=["dead", "empty", "garbage"])
    def test_stale(self, server: StartServer, tmp_path: pathlib.Path, content: str) -> None:
        path = tmp_path / "server.pid"
        path.write_text(content)
        live = server("tests.apps.basic", "-p", str(path))
        wait_until(lambda: path.read_text().strip() == str(live.pid), 5)

    def test_removed_when_the_application_cannot_be_loaded(self, server: StartServer, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "server.pid"
        live = run(server, "app", "-p", str(path), source=versioned.RAISES)
        assert live.process.returncode == 4
        assert not path.exists()

    def test_somebody_elses_file_is_left(self, server: StartServer, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "server.pid"
        live = server("tests.apps.basic", "-p", str(path))
        wait_until(path.exists, 5)
        path.write_text("1\n")
        assert live.stop() == 0
        assert path.read_text() == "1\n"


def _pipes_and_log(pid: int) -> set[str]:
    return {name for name in descriptors_of(pid).values() if "pipe:" in name or "server-0.log" in name}


class TestDaemon:
    """Daemon mode: success and failure are both told to who started it."""

    def test_daemon(self, server: StartServer, tmp_path: pathlib.Path, free_port: int) -> None:
        pid_path, log_path = tmp_path / "daemon.pid", tmp_path / "error.log"
        live = server(
            "tests.apps.basic", "-D", "-p", str(pid_path), "--error-logfile", str(log_path), "-w", "2",
            bind=f"127.0.0.1:{free_port}", listening=False,
        )  # fmt: skip
        assert live.wait_end(10) == 0
        wait_until(pid_path.exists, 5)
        pid = int(pid_path.read_text())
        try:
            assert pid != live.pid
            assert os.getsid(pid) != os.getsid(0)
            assert fetch(free_port).status == 200
            os.kill(pid, signal.SIGWINCH)  # a daemon's workers retire until it is asked for some
            wait_until(lambda: not children_of(pid), 10, "no workers")
            os.kill(pid, signal.SIGHUP)
            wait_until(lambda: len(children_of(pid)) == 2, 10, "workers again")
            assert fetch(free_port).status == 200
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not is_alive(pid), 10)
        finally:
            with contextlib.suppress(ProcessLookupError):  # it has ended, as it should
                os.killpg(os.getpgid(pid), signal.SIGKILL)
        assert not pid_path.exists()
        assert "Listening at" in log_path.read_text()

    def test_daemon_that_cannot_start(self, server: StartServer, tmp_path: pathlib.Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            live = run(server, "tests.apps.basic", "-D", "--error-logfile", "log", bind=f"127.0.0.1:{port}")
        assert live.process.returncode == 1
        assert f"127.0.0.1:{port}" in live.log()
        assert live.log().count("error:") == 1
        assert f"127.0.0.1:{port}" in (tmp_path / "log").read_text()

    @pytest.mark.parametrize(
        ("arguments", "source", "code", "says"),
        [
            ((), "import nothing_of_this_name", 4, "app: cannot be imported: ModuleNotFoundError: .*; see log"),
            (
                ("--preload",),
                "raise ValueError('two\\nlines')",
                4,
                "cannot be imported: ValueError: two lines; see log",
            ),
            ((), "import os\nos._exit(7)", 3, r"Worker \d .*: crashed, exit code 7; see log"),
            (("-t", "0.5"), "import time\ntime.sleep(60)", 3, r"Worker \d .*: not ready within timeout; see log"),
            (("--smoke", "/"), "def application(environ, start_response): raise OSError", 3, "/"),
            (("-p", "/no/such/folder/pid"), "application = print", 1, "pidfile: "),
            (("--error-logfile", "/no/such/folder/log"), "application = print", 1, "/no/such/folder/log"),
        ],
    )
    def test_daemon_whose_application_cannot_start(
        self, server: StartServer, arguments: tuple[str, ...], source: str, code: int, says: str
    ) -> None:
        """The command that started it ends with the server's exit code, and one line says why."""
        live = run(server, "app", "-D", "-w", "2", "--error-logfile", "log", *arguments, source=source)
        (line,) = live.log().splitlines()
        assert line.startswith("wsgicluster: error: ")
        assert re.search(says, line)
        assert live.process.returncode == code

    @pytest.mark.parametrize("extra", [(), ("--preload",), ("--min-ready", "1")])
    def test_daemon_that_takes_long(
        self, server: StartServer, tmp_path: pathlib.Path, free_port: int, extra: tuple[str, ...]
    ) -> None:
        """The command returns when a worker is ready, not before; and holds no pipe of whoever started it."""
        source = (
            "import os, time\nfrom tests.apps.basic import application\n"
            "open('booting', 'w').close()\n"
            "while not os.path.exists('go'): time.sleep(0.02)\n"
        )
        live = server(
            "app", "-D", "-p", "pid", "-w", "2", *extra, source=source, bind=f"127.0.0.1:{free_port}", listening=False
        )
        wait_until((tmp_path / "booting").exists, 10)
        held = _pipes_and_log(live.pid)
        assert live.process.poll() is None
        assert len(held) >= 2, "its log, and what it waits with"
        (tmp_path / "go").touch()
        assert live.wait_end() == 0
        daemon = int((tmp_path / "pid").read_text())
        try:
            assert fetch(free_port).status == 200
            # One that has just been forked has yet to close what is not its own.
            wait_until(lambda: held.isdisjoint(set().union(*map(_pipes_and_log, [daemon, *children_of(daemon)]))), 10)
        finally:
            os.kill(daemon, signal.SIGTERM)
        wait_until(lambda: not is_alive(daemon), 10, "stopped")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_start_of_a_daemon_that_is_cancelled(
        self, server: StartServer, tmp_path: pathlib.Path, number: signal.Signals
    ) -> None:
        source = "import time\nopen('booting', 'w').close()\ntime.sleep(60)\n"
        live = server("app", "-D", "-p", "pid", source=source, listening=False)
        wait_until((tmp_path / "booting").exists, 10)
        daemon = int((tmp_path / "pid").read_text())
        live.send(number)
        assert live.wait_end() == 128 + number
        assert "the start was cancelled" in live.log()
        wait_until(lambda: not is_alive(daemon), 5, "stopped")
        assert not (tmp_path / "pid").exists()

    def test_daemon_that_is_stopped_while_it_boots(self, server: StartServer, tmp_path: pathlib.Path) -> None:
        source = "import time\nopen('booting', 'w').close()\ntime.sleep(60)\n"
        live = server("app", "-D", "-p", "pid", source=source, listening=False)
        wait_until((tmp_path / "booting").exists, 10)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
        assert live.wait_end() == 1
        assert "has not started: stopped before its first worker was ready" in live.log()


def test_what_a_preloaded_application_has_opened_is_open_in_its_workers(
    server: StartServer, tmp_path: pathlib.Path
) -> None:
    source = """
import os
notes = os.open("notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def application(environ, start_response):
    os.write(notes, b"noted")
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
    live = server("app", "-w", "2", "--preload", source=source)
    assert fetch(live.port).status == 200
    assert (tmp_path / "notes").read_bytes() == b"noted"


def test_the_core_is_named(server: StartServer, tmp_path: pathlib.Path) -> None:
    """A server that runs plain Python without having been asked to says so, and why."""
    found = {}
    for name, environ in (("asked", {"WSGICLUSTER_PURE": "1"}), ("as built", {"WSGICLUSTER_PURE": "0"})):
        live = server("app", "-n", "shop\udcff", source=versioned.good(), environ=environ)
        assert fetch(live.port).status == 200
        found[name] = live.log()
        assert live.stop() == 0
        assert "Traceback" not in live.log()
    assert "(core: plain Python: WSGICLUSTER_PURE is set)" in found["asked"]
    assert "(core: compiled)" in found["as built"] or "The compiled modules cannot be imported" in found["as built"]
    # A checkout in which nothing was built.
    unbuilt = tmp_path / "unbuilt"
    built = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    shutil.copytree(ROOT / "wsgicluster", unbuilt / "wsgicluster", ignore=built)
    live = server("app", environ={"PYTHONPATH": str(unbuilt), "WSGICLUSTER_PURE": "0"})
    live.wait_log(
        r"\[WARNING\] The compiled modules cannot be imported \(No module named 'wsgicluster\.http\._parser'\)"
    )
    live.wait_log(r"Starting wsgicluster .* \(core: plain Python: No module named")
    assert fetch(live.port).status == 200


def test_a_gateways_port_names_what_else_speaks(server: StartServer) -> None:
    live = server("app", "--protocol", "uwsgi", "--log-level", "debug", source=versioned.good())
    with Connection(live.port) as connection:
        connection.ask("/")
        response = connection.response()
    assert response.status == 400
    assert b"received HTTP, expected uwsgi" in response.body
    live.wait_log("400: received HTTP, expected uwsgi")
