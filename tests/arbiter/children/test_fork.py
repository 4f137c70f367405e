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
