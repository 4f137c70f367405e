"""Where the error log of a server can be read, or why it cannot, with what to do."""

import os
import re
import stat
from collections.abc import Mapping
from typing import Any

from wsgicluster.control.protocol import ControlError, ErrorCode

_CONTAINERS = (
    ("var/run/secrets/kubernetes.io", "kubectl logs POD"),
    (".dockerenv", "docker logs CONTAINER"),
    ("run/.containerenv", "podman logs CONTAINER"),
)
"""What is there in containers of each kind, and what shows their logs outside of them. In Docker's there may also be
what Kubernetes has put there."""
_UNIT = re.compile(r"/([^/\n]+\.service)$", re.MULTILINE)


def log_path(launch: Mapping[str, Any], root: str = "/") -> str:
    """The file; ``launch`` is the result of that command, ``root`` stands for ``/``. Raises ControlError."""
    about = launch["error_log"]
    if about["path"] is not None:
        return str(about["path"])
    if about["descriptor"] is None:
        raise ControlError(
            ErrorCode.FAILED, "logconfig_dict or another setting says where the error log goes, and names no file"
        )
    link = os.path.join(root, f"proc/{launch['pid']}/fd/{about['descriptor']}")
    try:
        mode, path = os.stat(link).st_mode, os.readlink(link)
    except OSError:  # no Linux, or another container's process
        mode, path = 0, ""
    if stat.S_ISREG(mode):
        return path if os.path.exists(path) else link
    raise ControlError(
        ErrorCode.FAILED,
        f"the error log goes to standard error, which is {_kind(mode, path)} and cannot be read here; "
        f"{_remedy(launch['pid'], root)}",
    )


def _kind(mode: int, path: str) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return path or "no file"


def _remedy(pid: int, root: str) -> str:
    otherwise = "start the server with --error-logfile FILE"
    process = os.path.join(root, f"proc/{pid}")
    for name, command in _CONTAINERS:
        # Its own root: this command may run outside of the container.
        if os.path.exists(os.path.join(process, "root", name)):
            return f"see {command}, outside of the container, or {otherwise}"
    try:
        with open(os.path.join(process, "cgroup"), encoding="utf-8", errors="replace") as file:
            unit = _UNIT.search(file.read())
    except OSError:
        unit = None
    return f"see journalctl -u {unit[1]}, or {otherwise}" if unit else otherwise
