"""Programs that watch a server's workers from outside and replace them by signals, as Airflow 2 does its web server."""

import pathlib
import signal

import psutil
import pytest

from tests.conftest import ROOT, LiveServer, wait_until
from tests.gunicorn.real_gunicorn import RealGunicorn
from tests.gunicorn.servers import GunicornServer

pytestmark = pytest.mark.live

READY = "[ready] "

CONFIGURATION = """
import setproctitle

def post_worker_init(worker):
    setproctitle.setproctitle("[ready] " + setproctitle.getproctitle())
"""

APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"x"]
"""


class Monitor:
    """Adds new workers, and removes old ones, until none is left of those that were there at the beginning.

    It knows the process of the server and nothing else: its children are workers, and those whose titles begin with the
    word are ready. It does nothing while one of them is not.
    """

    def __init__(self, pid: int, expected: int, batch: int) -> None:
        self._server = psutil.Process(pid)
        self._expected, self._batch = expected, batch
        self._refreshes = 1

    def workers(self) -> list[int]:
        """Every child of the server."""
        return sorted(child.pid for child in self._server.children())

    def ready(self) -> list[int]:
        """Those that say so."""
        found = []
        for child in self._server.children():
            try:
                if READY in "".join(child.cmdline()[:1]):
                    found.append(child.pid)
            except psutil.NoSuchProcess:
                continue
        return sorted(found)

    def check(self) -> bool:
        """One look, and what follows from it; whether nothing is left to do."""
        running = len(self.workers())
        if len(self.ready()) < running:
            return False
        if running > self._expected:
            for _ in range(min(running - self._expected, self._batch)):
                self._signal_and_wait(signal.SIGTTOU, -1)
        elif running < self._expected:
            self._signal_and_wait(signal.SIGTTIN, +1)
        elif self._refreshes:
            self._refreshes -= 1
            for _ in range(self._batch):
                self._signal_and_wait(signal.SIGTTIN, +1)
        else:
            return True
        return False

    def _signal_and_wait(self, number: signal.Signals, change: int) -> None:
        wanted = len(self.workers()) + change
        self._server.send_signal(number)
        wait_until(lambda: len(self.workers()) == wanted, 15, f"{wanted} workers")


def follow(live: LiveServer, expected: int, batch: int) -> None:
    """All workers are new after as many batches as there are workers, and there was never another number between."""
    monitor = Monitor(live.pid, expected, batch)
    wait_until(lambda: len(monitor.ready()) == len(monitor.workers()) == expected, 15, "all workers are ready")
    before = monitor.ready()
    wait_until(monitor.check, 15, "one refresh is over")
    after = monitor.ready()
    assert len(after) == expected
    assert not set(before[:batch]) & set(after), "the oldest ones go"


@pytest.mark.parametrize("kind", [LiveServer, GunicornServer])
def test_workers_are_rolled_from_outside(
    real_gunicorn: RealGunicorn, tmp_path: pathlib.Path, kind: type[LiveServer]
) -> None:
    assert real_gunicorn.program.exists()
    (tmp_path / "app.py").write_text(APPLICATION)
    package = tmp_path / "airflow" / "www"
    package.mkdir(parents=True)
    (package / "gunicorn_config.py").write_text(CONFIGURATION)
    arguments = "-b 127.0.0.1:0 -w 2 --name airflow-webserver -c python:airflow.www.gunicorn_config --preload app:app"
    live = kind(tmp_path, arguments.split(), {"HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{tmp_path}"})
    try:
        live.start()
        follow(live, 2, 2)
        assert live.stop() == 0
        assert live.said("preload_app: turned off, because Airflow 2 takes each child") is (kind is LiveServer)
    finally:
        live.end()
        print(live.whole_log())
