"""Has a child process look at something, and brings back what it has seen.

What the child prints is kept apart, its time is limited, and it is ended with all the
processes it has made. Knows nothing of applications.
"""

import contextlib
import faulthandler
import logging
import math
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn, Protocol

from wsgicluster import process
from wsgicluster.doctor.facts import Application

READ_BYTES = 1 << 16
STACKS_S = 1.0
"""Time for a child that is late to say where it is."""

_LOOK_S = 0.1
_LAST_STANDARD_STREAM = 2


class Fork(Protocol):
    """What makes a child process that runs a function; answers its pid."""

    def __call__(self, run: Callable[[], NoReturn], log: logging.Logger, /) -> int: ...


def visit(look: Callable[[], Application], fork: Fork, show: Callable[[str], object], timeout_s: float) -> Application:
    """What ``look`` sees in a child; ``show`` gets each line that is printed there.

    A child that dies, or takes longer than ``timeout_s`` (0 for no limit), is a failure of the application.
    Raises OSError when the system has no room for a process.
    """
    result, tell = os.pipe()
    output, say = os.pipe()

    def child() -> NoReturn:
        os.close(result)
        os.close(output)
        _live(look, tell, say)

    try:
        pid = fork(child, logging.getLogger(__name__))
    except OSError:
        for number in (result, output, tell, say):
            os.close(number)
        raise
    os.close(tell)
    os.close(say)
    try:
        told, in_time = _listen(pid, result, Lines(output, show), timeout_s)
    finally:
        with contextlib.suppress(ProcessLookupError):  # the child has ended before it had a group
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # ended
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(result)
        os.close(output)
    if told.endswith("\n"):
        return Application.from_json(told)
    if not in_time:
        return Application(failure=f"it was not loaded within timeout ({timeout_s:g} s)")
    return Application(failure=f"the process that loaded it {_end_text(os.waitstatus_to_exitcode(status))}")


def _live(look: Callable[[], Application], tell: int, say: int) -> NoReturn:
    """The child: from here on it is somebody else's code that decides what happens."""
    # A group of its own, so that what the application starts is ended with it; and no terminal to ask at.
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for number, standard in ((null, 0), (say, 1), (say, 2)):
        os.dup2(number, standard)
    for number in (null, say):
        if number > _LAST_STANDARD_STREAM:
            os.close(number)
    faulthandler.register(process.DUMP_SIGNAL, file=2, all_threads=True)
    text = look().to_json().encode()
    for stream in (sys.stdout, sys.stderr):
        # There is none, or the application has closed it.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    with os.fdopen(tell, "wb") as pipe:
        pipe.write(text + b"\n")
    os._exit(0)


def _listen(pid: int, result: int, lines: "Lines", timeout_s: float) -> tuple[str, bool]:
    """What the child tells, a line that may be cut off, and whether it had its time."""
    told = b""
    deadline = time.monotonic() + timeout_s if timeout_s else math.inf
    in_time = True
    with selectors.DefaultSelector() as selector:
        selector.register(result, selectors.EVENT_READ)
        selector.register(lines, selectors.EVENT_READ)
        # Not to the end of the pipes: processes that the application has forked may keep them open.
        while not told.endswith(b"\n"):
            # Asked first: all that it has told is there to be read then.
            ended = _has_ended(pid)
            ready = {chosen.fd for chosen, _ in selector.select(0 if ended else _LOOK_S)}
            if lines.number in ready and not lines.read():
                selector.unregister(lines)
            part = os.read(result, READ_BYTES) if result in ready else b""
            told += part
            if ended and not part:
                break
            if result in ready and not part:
                selector.unregister(result)
            if time.monotonic() >= deadline:
                if not in_time:
                    break
                in_time = False
                deadline += STACKS_S
                os.kill(pid, process.DUMP_SIGNAL)
    lines.rest()
    return told.decode(), in_time


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Lines:
    """A descriptor with text, given on line by line."""

    def __init__(self, number: int, show: Callable[[str], object]) -> None:
        os.set_blocking(number, False)
        self.number = number
        self._show = show
        self._kept = b""

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self.number

    def read(self) -> bool:
        """Take what is there; False at the end."""
        try:
            part = os.read(self.number, READ_BYTES)
        except BlockingIOError:
            return True
        *whole, self._kept = (self._kept + part).split(b"\n")
        for line in whole:
            self._show(line.decode("utf-8", "replace"))
        return bool(part)

    def rest(self) -> None:
        """Show what is still there: whoever else holds the other end is not waited for."""
        while True:
            try:
                part = os.read(self.number, READ_BYTES)
            except BlockingIOError:
                break
            if not part:
                break
            self._kept += part
        for line in self._kept.splitlines():
            self._show(line.decode("utf-8", "replace"))
        self._kept = b""


def _end_text(code: int) -> str:
    if code >= 0:
        return f"left with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal, which has no name
        return f"was ended by signal {-code}"
