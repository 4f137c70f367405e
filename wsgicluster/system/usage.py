"""What a process uses: processor time, memory, descriptors, threads."""

from typing import TYPE_CHECKING

from wsgicluster.dataclass import dataclass

if TYPE_CHECKING:
    import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, children not included; None where the system does not tell, or does not tell this user."""

    cpu_seconds: float | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    """Its share: memory that several processes have in common is divided by their number."""
    open_fds: int | None = None
    threads: int | None = None


def prepare() -> None:
    """Import what reading takes, in a process that is about to drop the right to read the files of packages."""
    import psutil  # noqa: F401


def usage_of(pid: int, *, with_share: bool = True) -> Usage:
    """What ``pid`` uses now; ``with_share`` has the kernel walk through all of its memory, which takes milliseconds."""
    # Late, as everywhere: a start does not need it, and it takes a tenth of one.
    import psutil

    try:
        found = psutil.Process(pid)
        with found.oneshot():
            times = found.cpu_times()
            return Usage(
                cpu_seconds=times.user + times.system,
                rss_bytes=found.memory_info().rss,
                pss_bytes=_share_of(found) if with_share else None,
                open_fds=_descriptors_of(found),
                threads=found.num_threads(),
            )
    except psutil.Error:
        # It has exited, or belongs to another user.
        return Usage()


def _share_of(found: "psutil.Process") -> int | None:
    import psutil

    try:
        return getattr(found.memory_full_info(), "pss", None)
    except (psutil.Error, OSError):
        return None


def _descriptors_of(found: "psutil.Process") -> int | None:
    import psutil

    try:
        return found.num_fds()
    except (psutil.Error, OSError, AttributeError):
        return None
