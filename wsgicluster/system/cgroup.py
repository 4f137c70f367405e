"""What a control group allows: processors, memory, and how often it was enforced."""

import math
import os
import pathlib
import re
from collections.abc import Iterator

_NO_LIMIT_BYTES = 1 << 60
"""Control groups of version 1 write a huge page-rounded number where there is no limit."""


def _mounts(root: pathlib.Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """Root within the file system, mount point, kind and options of each control group file system."""
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        words, kinds = fields.split(), rest.split()
        if len(words) >= 5 and len(kinds) >= 3 and kinds[0] in ("cgroup", "cgroup2"):
            yield words[3], words[4], kinds[0], kinds[2].split(",")


def _groups(controller: str, root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Folders of this process's control groups that may limit ``controller``: its own first, then those above."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = list(_mounts(root))
    except OSError:
        # Not Linux, or a sandbox that hides it.
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        for inner, point, kind, options in mounts:
            if names == "":
                fits = kind == "cgroup2"
            else:
                fits = controller in names.split(",") and controller in options
            if fits:
                # In a container the mount shows a part of the tree only, whose top is `inner`.
                within = path == inner or path.startswith(inner.rstrip("/") + "/")
                top = root / point.lstrip("/")
                group = top / os.path.relpath(path, inner) if within else top
                yield group
                while group != top and top in group.parents:
                    group = group.parent
                    yield group


def _words(path: pathlib.Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        # This version or level of control groups has no such file.
        return []


def _lines(path: pathlib.Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text().splitlines()]
    except OSError:
        # The same.
        return []


def usable_processors(root: str = "/") -> int:
    """Processors that this process may use, by affinity and by the control group's quota; at least 1."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    for group in _groups("cpu", pathlib.Path(root)):
        quota_period = _words(group / "cpu.max")
        if not quota_period:
            quota_period = _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        if len(quota_period) == 2 and all(word.isdigit() for word in quota_period) and int(quota_period[1]):
            count = min(count, math.ceil(int(quota_period[0]) / int(quota_period[1])))
    return max(1, count)


def memory_limit_bytes(root: str = "/") -> int:
    """Memory that this process and its siblings may use: the control group's limit, or the machine's memory."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for group in _groups("memory", pathlib.Path(root)):
        for name in ("memory.max", "memory.limit_in_bytes"):
            for word in _words(group / name):
                if word.isdigit() and 0 < int(word) < _NO_LIMIT_BYTES:
                    limit = min(limit, int(word))
    return limit


def available_memory_bytes(root: str = "/") -> int | None:
    """Memory that may still be used, by this machine and this control group; None where nothing tells.

    Pages of files that the kernel could drop count as available.
    """
    found = []
    for line in _lines(pathlib.Path(root) / "proc/meminfo"):
        if line[:1] == ["MemAvailable:"]:
            found.append(int(line[1]) * 1024)
    for group in _groups("memory", pathlib.Path(root)):
        for most, used, droppable in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, usage = _words(group / most), _words(group / used)
            if not (limit and usage and limit[0].isdigit() and int(limit[0]) < _NO_LIMIT_BYTES):
                continue
            dropped = [int(line[1]) for line in _lines(group / "memory.stat") if line[:1] == [droppable]]
            found.append(max(0, int(limit[0]) - int(usage[0]) + sum(dropped)))
    return min(found, default=None)


def out_of_memory_kills(root: str = "/") -> int | None:
    """How many processes of this control group the kernel has killed for want of memory; None if it does not tell."""
    for group in _groups("memory", pathlib.Path(root)):
        for name in ("memory.events", "memory.oom_control"):
            found = re.search(r"\boom_kill (\d+)", " ".join(_words(group / name)))
            if found:
                return int(found[1])
    return None
