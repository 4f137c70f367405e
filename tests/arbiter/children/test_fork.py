"""New children: what they must not inherit."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import logging, os, sys
from wsgicluster.arbiter.children import fork
{before}
def run():
    try:
        sys.stdout.flush()
    finally:
        os._exit(0)
for _ in range(3):
    os.waitpid(fork.fork(run, logging.getLogger()), 0)
{after}
"""


def output(before: str, after: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before, after=after)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_printed_before_is_printed_once() -> None:
    assert output("print('once')", "print('after')") == "once\nafter\n"


@pytest.mark.parametrize(
    "before",
    ["sys.stdout = sys.stderr = None", "sys.stdout.close()", "sys.stdout = open('/dev/full', 'w'); print('lost')"],
)
def test_streams_that_cannot_be_written_keep_nobody(before: str, tmp_path: pathlib.Path) -> None:
    done = tmp_path / "done"
    output(before, f"open({str(done)!r}, 'w').close(); os._exit(0)")
    assert done.exists()


CHILD_THAT_FORKS = """
import logging, os, signal, sys
from wsgicluster.arbiter.children import fork
from wsgicluster.system.signals import HELD
log = logging.getLogger()
def held():
    return HELD <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
def grandchild():
    print("held in it:", held(), flush=True)
    os._exit(0)
def child():
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    sys.stdout.write("once, ")
    os.waitpid(fork.fork(grandchild, log), 0)
    print("held after it:", held(), flush=True)
    os._exit(0)
with fork.together():
    pids = [fork.fork(child, log)]
    os.waitpid(pids[0], 0)
    print("held still:", held())
print("held at the end:", held())
"""


def test_a_child_of_several_forks_as_if_it_was_the_only_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD_THAT_FORKS],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "once, held in it: True",
        "held after it: False",
        "held still: True",
        "held at the end: False",
    ]
