"""Starting, and starting again, as Node's tests of its cluster module have it: what no other file of ours tests of it.

The numbers are those of the list in docs/explanation/node.rst.
"""

import json
import os
import pathlib
import re
import shutil
import signal

import pytest

from tests.conftest import StartServer, wait_until
from tests.live.client import Load, fetch
from tests.live.test_events import Noted

pytestmark = pytest.mark.live

SURROUNDINGS = """
import json, os, sys

def app(environ, start_response):
    start_response("200 OK", [])
    found = {name: os.environ.get(name) for name in ("FIRST", "SECOND")}
    return [json.dumps([found, os.getcwd(), sys.argv[1:], __file__]).encode()]
"""

CONFIG = """
chdir = "current"
wsgi_app = "app:app"
raw_env = {raw_env}
{more}
"""


def test_surroundings_are_read_again(server: StartServer, tmp_path: pathlib.Path) -> None:
    """Environment, folder and settings are those of the newest reading; the command line is the server's.

    (Node 8, 9, 13, 14: fork-env, cwd, setup-primary-argv, setup-primary-cumulative)
    """
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "app.py").write_text(SURROUNDINGS)
    current, config = tmp_path / "current", tmp_path / "wsgicluster.conf.py"
    current.symlink_to("one")
    config.write_text(CONFIG.format(raw_env=["FIRST=ours", "SECOND=ours"], more="workers = 2"))
    live = server("--timeout", "17", environ={"FIRST": "inherited"})
    live.wait_workers(2)
    found, folder, argv, path = json.loads(fetch(live.port).body)
    assert found == {"FIRST": "ours", "SECOND": "ours"}
    assert os.path.realpath(folder) == str(tmp_path / "one")
    assert argv == live.arguments
    assert path.startswith(str(current))

    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(current)
    config.write_text(CONFIG.format(raw_env=["THIRD=x"], more=""))
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete: 1 worker serves")
    live.wait_children(1)
    found, folder, argv, _ = json.loads(fetch(live.port).body)
    assert found == {"FIRST": "inherited", "SECOND": None}
    assert os.path.realpath(folder) == str(tmp_path / "two")
    assert argv == live.arguments


def test_a_port_that_needs_a_privilege(server: StartServer) -> None:
    """One line, and no worker. (Node 20: bind-privileged-port, shared-handle-bind-privileged-port)"""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    prefix = ("setpriv", "--inh-caps=-net_bind_service", "--bounding-set=-net_bind_service")
    if first < 2:
        pytest.skip("no port of this system needs a privilege")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    live = server("tests.apps.basic", bind="127.0.0.1:1", prefix=prefix if os.geteuid() == 0 else (), listening=False)
    assert live.wait_end() == 1
    lines = [line for line in live.log().splitlines() if "[INFO]" not in line]
    assert lines == ["wsgicluster: error: cannot listen on 127.0.0.1:1: Permission denied"]


@pytest.mark.parametrize("policy", ["shared", "round-robin"])
def test_a_slot_is_restarted_under_load(server: StartServer, tmp_path: pathlib.Path, policy: str) -> None:
    """Again and again, and no request is lost. (Node 34: server-restart-none, server-restart-rr)"""
    noted = Noted(server, tmp_path, "-w", "2", "--scheduling", policy).started(2)
    with Load(noted.live.port, clients=4, paths=("/",)) as load:
        for restarts in range(1, 6):
            noted.get("ask/restart/2")
            noted.wait(2 + restarts, event="ready", role="worker")
            noted.wait(restarts, event="exit", role="worker")
        seen = len(load.answers)
        wait_until(lambda: len(load.answers) > seen + 20, 10)
    assert load.losses == []
    assert {each["slot"] for each in noted.events(event="exit")} == {2}


def test_the_same_port_again_and_again(server: StartServer, free_port: int) -> None:
    """Also while connections of the last server are still in TIME_WAIT. (Node 66: disconnect)"""
    for _ in range(4):
        live = server("tests.apps.basic", "-w", "2", bind=f"127.0.0.1:{free_port}")
        live.wait_workers(2)
        assert re.match(rb"\d+ \d+", fetch(free_port).body)
        assert live.stop() == 0
