"""The checks of ``wsgicluster --doctor`` for the command that a running server was started with."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from wsgicluster.control.protocol import ControlError, ErrorCode

_TAKEN = ("LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=", "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=")
"""What a service manager has passed to the server, and to no other process."""


def environment(block: bytes) -> dict[str, str]:
    """The variables in ``/proc/PID/environ``, but for those that are the server's alone."""
    entries = [os.fsdecode(entry) for entry in block.split(b"\0") if b"=" in entry]
    pairs = [entry.partition("=") for entry in entries if not entry.startswith((*_TAKEN, "WSGICLUSTER_UPGRADE="))]
    return {name: value for name, _, value in pairs if name}


def examine_start(launch: Mapping[str, Any]) -> bool:
    """Run them, with the folder and environment of the server, and print what they print; True without findings.

    Raises ControlError where they cannot be run.
    """
    try:
        with open(f"/proc/{launch['pid']}/environ", "rb") as file:
            environ = environment(file.read())
        sys.stdout.flush()
        done = subprocess.run([*launch["command"], "--doctor"], cwd=launch["directory"], env=environ, check=False)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        message = f"the server's command cannot be run again: {reason}; run it by hand with --doctor"
        raise ControlError(ErrorCode.FAILED, message) from error
    return done.returncode == 0
