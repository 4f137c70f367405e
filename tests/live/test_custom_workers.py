"""Workers of a class of the user's own, as real processes."""

import pathlib
import re

import pytest

from tests.conftest import StartServer
from tests.live.client import fetch

pytestmark = pytest.mark.live

KIND = """
import os, pathlib, sys
from wsgicluster.worker import {base} as Base

def note(what):
    with open("steps", "a") as file:
        print(what, os.getpid(), "app" in sys.modules, file=file)

note("import")

class Own(Base):
    @classmethod
    def setup(cls):
        super().setup()
        note("setup")

    @classmethod
    def after_fork(cls):
        super().after_fork()
        note("after_fork")

    def begin(self):
        note("begin")

    def call_application(self, environ, start_response):
        environ["own.slot"] = self.slot
        return super().call_application(environ, start_response)

    def end(self):
        note("end")
"""

SOURCE = """
import os

def application(environ, start_response):
    start_response("200 OK", [])
    return [f"{os.getpid()} {environ['own.slot']}".encode()]
"""


@pytest.mark.parametrize("base", ["SyncWorker", "ThreadWorker", "GeventWorker"])
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_each_step_is_its_own(server: StartServer, tmp_path: pathlib.Path, base: str, preload: tuple[str, ...]) -> None:
    if base == "GeventWorker":
        pytest.importorskip("gevent")
    (tmp_path / "own.py").write_text(KIND.format(base=base))
    live = server("app", "-k", "own.Own", *preload, source=SOURCE)
    worker, slot = fetch(live.port).body.decode().split()
    assert slot == "1"
    assert live.stop() == 0
    steps = [line.split() for line in (tmp_path / "steps").read_text().splitlines()]
    names = ["import", "setup", "after_fork", "begin", "end"] if preload else ["import", "setup", "begin", "end"]
    assert [name for name, _, _ in steps] == names
    # The application is imported after the set-up, and the arbiter imports neither.
    assert [imported for _, _, imported in steps] == ["False"] * 2 + ["True"] * (len(names) - 2)
    assert {pid for _, pid, _ in steps[2:]} == {worker}
    assert str(live.pid) not in {pid for _, pid, _ in steps}
    assert "Traceback" not in live.log()


def test_a_class_that_cannot_be_used_is_told_in_one_line(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "own.py").write_text("import collections\n\nclass Own(collections.OrderedDict):\n    pass\n")
    live = server("app", "-k", "own.Own", source=SOURCE, listening=False)
    assert live.wait_end() == 4
    assert re.search(r"worker_class: own.Own: is no worker; derive it from SyncWorker", live.log())
    assert "Traceback" not in live.log()
    live = server("app", "-k", "own.Owl", "--check-config", listening=False)
    assert live.wait_end() == 4
    assert "wsgicluster: error: worker_class: own.Owl: own has no 'Owl'; it has Own" in live.log()


def test_a_class_in_the_configuration_file(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "own.py").write_text(KIND.format(base="SyncWorker"))
    (tmp_path / "wsgicluster.conf.py").write_text("from own import Own\nworker_class = Own\n")
    live = server("app", source=SOURCE)
    assert fetch(live.port).body.endswith(b" 1")
    assert live.stop() == 0


ONLY_IN_A_GREENLET = """
import gevent

def application(environ, start_response):
    gevent.spawn(gevent.sleep, 0.01).join()
    start_response("200 OK" if gevent.getcurrent().parent is gevent.get_hub() else "500 Main", [])
    return [b"x"]
"""


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_a_class_derived_from_gevents_rehearses_in_a_greenlet(
    server: StartServer, tmp_path: pathlib.Path, preload: tuple[str, ...]
) -> None:
    pytest.importorskip("gevent")
    (tmp_path / "own.py").write_text(KIND.format(base="GeventWorker"))
    live = server("app", "-k", "own.Own", *preload, "--smoke", "/", source=ONLY_IN_A_GREENLET)
    live.wait_log("worker 1: the application answers: /")
    assert fetch(live.port).status == 200
    assert live.stop() == 0
