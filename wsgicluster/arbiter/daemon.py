"""The step into the background: a process of its own session, without a terminal.

The process that was started waits until the server listens, so that whoever started
it sees whether it did: an error is shown on the terminal, with its exit code.
"""

import json
import os
import sys
from typing import NoReturn

from wsgicluster.errors import ServerError


class Background:
    """The way back to the process that was started; made by `enter` in the daemon."""

    def __init__(self, tell: int) -> None:
        self._tell = tell

    @classmethod
    def enter(cls) -> "Background":
        """Go on in the background; in the process that was started, wait for news and exit."""
        hear, tell = os.pipe()
        if os.fork() != 0:
            os.close(tell)
            _wait(hear)
        os.close(hear)
        os.setsid()
        # Not the leader of its session, it can never get a terminal again.
        if os.fork() != 0:
            os._exit(0)
        return cls(tell)

    def failed(self, error: ServerError) -> NoReturn:
        """Hand the error to the process that was started; it shows it and exits with its code."""
        self._send(error.exit_code, str(error))
        os._exit(error.exit_code)

    def succeeded(self, keep_output: bool) -> None:
        """Let the process that was started exit with 0, and let go of the terminal.

        ``keep_output`` says that standard output and error lead to a log by now.
        """
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0,) if keep_output else (0, 1, 2):
            os.dup2(null, number)
        os.close(null)
        self._send(0, "")

    def _send(self, code: int, text: str) -> None:
        with os.fdopen(self._tell, "w", encoding="utf-8") as pipe:
            json.dump([code, text], pipe)


def _wait(hear: int) -> NoReturn:
    with os.fdopen(hear, encoding="utf-8") as pipe:
        news = pipe.read()
    code, text = json.loads(news) if news else (1, "the server ended before it listened; see its log")
    if text:
        sys.stderr.write(f"wsgicluster: error: {text}\n")
    sys.stderr.flush()
    os._exit(code)
