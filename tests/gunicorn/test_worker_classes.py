"""Worker classes that were written for Gunicorn: what they override is called, or refused with a remedy."""

import importlib
import os
import pathlib
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import StartServer, children_of, is_alive, wait_until
from tests.gunicorn.real_gunicorn import RealGunicorn
from tests.live.client import fetch
from wsgicluster.gunicorn.imports import importable
from wsgicluster.gunicorn.workers import GunicornSyncWorker

CLASS = """
import os
from gunicorn.workers.{module} import {base} as Base


class Own(Base):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.mine = "mine"

    def init_process(self):
        self.log.info("init %s %s", self.mine, self.cfg.proc_name)
        super().init_process()

    def patch(self):
        super().patch()
        self.log.info("patched")

    def init_signals(self):
        super().init_signals()
        self.log.info("signals %s", self.alive)

    def handle_exit(self, sig, frame):
        self.log.info("exit %d", os.getpid())
        self.alive = False

    def handle_quit(self, sig, frame):
        self.log.info("quit %d", os.getpid())
        super().handle_quit(sig, frame)

    def handle_abort(self, sig, frame):
        self.log.info("abort %d", os.getpid())
        raise ValueError("of the class")
"""

SOURCE = """
import os

def application(environ, start_response):
    if environ["PATH_INFO"] == "/fork" and (pid := os.fork()) == 0:
        os.kill(os.getpid(), 15)
        os._exit(7)
    status = os.WTERMSIG(os.waitpid(pid, 0)[1]) if environ["PATH_INFO"] == "/fork" else 0
    start_response("200 OK", [])
    return [f"{os.getpid()} {status}".encode()]
"""

CLASSES = (("sync", "SyncWorker"), ("gthread", "ThreadWorker"), ("ggevent", "GeventWorker"))


@pytest.mark.live
@pytest.mark.parametrize(("module", "base"), CLASSES)
def test_what_is_overridden_is_called(server: StartServer, tmp_path: pathlib.Path, module: str, base: str) -> None:
    if module == "ggevent":
        pytest.importorskip("gevent")
    (tmp_path / "own.py").write_text(CLASS.format(module=module, base=base))
    live = server("app", "-k", "own.Own", "-n", "shop", "--threads", "2", source=SOURCE)

    def worker_after(before: int) -> int:
        def found() -> int:
            pid = int(fetch(live.port).body.split()[0])
            return 0 if pid == before else pid

        return wait_until(found, 10, "another worker serves")

    first = worker_after(0)
    assert "init mine shop" in live.log()
    assert "signals True" in live.log()
    assert ("patched" in live.log()) is (module == "ggevent")
    # A process that the application forks is no worker: the class's method is not called in it.
    assert fetch(live.port, "/fork").body.split()[1] == b"15"
    before = first
    for number, word in ((signal.SIGTERM, "exit"), (signal.SIGQUIT, "quit"), (signal.SIGABRT, "abort")):
        os.kill(before, number)
        wait_until(lambda before=before: not is_alive(before), 10, "the worker has ended")  # type: ignore[misc]
        assert live.log().count(f"{word} {before}") == 1
        before = worker_after(before)
    assert live.log().count("init mine shop") >= 4
    assert "the handler of SIGABRT failed" in live.log()
    assert live.log().count("] exit ") == 1  # that of the first one
    assert children_of(live.pid)
    assert live.stop() == 0
    assert f"] exit {before}" in live.log()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def handle_request(self, *a): pass", "overrides handle_request .* pre_request and post_request"),
        ("def notify(self): pass\n    def run(self): pass", "overrides notify, run of Gunicorn's worker"),
        ("def __init__(self, age, ppid, sockets, app, timeout, cfg, log): pass", r"have it take \*args"),
    ],
)
def test_what_would_not_be_called_is_refused(body: str, said: str) -> None:
    with importable(), pytest.raises(TypeError, match=said):
        exec(f"from gunicorn.workers.sync import SyncWorker\nclass Own(SyncWorker):\n    {body}\n", {})


def test_a_worker_of_another_framework_is_told_as_that() -> None:
    names = {"__name__": "uvicorn.workers"}
    with importable(), pytest.raises(TypeError, match=r"UvicornWorker .* needs a server for that, such as uvicorn"):
        exec("from gunicorn.workers.base import Worker\nclass UvicornWorker(Worker):\n    def run(self): pass\n", names)


@pytest.fixture
def beside_gunicorn(real_gunicorn: RealGunicorn) -> Iterator[None]:
    """Gunicorn can be imported, as in an environment that has both."""
    folder = next(real_gunicorn.python.parent.parent.glob("lib/python3*/site-packages"))
    sys.path.append(str(folder))
    yield
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "gunicorn"]:
        del sys.modules[name]


@pytest.mark.usefixtures("beside_gunicorn")
def test_classes_are_derived_from_ours_where_gunicorn_is_installed() -> None:
    theirs = importlib.import_module("gunicorn.workers")
    for _ in range(2):
        with importable():
            assert importlib.import_module("gunicorn.workers.sync").SyncWorker is GunicornSyncWorker
            # The rest is the real one.
            assert importlib.import_module("gunicorn.glogging").__file__ is not None
        assert sys.modules["gunicorn.workers"] is theirs
