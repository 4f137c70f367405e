"""Runs wsgiclusterctl for a server within the process of the tests: a tenth of a second for each run is saved.

Tests that send it signals, or read while it writes, start it as a process.
"""

import contextlib
import io
import signal
import types
from collections.abc import Iterator

from tests.conftest import LiveServer
from wsgicluster.ctl.command import main

LONGEST_S = 90.0
"""Waits of the command itself are shorter."""


class Finished:
    """What one run has returned and written."""

    def __init__(self, returncode: int, stdout: str, stderr: str) -> None:
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Has a run that never ends fail its test, and not stop all others."""

    def too_long(_number: int, _frame: types.FrameType | None) -> None:
        raise AssertionError(f"wsgiclusterctl has not ended within {LONGEST_S:g} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def ctl(live: LiveServer, *arguments: str) -> Finished:
    """Run one command for a server, in the main thread."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), _limited():
        try:
            code = main(["-n", str(live.pid), *arguments])
        except SystemExit as end:  # of argparse
            code = end.code if isinstance(end.code, int) else 1
    return Finished(code, out.getvalue(), errors.getvalue())
