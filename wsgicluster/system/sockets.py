"""What the kernel shows of sockets: who holds an address that is taken, and how many clients wait at a listener.

Functions that read ``/proc`` take ``root``, the folder that stands for ``/``.
"""

import os
import pathlib
import socket
import struct
from collections.abc import Iterable

_LISTEN = "0A"
_SYN_RECEIVED = "03"

_TCP_INFO_BYTES = 104
_TCP_UNACKED = struct.Struct("=24xI")

# linux/netlink.h, linux/sock_diag.h and linux/unix_diag.h.
_NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST = 1
_NETLINK_HEAD = struct.Struct("=IHHII")
_UNIX_DIAG_REQUEST = struct.Struct("=BBHIIIII")
_UNIX_DIAG_MESSAGE_BYTES = 16
_ALL_STATES = _NO_COOKIE = 0xFFFFFFFF
_SHOW_QUEUE = 0x10
_ATTRIBUTE, _QUEUE = struct.Struct("=HH"), struct.Struct("=II")
_QUEUE_ATTRIBUTE = 4
_DIAG_S = 0.1
"""The kernel responds at once; the arbiter must not wait for it in any case."""


def _lines(path: pathlib.Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text("utf-8", "replace").splitlines()[1:]]
    except OSError:
        # No /proc, or no such protocol in this kernel.
        return []


def tcp_inodes(port: int, root: str = "/") -> set[str]:
    """Inodes of the sockets that listen on a TCP port, whatever the address."""
    found = set()
    for name in ("tcp", "tcp6"):
        for words in _lines(pathlib.Path(root) / "proc/net" / name):
            if len(words) > 9 and words[3] == _LISTEN and words[1].rpartition(":")[2] == f"{port:04X}":
                found.add(words[9])
    return found


def handshakes(ports: Iterable[int], root: str = "/") -> int:
    """How many clients have begun to connect to one of these TCP ports, and are not in the accept queue yet."""
    ends = tuple(f":{port:04X}" for port in ports)
    lines = [
        words for name in ("tcp", "tcp6") for words in (_lines(pathlib.Path(root) / "proc/net" / name) if ends else ())
    ]
    return sum(len(words) > 3 and words[3] == _SYN_RECEIVED and words[1].endswith(ends) for words in lines)


def waiting_connections(sock: socket.socket) -> int:
    """How many connections wait in the queue of a listener to be accepted; 0 where the kernel does not tell."""
    try:
        if sock.family == socket.AF_UNIX:
            return _waiting_at_unix(os.fstat(sock.fileno()).st_ino)
        # linux/tcp.h: of a listener, tcpi_unacked is the length of its queue.
        return int(_TCP_UNACKED.unpack_from(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES))[0])
    except (OSError, struct.error):
        # Another kernel than Linux, or one without that module.
        return 0


def _waiting_at_unix(inode: int) -> int:
    """The same of a Unix socket, of which only sock_diag(7) tells."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_DIAG_S)
        wanted = _UNIX_DIAG_REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, inode, _SHOW_QUEUE, _NO_COOKIE, _NO_COOKIE)
        netlink.send(_NETLINK_HEAD.pack(_NETLINK_HEAD.size + len(wanted), _BY_FAMILY, _REQUEST, 0, 0) + wanted)
        answer = netlink.recv(4096)
    if _NETLINK_HEAD.unpack_from(answer)[1] != _BY_FAMILY:
        return 0
    at = _NETLINK_HEAD.size + _UNIX_DIAG_MESSAGE_BYTES
    while at + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, at)
        if kind == _QUEUE_ATTRIBUTE:
            return int(_QUEUE.unpack_from(answer, at + _ATTRIBUTE.size)[0])
        at += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return 0


def unix_inodes(path: str, root: str = "/") -> set[str]:
    """Inodes of the sockets that are bound to a path."""
    lines = _lines(pathlib.Path(root) / "proc/net/unix")
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
