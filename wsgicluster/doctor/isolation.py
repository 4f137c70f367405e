"""Inspects an application in a child process, and returns the facts.

The child's output is separated, its time is limited, and it is killed with all processes
that it has started. What is inspected is a function that the caller passes in.
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

from wsgicluster.doctor.facts import Inspected
from wsgicluster.system.signals import DUMP_STACKS

READ_BYTES = 1 << 16
STACKS_S = 1.0
"""How long a child that is late may take to print its stacks."""

_POLL_S = 0.1
_LAST_STANDARD_STREAM = 2


class Fork(Protocol):
    """Starts a child process that runs a function; returns its pid."""

    def __call__(self, run: Callable[[], NoReturn], log: logging.Logger, /) -> int: ...


def run_isolated(
    inspect: Callable[[], Inspected], fork: Fork, show: Callable[[str], object], timeout_s: float
) -> Inspected:
    """The facts that ``inspect`` returns in a child; ``show`` is called with each line that is printed there.

    A child that crashes, or takes longer than ``timeout_s`` (0 for no limit), is a failure of the application.
    Raises OSError when the system has no room for a process.
    """
    result, result_writer = os.pipe()
    output, output_writer = os.pipe()

    def child() -> NoReturn:
        os.close(result)
        os.close(output)
        _inspect_in_child(inspect, result_writer, output_writer)

    try:
        pid = fork(child, logging.getLogger(__name__))
    except OSError:
        for number in (result, output, result_writer, output_writer):
            os.close(number)
        raise
    os.close(result_writer)
    os.close(output_writer)
    try:
        received, in_time = _receive(pid, result, Lines(output, show), timeout_s)
    finally:
        with contextlib.suppress(ProcessLookupError):  # the child exited before it had a group
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # exited
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(result)
        os.close(output)
    if received.endswith("\n"):
        return Inspected.from_json(received)
    if not in_time:
        return Inspected(failure=f"it was not loaded within timeout ({timeout_s:g} s)")
    return Inspected(failure=f"the process that loaded it {_end_text(os.waitstatus_to_exitcode(status))}")


def _inspect_in_child(inspect: Callable[[], Inspected], result: int, output: int) -> NoReturn:
    """The child: from here on the application's code runs."""
    # A group of its own, so that processes of the application are killed with it; and no terminal for a prompt.
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for number, standard in ((null, 0), (output, 1), (output, 2)):
        os.dup2(number, standard)
    for number in (null, output):
        if number > _LAST_STANDARD_STREAM:
            os.close(number)
    faulthandler.register(DUMP_STACKS, file=2, all_threads=True)
    text = inspect().to_json().encode()
    for stream in (sys.stdout, sys.stderr):
        # None, or closed by the application.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    with os.fdopen(result, "wb") as pipe:
        pipe.write(text + b"\n")
    os._exit(0)


def _receive(pid: int, result: int, lines: "Lines", timeout_s: float) -> tuple[str, bool]:
    """The line that the child sends, which may be incomplete, and whether it was in time."""
    received = b""
    deadline = time.monotonic() + timeout_s if timeout_s else math.inf
    in_time = True
    with selectors.DefaultSelector() as selector:
        selector.register(result, selectors.EVENT_READ)
        selector.register(lines, selectors.EVENT_READ)
        # Not to the end of the pipes: processes that the application has forked may keep them open.
        while not received.endswith(b"\n"):
            # Checked first: all that an exited child has sent can be read then.
            ended = _has_ended(pid)
            ready = {chosen.fd for chosen, _ in selector.select(0 if ended else _POLL_S)}
            if lines.number in ready and not lines.read():
                selector.unregister(lines)
            part = os.read(result, READ_BYTES) if result in ready else b""
            received += part
            if ended and not part:
                break
            if result in ready and not part:
                selector.unregister(result)
            if time.monotonic() >= deadline:
                if not in_time:
                    break
                in_time = False
                deadline += STACKS_S
                os.kill(pid, DUMP_STACKS)
    lines.finish()
    return received.decode(), in_time


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Lines:
    """Reads text from a descriptor and passes it on line by line."""

    def __init__(self, number: int, show: Callable[[str], object]) -> None:
        os.set_blocking(number, False)
        self.number = number
        self._show = show
        self._kept = b""

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self.number

    def read(self) -> bool:
        """Read what is available; False at the end."""
        try:
            part = os.read(self.number, READ_BYTES)
        except BlockingIOError:
            return True
        *whole, self._kept = (self._kept + part).split(b"\n")
        for line in whole:
            self._show(line.decode("utf-8", "replace"))
        return bool(part)

    def finish(self) -> None:
        """Pass on what is left; other processes that hold the other end are not waited for."""
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
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal, which has no name
        return f"was killed by signal {-code}"
