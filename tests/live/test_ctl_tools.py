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
