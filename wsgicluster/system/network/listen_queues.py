"""How many connections wait in the kernel to be accepted, are about to, or were dropped because too many did.

``root`` is the folder that stands for ``/``.
"""

import contextlib
import os
import pathlib
import socket
import struct
from collections.abc import Iterable

from wsgicluster.system.network.address_holders import lines_of

_TCP_QUEUE = struct.Struct("=24xII")
"""In the ``struct tcp_info`` of a socket that listens, ``tcpi_unacked`` and ``tcpi_sacked`` are length and limit."""

# As netlink.h, sock_diag.h and unix_diag.h of Linux have them.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1
_SHOW_QUEUE = 0x10
_QUEUE = 4
_ANY_COOKIE = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_UNIX_REQUEST = struct.Struct("=BBHIIIII")
_UNIX_MESSAGE_BYTES = 16
_ATTRIBUTE = struct.Struct("=HH")
_TWO_NUMBERS = struct.Struct("=II")
_NETSTAT = "/proc/net/netstat"
_SYN_RECEIVED = "03"


def queue_of(sock: socket.socket) -> tuple[int, int] | None:
    """How many connections wait at a socket that listens, and how many may; None where the system does not tell."""
    try:
        if sock.family == socket.AF_UNIX:
            return _unix_queue(os.fstat(sock.fileno()).st_ino)
        found = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_QUEUE.size)
    except OSError:
        return None
    if len(found) < _TCP_QUEUE.size:
        return None
    length, limit = _TCP_QUEUE.unpack(found)
    return length, limit


def waiting_connections(sock: socket.socket) -> int:
    """How many connections wait at a socket that listens; 0 where the system does not tell."""
    queue = queue_of(sock)
    return queue[0] if queue else 0


def handshakes(ports: Iterable[int], root: str = "/") -> int:
    """How many clients have begun to connect to one of these TCP ports, and are not in the accept queue yet."""
    ends = tuple(f":{port:04X}" for port in ports)
    lines = [
        words
        for name in ("tcp", "tcp6")
        for words in (lines_of(pathlib.Path(root) / "proc/net" / name) if ends else ())
    ]
    return sum(len(words) > 3 and words[3] == _SYN_RECEIVED and words[1].endswith(ends) for words in lines)


def _unix_queue(inode: int) -> tuple[int, int] | None:
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, _SHOW_QUEUE, _ANY_COOKIE, _ANY_COOKIE)
    head = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST, 0, 0)
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)) as kernel:
        kernel.setblocking(False)
        kernel.send(head + request)
        answer = kernel.recv(4096)  # it is there: the kernel responds before the send returns
    kind = _HEADER.unpack_from(answer)[1]
    at = _HEADER.size + _UNIX_MESSAGE_BYTES
    while kind == _SOCK_DIAG_BY_FAMILY and at + _ATTRIBUTE.size <= len(answer):
        size, name = _ATTRIBUTE.unpack_from(answer, at)
        if size < _ATTRIBUTE.size:
            return None
        if name == _QUEUE and size >= _ATTRIBUTE.size + _TWO_NUMBERS.size:
            length, limit = _TWO_NUMBERS.unpack_from(answer, at + _ATTRIBUTE.size)
            return length, limit
        at += (size + 3) & ~3
    return None


def listen_overflows(path: str = _NETSTAT) -> int | None:
    """Connections that the kernel has dropped, in this network namespace, because a queue was full; None: unknown."""
    try:
        with open(path, encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        found = dict(zip(names.split(), values.split(), strict=False))
        if "ListenOverflows" in found:
            return int(found["ListenOverflows"])
    return None
