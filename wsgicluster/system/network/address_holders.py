"""Who holds an address that is taken.

``root`` is the folder that stands for ``/``.
"""

import os
import pathlib

_LISTEN = "0A"


def lines_of(path: pathlib.Path) -> list[list[str]]:
    """The words of each line of a table in ``/proc/net`` but its heading; empty where there is none."""
    try:
        return [line.split() for line in path.read_text("utf-8", "replace").splitlines()[1:]]
    except OSError:
        # No /proc, or no such protocol in this kernel.
        return []


def tcp_inodes(port: int, root: str = "/") -> set[str]:
    """Inodes of the sockets that listen on a TCP port, whatever the address."""
    found = set()
    for name in ("tcp", "tcp6"):
        for words in lines_of(pathlib.Path(root) / "proc/net" / name):
            if len(words) > 9 and words[3] == _LISTEN and words[1].rpartition(":")[2] == f"{port:04X}":
                found.add(words[9])
    return found


def unix_inodes(path: str, root: str = "/") -> set[str]:
    """Inodes of the sockets that are bound to a path."""
    lines = lines_of(pathlib.Path(root) / "proc/net/unix")
    return {words[6] for words in lines if len(words) > 7 and " ".join(words[7:]) == path}


def pids(inodes: set[str], root: str = "/") -> list[int]:
    """Processes that have one of these sockets open, of those that may be looked at."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    proc = os.path.join(root, "proc")
    return sorted(pid for pid in _processes(proc) if _has_one_of(wanted, f"{proc}/{pid}/fd")) if wanted else []


def _processes(proc: str) -> list[int]:
    try:
        return [int(name) for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        # No /proc here.
        return []


def _has_one_of(wanted: set[str], folder: str) -> bool:
    # Text and no paths as objects: a machine may have many thousand descriptors, and a stop goes through all of them.
    try:
        names = os.listdir(folder)
    except OSError:
        # Another user's, or gone meanwhile.
        return False
    for name in names:
        try:
            if os.readlink(f"{folder}/{name}") in wanted:
                return True
        except OSError:
            # Closed meanwhile.
            continue
    return False
