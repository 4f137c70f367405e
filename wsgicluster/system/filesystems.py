"""Which file system a path is on, and which folder is in memory."""

import os
import pathlib
import tempfile

_SHARED_MEMORY = "/dev/shm"
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "shm"})


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
