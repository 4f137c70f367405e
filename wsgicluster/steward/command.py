"""Runs a command for each event, which it reads as JSON from its standard input; one command at a time."""

import contextlib
import dataclasses
import json
import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Callable

from wsgicluster.ipc.events import Event, as_json

LIMIT_S = 30.0
PREFIX = "CLUSTER_EVENT"


def variables(event: Event) -> dict[str, str]:
    """The environment variables for an event: its name, and each of its fields that is a text or a number."""
    found = {PREFIX: event.name}
    for field in dataclasses.fields(event):
        value = getattr(event, field.name)
        if isinstance(value, bool):
            found[f"{PREFIX}_{field.name.upper()}"] = str(int(value))
        elif isinstance(value, str | int | float):
            found[f"{PREFIX}_{field.name.upper()}"] = str(value).replace("\0", "")
    return found


class EventCommand:
    """One command, run without a shell; ended with all it has started after ``limit_s`` seconds."""

    def __init__(self, command: str, log: logging.Logger, limit_s: float = LIMIT_S) -> None:
        self._arguments = shlex.split(command)
        self._log = log
        self._limit_s = limit_s

    def deliver(self, event: Event, _wait: Callable[[float], bool]) -> None:
        """Run it for an event; see `EventQueue`."""
        try:
            process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.PIPE,
                env={**os.environ, **variables(event)},
                # So that it can be ended with all that it has started, and Ctrl-C does not reach it.
                start_new_session=True,
            )
        except OSError as error:
            self._log.error("event_exec: %s cannot be run: %s", self._arguments[0], error.strerror)
            return
        try:
            process.communicate(json.dumps(as_json(event)).encode(), self._limit_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):  # it has exited just now
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._log.error("event_exec: ended after %g s (event %s)", self._limit_s, event.name)
            return
        if process.returncode:
            self._log.warning("event_exec: exit code %d (event %s)", process.returncode, event.name)
