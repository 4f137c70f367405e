"""What wsgiclusterctl does beyond watching and steering: units of systemd, logs, profiles, memory, findings."""

import os
import pathlib
import shlex
import sys

import pytest

from tests.conftest import LiveServer, StartServer
from tests.live.test_control import ctl

pytestmark = pytest.mark.live

APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.fixture
def live(server: StartServer) -> LiveServer:
    found = server("app:app", "-w", "2", source=APP)
    found.wait_workers(2)
    return found


def test_the_unit_of_a_server_has_its_command(live: LiveServer) -> None:
    found = ctl(live, "systemd")
    assert found.returncode == 0, found.stderr
    lines = dict(line.partition("=")[::2] for line in found.stdout.splitlines() if "=" in line)
    words = shlex.split(lines["ExecStart"])
    assert words == [sys.executable, "-m", "wsgicluster", *live.arguments]
    assert pathlib.Path(lines["WorkingDirectory"]) == live.folder
    assert lines["TimeoutStopSec"] == "40"
    assert str(live.environ["PATH"]) not in found.stdout
    assert ("User" in lines) == (os.geteuid() != 0)


def test_one_reload_has_a_smoke_test_of_its_own(live: LiveServer) -> None:
    source = APP.replace('start_response("200', 'environ["PATH_INFO"] == "/broken" and 1 / 0\n    start_response("200')
    (live.folder / "app.py").write_text(source)
    broken = ctl(live, "reload", "--wait", "--smoke", "/,/broken")
    assert broken.returncode == 1
    assert "ZeroDivisionError" in broken.stderr
    assert "GET /broken" in broken.stderr
    assert ctl(live, "get", "smoke").stdout == "\n", "the workers that serve have no smoke test"
    passed = ctl(live, "reload", "--wait", "--smoke", "/")
    assert passed.returncode == 0, passed.stderr
    live.wait_log("smoke test passed: /")
    assert ctl(live, "get", "smoke").stdout == "/\n"
    assert ctl(live, "reload", "--wait").returncode == 0
    assert ctl(live, "get", "smoke").stdout == "\n"
    wrong = ctl(live, "reload", "--smoke", "login")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), wrong.stderr
    assert "/login" in wrong.stderr


def test_a_smoke_test_is_refused_where_it_would_not_be_made(server: StartServer) -> None:
    live = server("app:app", "--reload", source=APP)
    live.wait_log("Started: 1 worker serves")
    refused = ctl(live, "reload", "--smoke", "/")
    assert refused.returncode == 1
    assert refused.stderr == (
        "wsgiclusterctl: error: smoke is off with the setting reload, because each worker reports its errors itself\n"
    )


def test_a_slot_is_drained_by_a_replacement(live: LiveServer) -> None:
    first = ctl(live, "pid", "2").stdout
    found = ctl(live, "drain", "2", "--wait")
    assert found.stdout == "slot 2: replaced\n", found.stderr
    assert ctl(live, "pid", "2").stdout not in ("", first)
