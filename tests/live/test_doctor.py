"""``--doctor`` as a process: applications that do everything wrong, that cannot be loaded, and a good one."""

import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.conftest import ROOT, is_alive, is_passed_on, wait_until
from wsgicluster.doctor.examination import FINDINGS

pytestmark = pytest.mark.live

EVERYTHING_WRONG = """\
import asyncio, os, signal, socket, sqlite3, subprocess, threading, time
print("hello", flush=True)
database = sqlite3.connect("shop.db"); database.execute("create table goods (name)")
LOCK = threading.Lock(); LOCK.acquire()
class Pool:
    def __init__(self):
        self.lock = threading.RLock(); self.lock.acquire()
pool = Pool()
listener = socket.create_server(("127.0.0.1", 0))
connection = socket.create_connection(listener.getsockname())
thread = threading.Thread(target=time.sleep, args=(1000,), name="poller", daemon=True)
thread.start()
child = subprocess.Popen(["sleep", "1234"])
print("child", child.pid, flush=True)
def stop(number, frame): ...
signal.signal(signal.SIGTERM, stop)
loop = asyncio.new_event_loop()
pipe = os.pipe()
import flask
application = flask.Flask(__name__)
application.debug = True
"""

GOOD = "def application(environ, start_response):\n    return []\n"


def examine(
    folder: pathlib.Path, source: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    (folder / "app.py").write_text(source)
    given = {name: value for name, value in os.environ.items() if is_passed_on(name)}
    return subprocess.run(
        [sys.executable, "-m", "wsgicluster", "--doctor", "app", *arguments],
        cwd=folder,
        env={**given, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_everything_wrong(tmp_path: pathlib.Path) -> None:
    environ = {"WSGICLUSTER_TIMOUT": "1"}
    done = examine(tmp_path, EVERYTHING_WRONG, "--preload", "-w", "2", "--keep-alive", "5", environ=environ)
    assert done.returncode == FINDINGS
    lines = done.stdout.splitlines()
    for expected in [
        rf"preload_app: the SQLite database {tmp_path}/shop.db \(app.py:3\) is opened",
        r"preload_app: a socket that listens at 127.0.0.1:\d+ \(app.py:9\) is opened",
        r"preload_app: a connection to 127.0.0.1:\d+ \(app.py:10\) is opened",
        r"preload_app: a pipe is opened",
        r"preload_app: an event loop of asyncio is created",
        r"preload_app: the thread poller \(app.py:12\) is started",
        r"preload_app: app.LOCK is locked",
        r"preload_app: app.Pool\(\).lock is locked",
        r"application: the process sleep 1234 \(app.py:13\) is started",
        r"signals: the application handles SIGTERM by app.stop \(app.py:15\)",
        r"application: Flask's debug mode is on",
        r"keepalive: 5 s is shorter",
        r"environment: WSGICLUSTER_TIMOUT: no such setting; did you mean WSGICLUSTER_TIMEOUT\?",
        r"\d+ findings$",
    ]:
        assert sum(bool(re.match(expected, line)) for line in lines) == 1, (expected, done.stdout)
    assert lines[-1] == f"{len(lines) - 1} findings"
    # What the application prints stands apart, and nothing that it has started outlives the child.
    assert "application prints: hello\n" in done.stderr
    found = re.search(r"^application prints: child (\d+)$", done.stderr, re.MULTILINE)
    assert found
    assert wait_until(lambda: not pathlib.Path(f"/proc/{found[1]}").exists(), 10, "the child is gone")


def test_a_good_one(tmp_path: pathlib.Path) -> None:
    # Findings on the machine are not the application's.
    done = examine(tmp_path, GOOD, "--print-config")
    assert not [line for line in done.stdout.splitlines() if line.startswith(("application:", "preload_app:"))]
    assert re.search(r"^timeout += 30 ", done.stdout, re.MULTILINE)
    last = done.stdout.splitlines()[-1]
    assert (done.returncode, last) == (0, "no findings") or (done.returncode == FINDINGS and "finding" in last)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("source", "says", "prints"),
    [
        ("raise KeyError('x')", "application: app: cannot be imported: KeyError: 'x'; correct it", "Traceback"),
        ("import os\nos._exit(7)", "application: the process that loaded it exited with code 7", ""),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
            "application: the process that loaded it was killed by SIGSEGV",
            "",
        ),
        (
            # A process that is forked keeps the pipes open, and is not waited for.
            "import os, time\ndef nap():\n    time.sleep(1000)\nos.fork()\nnap()",
            "application: it was not loaded within timeout (2 s)",
            "line 3 in nap",
        ),
        (
            "async def application(scope, receive, send): ...",
            "application: app: is an ASGI application (async def)",
            "",
        ),
    ],
    ids=["raises", "exits", "crashes", "hangs", "asgi"],
)
def test_what_cannot_be_served(tmp_path: pathlib.Path, source: str, says: str, prints: str) -> None:
    limit = ["-t", "2"] if "timeout" in says else []
    done = examine(tmp_path, source, *limit)
    assert done.returncode == FINDINGS
    assert says in done.stdout
    assert prints in done.stderr


def test_gevent(tmp_path: pathlib.Path) -> None:
    patched = "import gevent.monkey\ngevent.monkey.patch_all()\n" + GOOD
    assert "worker_class: the application calls gevent's monkey.patch_all()" in examine(tmp_path, patched).stdout
    done = examine(tmp_path, GOOD, "-k", "gevent", "--preload")
    assert "worker_class:" not in done.stdout
    assert "preload_app:" not in done.stdout


def test_wrong_settings_are_no_findings(tmp_path: pathlib.Path) -> None:
    done = examine(tmp_path, GOOD, "-w", "-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("wsgicluster: error: command line --workers: workers: '-1'")


def test_interrupted(tmp_path: pathlib.Path) -> None:
    (tmp_path / "app.py").write_text("import os, time\nprint('child', os.getpid(), flush=True)\ntime.sleep(1000)\n")
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "wsgicluster", "--doctor", "app"]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=out, stderr=out)
    try:
        found = wait_until(lambda: re.findall(r"child (\d+)", (tmp_path / "out").read_text()), 20)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not is_alive(int(found[0])), 5, "its child has ended with it")
