"""The example with three hosts, in short: real namespaces, HAProxy and Redis, and what is left of it afterwards."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from examples.three_hosts.drill import PROGRAMS, Plan, run_drill
from examples.three_hosts.network import NotPossible, check_possible
from tests.conftest import ROOT, wait_until

pytestmark = pytest.mark.live

COMMAND = [sys.executable, "-m", "examples.three_hosts"]
NAMESPACES = pathlib.Path("/run/netns")
HOSTS = 7
"""Three for the web, the switch, Redis, the proxy, the clients."""


def namespaces_of(pid: int) -> list[str]:
    return [path.name for path in NAMESPACES.glob(f"three-hosts-{pid}-*")]


@pytest.fixture
def possible() -> None:
    try:
        check_possible(*PROGRAMS)
    except NotPossible as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("possible")
def test_nothing_is_lost_that_need_not_be() -> None:
    said: list[str] = []
    outcome = run_drill(Plan(pause_s=0.3, rolled=1), said.append)
    assert outcome.faults() == [], "\n".join(said)
    assert len(outcome.steps) == len(said) == 9
    assert all(step.figures.sent for step in outcome.steps)
    assert outcome.runs.count > 5


def begun(folder: pathlib.Path) -> subprocess.Popen[bytes]:
    """The command, once all of its hosts are there; what it says is in a file called log."""
    with (folder / "log").open("wb") as file:
        environ = {"TMPDIR": str(folder), "PATH": os.environ["PATH"]}
        process = subprocess.Popen(COMMAND, cwd=ROOT, stdout=file, stderr=file, env=environ)
    wait_until(lambda: len(namespaces_of(process.pid)) == HOSTS, 20, "all namespaces are there")
    return process


@pytest.mark.usefixtures("possible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_it_is_interrupted(number: signal.Signals, tmp_path: pathlib.Path) -> None:
    process = begun(tmp_path)
    process.send_signal(number)
    assert process.wait(30) == 130
    assert (tmp_path / "log").read_text() == "three_hosts: interrupted; all is cleared up\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert namespaces_of(process.pid) == []


@pytest.mark.usefixtures("possible")
def test_the_next_run_clears_up_after_one_that_was_killed(tmp_path: pathlib.Path) -> None:
    killed = begun(tmp_path)
    killed.kill()
    killed.wait(30)
    following = begun(tmp_path)
    assert namespaces_of(killed.pid) == []
    following.send_signal(signal.SIGINT)
    assert following.wait(30) == 130
    assert namespaces_of(following.pid) == []


def test_what_this_machine_lacks_is_said_in_one_line(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", *COMMAND],
        cwd=ROOT, env={"PATH": "/usr/bin"}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
