"""What the system knows of processes: titles, states, start times, resident memory."""

import functools
import os
import pathlib
import sys
from typing import Any

import setproctitle

_PR_SET_CHILD_SUBREAPER = 36
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def open_missing_streams() -> None:
    """Have the null device be those of descriptors 0 to 2 that the process was started without.

    To be called before anything is opened: what is opened later would get their numbers, and whatever an application
    prints would be written to a socket or a log. Raises OSError.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def set_title(role: str, name: str) -> None:
    """Show ``wsgicluster: role [name]`` in process listings."""
    # A name from the command line may have bytes that are not UTF-8, which a title cannot have.
    setproctitle.setproctitle(f"wsgicluster: {role} [{name}]".encode("utf-8", "replace").decode("utf-8"))


def set_child_title(role: str, name: str) -> None:
    """The title of what an application has forked from a process with such a title, and that is none of ours."""
    setproctitle.setproctitle(f"child of {role} [{name}]")


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
    # Late, as everywhere: a start does not need it, and it takes a tenth of one.
    import psutil

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
    import psutil

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


def processor_times_s(pid: int) -> tuple[float, float] | None:
    """User and system time that ``pid`` and the children that it has waited for have taken, in seconds.

    None where ``/proc`` does not tell; it still does of a process that has exited and was not waited for.
    """
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # proc(5): the name may have spaces and brackets; behind it utime, stime, cutime and cstime are fields 14 to 17.
    user, system, child_user, child_system = (int(field) for field in text.rpartition(b")")[2].split()[11:15])
    return (user + child_user) / _TICKS_A_SECOND, (system + child_system) / _TICKS_A_SECOND


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
            import psutil

            self._process = psutil.Process()

    def bytes(self) -> int:
        """How much it is now."""
        if self._statm < 0:
            return int(self._process.memory_info().rss)
        return int(os.pread(self._statm, 256, 0).split()[1]) * _PAGE_BYTES


@functools.cache
def _c_library() -> Any:
    # Once: each library object keeps classes of its own, and a reload would make another one.
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def set_child_subreaper() -> None:
    """Become the parent of all descendants whose own parent has exited; raises OSError where that is not possible."""
    # Late: only preloading needs it, and every worker would carry its memory.
    import ctypes

    prctl = getattr(_c_library(), "prctl", None)
    if prctl is None:
        raise OSError("only Linux lets a process adopt its grandchildren")
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
