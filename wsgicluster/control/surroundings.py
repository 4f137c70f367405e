"""What the system says of a running server's processes and of its machine: limits, and queues that were full.

Read from ``/proc`` and from control groups; None for what the system does not tell.
"""

import dataclasses
import os
import re

from wsgicluster.dataclass import dataclass
from wsgicluster.pattern import pattern

_LIMIT = pattern(r"Max open files\s+(\d+)")
_UNLIMITED = 1 << 60
"""Control groups of version 1 have a huge number for no limit."""


@dataclass(frozen=True, slots=True)
class LiveSurroundings:
    """The facts about one server."""

    user: int | None = None
    """The arbiter's."""
    processors: int | None = None
    """That it may use, by its affinity."""
    backlog_limit: int | None = None
    """``net.core.somaxconn``."""
    overflows: int | None = None
    """How often a listen queue was full since its network namespace was made, that of any server there."""
    memory_limit_bytes: int | None = None
    memory_used_bytes: int | None = None
    open_file_limits: dict[int, int] = dataclasses.field(default_factory=dict)
    """By pid, of processes that have such a limit."""


def live_surroundings(arbiter: int, workers: list[int], root: str = "/") -> LiveSurroundings:
    """Those of a server by the pids of its processes; ``root`` stands for ``/``."""
    memory = _memory(arbiter, root)
    limits = {pid: _number(_LIMIT, _read(root, f"proc/{pid}/limits")) for pid in (arbiter, *workers)}
    return LiveSurroundings(
        user=_number(re.compile(r"^Uid:\s+\d+\s+(\d+)", re.MULTILINE), _read(root, f"proc/{arbiter}/status")),
        processors=_processors(arbiter),
        backlog_limit=_number(re.compile(r"(\d+)"), _read(root, f"proc/{arbiter}/root/proc/sys/net/core/somaxconn"))
        or _number(re.compile(r"(\d+)"), _read(root, "proc/sys/net/core/somaxconn")),
        overflows=_overflows(_read(root, f"proc/{arbiter}/net/netstat")),
        memory_limit_bytes=memory[0],
        memory_used_bytes=memory[1],
        open_file_limits={pid: limit for pid, limit in limits.items() if limit is not None},
    )


def _read(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # not Linux, or another user's process, or it has exited
        return ""


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return int(found[1]) if found else None


def _processors(pid: int) -> int | None:
    try:
        return len(os.sched_getaffinity(pid))
    except (AttributeError, OSError):
        return None


def _overflows(text: str) -> int | None:
    """``ListenOverflows`` of the table of names and the table of values that the kernel writes."""
    lines = [line.split() for line in text.splitlines() if line.startswith("TcpExt:")]
    if len(lines) != 2 or "ListenOverflows" not in lines[0]:
        return None
    return int(lines[1][lines[0].index("ListenOverflows")])


def _memory(pid: int, root: str) -> tuple[int | None, int | None]:
    """The limit of the control group of a process, or of one around it, and what that uses."""
    for line in _read(root, f"proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, most, used = "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            folder, most, used = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        while True:
            limit = _read(root, f"{folder}{path}/{most}").strip()
            if limit.isdecimal() and int(limit) < _UNLIMITED:
                found = _read(root, f"{folder}{path}/{used}").strip()
                return int(limit), int(found) if found.isdecimal() else None
            if path in ("", "/"):
                break
            path = path.rpartition("/")[0]
    return None, None
