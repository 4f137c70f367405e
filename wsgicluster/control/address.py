"""Where a server's control socket is, and which servers of this machine have one.

On Linux it is an abstract Unix socket, whose name holds the arbiter's pid: it needs no folder, and disappears with its
owner, however that ends. Elsewhere it is a file beside the pid file. Abstract names are those of a network namespace,
which containers may share that each have a process of the same pid (those of a Kubernetes pod, say): the names hold the
pid namespace, too, so that each container sees its own servers only.
"""

import contextlib
import os
import re
import socket
import struct
import sys

ABSTRACT = sys.platform == "linux"
_PREFIX = "wsgicluster/"
_BACKLOG = 64
_UNIX_SOCKETS = "/proc/net/unix"
_LISTENS = "00010000"
"""The flag ``__SO_ACCEPTCON`` as /proc/net/unix shows it (proc_pid_net(5))."""
_CREDENTIALS = struct.Struct("3i")
"""``struct ucred`` of unix(7): pid, user, group."""


def namespace() -> int:
    """The number of this process's pid namespace; 0 where the system does not tell."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def address_of(pid: int, pidfile: str | None = None, *, abstract: bool = ABSTRACT) -> str | None:
    """The control socket of the arbiter with this pid; None where there can be none, for want of a pid file."""
    if abstract:
        return f"\0{_PREFIX}{namespace()}/{pid}"
    return f"{os.path.abspath(pidfile)}.control" if pidfile else None


def pid_in(address: str) -> int | None:
    """The pid that an abstract address of ours names; None for any other."""
    found = re.fullmatch(rf"\0{_PREFIX}\d+/(\d+)", address)
    return int(found[1]) if found else None


def shown(address: str) -> str:
    """An address as messages name it: ``@wsgicluster/4026531836/4711`` or a path."""
    return address.replace("\0", "@", 1)


def open_listener(address: str, mode: int = 0o600) -> socket.socket:
    """Listen at the address, not waiting in accept. Raises OSError.

    A file has these permissions, and is replaced if no process listens there any more.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not address.startswith("\0"):
            _remove_stale(address)
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(address)
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as trial:
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except FileNotFoundError:
            # As usual. Whatever else is wrong shows when the socket is bound.
            pass


def close_listener(listener: socket.socket) -> None:
    """Stop listening, and remove the file if there is one."""
    name = listener.getsockname()
    listener.close()
    if isinstance(name, str) and name:
        with contextlib.suppress(FileNotFoundError):  # removed by another process
            os.unlink(name)


def servers() -> list[int]:
    """The pids of all arbiters that have an abstract control socket here, in order; empty where that is unknown."""
    try:
        with open(_UNIX_SOCKETS, encoding="utf-8", errors="replace") as table:
            return pids_in(table.read(), namespace())
    except OSError:
        return []


def pids_in(table: str, space: int) -> list[int]:
    """Those of the listening sockets of ours, in this pid namespace, in a text like /proc/net/unix."""
    found = re.findall(rf"^\S+ \S+ \S+ {_LISTENS} .* @{_PREFIX}{space}/(\d+)$", table, re.MULTILINE)
    return sorted({int(pid) for pid in found})


def peer_of(sock: socket.socket) -> tuple[int, int] | None:
    """The pid and the user of the process at the other end when it connected; None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    pid, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, user
