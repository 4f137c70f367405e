"""What a process asks of the operating system about itself: title, privileges, descriptors, memory, processors.

Reads control groups (versions 1 and 2) and ``/proc``; where they are missing, the
answer is the machine's own. Functions that read files take ``root``, the folder
that stands for ``/``. This module knows no setting and no role.
"""

import contextlib
import functools
import math
import os
import pathlib
import pwd
import re
import resource
import signal
import socket
import struct
import tempfile
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import psutil
import setproctitle

from wsgicluster.errors import BootError

DUMP_SIGNAL: int = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2
"""Makes ``faulthandler`` write the stacks of all threads; a real-time signal, which applications hardly use."""

_PR_SET_CHILD_SUBREAPER = 36
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SHARED_MEMORY = "/dev/shm"
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "shm"})
_NO_LIMIT_BYTES = 1 << 60
"""Control groups of version 1 write a huge page-rounded number where there is no limit."""


def set_title(role: str, name: str) -> None:
    """Show ``wsgicluster: role [name]`` in process listings."""
    setproctitle.setproctitle(f"wsgicluster: {role} [{name}]")


def title(pid: int) -> str:
    """The command line or title that process listings show for ``pid``; empty when it cannot be read."""
    try:
        text = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        # Gone meanwhile, not ours to look at, or no /proc here.
        return ""
    return text.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def started_at(pid: int) -> float | None:
    """When ``pid`` was started, in seconds since the epoch, or None when it is not alive."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        # It is there, that is all we may know.
        return 0.0


def child_commands() -> list[str]:
    """Command lines of the processes that this one and its descendants have started, those that have ended left out."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(child.cmdline()))
        except psutil.NoSuchProcess:
            continue
    return found


def state_letter(pid: int) -> str:
    """What ``pid`` is doing, as ``/proc`` has it: R, S, D, T, t or Z; empty when it does not tell."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        # Gone meanwhile, or no /proc here.
        return ""
    return text.rpartition(")")[2].strip()[:1]


class ResidentMemory:
    """Reads the resident memory of the process that makes this object.

    Where the system allows it a descriptor is kept open: a worker that has run out of them still
    has to know how large it is.
    """

    def __init__(self) -> None:
        try:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._statm = -1
            self._process = psutil.Process()

    def bytes(self) -> int:
        """How much it is now."""
        if self._statm < 0:
            return int(self._process.memory_info().rss)
        return int(os.pread(self._statm, 256, 0).split()[1]) * _PAGE_BYTES


def close_descriptors_except(keep: Collection[int]) -> None:
    """Close every descriptor above 2 but those in ``keep``."""
    for number in _open_descriptors():
        if number > 2 and number not in keep:
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
                os.close(number)


def _open_descriptors() -> Iterable[int]:
    # Listed rather than counted up: the limit may be a milliard, and not every libc closes ranges at once.
    try:
        return [int(name) for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")]
    except OSError:
        # So many are open that the listing itself finds no number: then all of them are below the limit.
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


@functools.cache
def _c_library() -> Any:
    # Once: each library object keeps classes of its own, and a reload would make another one.
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def set_child_subreaper() -> None:
    """Become the parent of all descendants whose own parent has gone; raises OSError where that is not possible."""
    # Late: only preloading needs it, and every worker would carry its memory.
    import ctypes

    prctl = getattr(_c_library(), "prctl", None)
    if prctl is None:
        raise OSError("only Linux lets a process adopt its grandchildren")
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def drop_privileges(uid: int, gid: int, initgroups: bool) -> None:
    """Become ``uid`` and ``gid`` for good, supplementary groups included.

    With ``initgroups`` the user's own groups are kept, else none but ``gid``.
    Raises BootError when that is not possible or when a way back is left open.
    """
    if (uid, gid) == (os.geteuid(), os.getegid()) and not (initgroups and os.geteuid() == 0):
        return
    if os.geteuid() != 0:
        raise BootError(f"only root can run workers as user {uid} and group {gid}")
    try:
        os.setgroups([gid])
        if initgroups:
            os.initgroups(pwd.getpwuid(uid).pw_name, gid)
        os.setgid(gid)
        os.setuid(uid)
    except KeyError as error:
        raise BootError(f"initgroups: user {uid} has no name, and so no groups") from error
    except OSError as error:
        raise BootError(f"cannot become user {uid} and group {gid}: {error.strerror}") from error
    if (os.getuid(), os.geteuid(), os.getgid(), os.getegid()) != (uid, uid, gid, gid):
        raise BootError(f"the system did not make this process user {uid} and group {gid}")
    if uid != 0:
        _check_no_way_back()


def _check_no_way_back() -> None:
    # A saved id or a kept capability would let an application become root again; only trying tells.
    for attempt in (os.setuid, os.setgid):
        try:
            attempt(0)
        except PermissionError:
            continue
        raise BootError("root's privileges could be taken up again; check the capabilities of this process")


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


def out_of_memory_kills(root: str = "/") -> int | None:
    """How many processes of this control group the kernel has killed for want of memory; None if it does not tell."""
    for group in _groups("memory", pathlib.Path(root)):
        for name in ("memory.events", "memory.oom_control"):
            found = re.search(r"\boom_kill (\d+)", " ".join(_words(group / name)))
            if found:
                return int(found[1])
    return None


def in_memory_folder(wanted: str | None) -> tuple[str | None, str]:
    """The folder for a small file that is best in memory, and the kind of its file system where it is not.

    None is the system's folder for temporary files; it is the answer where nothing is ``wanted``
    and there is no shared memory that may be written to.
    """
    if wanted is None and file_system(_SHARED_MEMORY) in _IN_MEMORY and os.access(_SHARED_MEMORY, os.W_OK):
        return _SHARED_MEMORY, ""
    kind = file_system(wanted or tempfile.gettempdir())
    return wanted, "" if kind in _IN_MEMORY else kind


def file_system(path: str, root: str = "/") -> str:
    """The kind of file system that ``path`` is on, such as ``tmpfs``; empty where the system does not say."""
    real = os.path.realpath(path)
    best, kind = "", ""
    try:
        lines = (pathlib.Path(root) / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        # Not Linux, or a sandbox that hides it.
        return ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = fields.split()[4].replace("\\040", " ")
        # Of two mounts on one point, the later one is on top.
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    return kind


_NO_NEWCOMERS = (
    (0x30, 0, 0, 13),  # load the byte of the TCP header that holds its flags
    (0x54, 0, 0, 0x12),  # of these, SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # take everything else
)
"""A classic BPF program, as ``struct sock_filter``: code, jump if true, jump if false, operand."""

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27


def drop_newcomers(sock: socket.socket) -> None:
    """Have the kernel drop what begins a new TCP connection to a listener, in whatever process it is open.

    Connections that have begun still come in. Clients whose beginning was dropped try it again, for a second or so
    after which they are refused, or find somebody else who listens. Raises OSError where that is not possible.
    """
    import ctypes

    program = b"".join(struct.pack("=HBBI", *step) for step in _NO_NEWCOMERS)
    buffer = ctypes.create_string_buffer(program, len(program))
    packed = struct.pack("@HP", len(_NO_NEWCOMERS), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, packed)


def take_newcomers(sock: socket.socket) -> None:
    """Undo `drop_newcomers`. Raises OSError."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
