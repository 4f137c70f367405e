"""Workers of a class of the user's own, as real processes."""

import pathlib
import re

import pytest

from tests.conftest import StartServer
from tests.live.client import Connection, fetch

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
    assert re.search(r"worker_class: own.Own: is not a worker class; derive it from SyncWorker", live.log())
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
    live.wait_log("worker 1: smoke test passed: /")
    assert fetch(live.port).status == 200
    assert live.stop() == 0


OURS = """
_access _accept _adopting _adopts _asked_at _cleared_at _counters _decide_at _deferred _drain _drain_step
_error_stream _evicted _facts _free _full_at _hold _hold_again_at _listeners _logs _look_at _looks _lost
_may_over_admit _numbers _on_named_request _over_admitted _paused _pool _reader_class _record _recycling
_refusals _relief _resume _scarce _shed _take _take_over _templates _trust abandon adopt admission answer
arrivals aside assignment begin_drain broken call_soon capacity channel complete connection_class connections
context cycle date descriptors drain entrance exchange facts fast_path flush_logs hand_off_send has_room held
hooks ids kind last_here limits listen listening loop loop_class may_keep multithread offer_to_sibling
on_request open_body orphaned parent places policy queued received_bytes recycling refused rescue run runner
running saturated serve signals slow_s state storage submit timing turn_away upload_folder wait_for_client
waiting waits withdraw write_logs
""".split()
"""Names of attributes and methods that workers have, or have had."""

TAKES_ALL_NAMES = """
from wsgicluster.worker import {base}

class Own({base}):
    def begin(self):
        for name in {names}:
            setattr(self, name, "the user's own")

    def end(self):
        for name in {names}:
            assert getattr(self, name) == "the user's own", name
        self.log.warning("still the user's own")

def application(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""


@pytest.mark.parametrize("base", ["SyncWorker", "ThreadWorker", "GeventWorker"])
def test_no_attribute_of_theirs_is_one_of_the_workers(server: StartServer, base: str) -> None:
    if base == "GeventWorker":
        pytest.importorskip("gevent")
    source = TAKES_ALL_NAMES.format(base=base, names=OURS)
    live = server("app", "-k", "app:Own", "--request-id", "make", "--queue-timeout", "5", source=source)
    for _ in range(2):
        with Connection(live.port) as client:
            assert [client.exchange("/").body for _ in range(2)] == [b"served"] * 2
    assert live.stop() == 0
    assert "still the user's own" in live.log()
    assert "Traceback" not in live.log()
