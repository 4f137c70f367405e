"""The step into the background: a process of its own session, without a terminal.

The process that was started waits until the first worker is ready, so that its caller sees whether the server
serves: an error is shown on the terminal, with the server's exit code.
"""

import contextlib
import json
import os
import select
import signal
import sys
from typing import NoReturn

from wsgicluster.errors import ServerError

REMARK_S = 5.0
"""After so long the process that was started prints what it waits for."""

_TEXT_CHARACTERS = 1000


class Background:
    """The way back to the process that was started; made by `enter` in the daemon."""

    def __init__(self, tell: int) -> None:
        self._tell = tell

    @classmethod
    def enter(cls) -> "Background":
        """Continue in the background; in the process that was started, wait for news and exit."""
        hear, tell = os.pipe()
        if os.fork() != 0:
            os.close(tell)
            _wait(hear)
        os.close(hear)
        os.setsid()
        # Not the leader of its session, it can never get a terminal again.
        if os.fork() != 0:
            os._exit(0)
        background = cls(tell)
        background._send({"pid": os.getpid()})
        return background

    def detach(self, keep_output: bool = False, keep_files: bool = False) -> None:
        """Close the terminal; ``keep_output`` says that standard output and error lead to a log by now.

        ``keep_files`` says that these are kept where they are not a terminal.
        """
        null = os.open(os.devnull, os.O_RDWR)
        kept = {1, 2} if keep_output else {number for number in (1, 2) if keep_files and not os.isatty(number)}
        for number in {0, 1, 2} - kept:
            os.dup2(null, number)
        os.close(null)

    def succeeded(self) -> None:
        """The first worker is ready: let the process that was started exit with 0."""
        self._end(0, "")

    def failed(self, code: int, reason: str) -> None:
        """Have the process that was started show the reason, on one line, and exit with this code."""
        self._end(code, " ".join(reason.split())[:_TEXT_CHARACTERS])

    def _end(self, code: int, text: str) -> None:
        self._send({"code": code, "text": text})
        os.close(self._tell)

    def _send(self, news: dict[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was ended while it waited
            os.write(self._tell, json.dumps(news).encode() + b"\n")


class _Cancelled(Exception):
    """Ctrl-C, or another request to end, has come while the process that was started waited."""

    def __init__(self, number: int) -> None:
        self.number = number


def _cancel(number: int, _frame: object) -> NoReturn:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
    raise _Cancelled(number)


def _wait(hear: int) -> NoReturn:
    """In the process that was started: wait for the daemon's news, show them and exit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _cancel)
    news: dict[str, object] = {}
    try:
        code, text = _hear(hear, news)
    except _Cancelled as cancelled:
        # Nothing is to be left of a start that was cancelled.
        pid = news.get("pid")
        if isinstance(pid, int):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        while os.read(hear, 4096):
            pass
        code, text = 128 + cancelled.number, "the start was cancelled, and the server has been stopped"
    if text:
        sys.stderr.write(f"wsgicluster: error: {text}\n")
    sys.stderr.flush()
    os._exit(code)


def _hear(hear: int, news: dict[str, object]) -> tuple[int, str]:
    """Exit code and error to show, once there are any; ``news`` is what has been reported so far."""
    received, remark_s = b"", REMARK_S
    while "code" not in news:
        if remark_s and not select.select([hear], [], [], remark_s)[0]:
            sys.stderr.write(
                f"wsgicluster: waiting for the first worker of the server in the background (pid {news.get('pid')}); "
                "Ctrl-C stops it\n"
            )
            sys.stderr.flush()
            remark_s = 0.0
        data = os.read(hear, 4096)
        if not data:
            return ServerError.exit_code, "the server ended before its first worker was ready; see its log"
        received += data
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            news.update(json.loads(line))
    return int(str(news["code"])), str(news["text"])
