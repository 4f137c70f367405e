"""The descriptors that are left to a worker, and which of its connections make room when they run out.

A part of the limit is left to the application: a worker whose clients hold all descriptors could accept no other,
and the requests that it has could open no file.
"""

import os
import resource
import socket
import sys
from collections.abc import Iterable
from os import close as _close  # gevent replaces it by one that closes only when its hub runs

from wsgicluster.system import descriptors
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.intake.policy import KEPT_SILENT_S, RESERVED_PART, SILENT_S
from wsgicluster.worker.transport.transport import has_input

UNLIMITED = 2**31 - 1
"""More than any descriptor."""

_INFO_BYTES = 56
_LAST_SENT, _LAST_RECEIVED = slice(44, 48), slice(52, 56)
"""Where Linux's ``struct tcp_info`` has ``tcpi_last_data_sent`` and ``tcpi_last_data_recv``, in milliseconds."""

_WAITING = frozenset((ConnectionState.OPENING, ConnectionState.READING, ConnectionState.LINGERING))


class Descriptors:
    """One process's limit on open files, and a spare descriptor to be freed for one that must not be missed.

    Descriptors are scarce when as many as ``mark`` are open. As the system gives out the lowest number that is free, so
    many are open at least when that is ``mark`` or above.
    """

    def __init__(self) -> None:
        self.reserved = 0
        self.mark = UNLIMITED
        self._spare = -1
        self._read_limit()

    def _read_limit(self) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # It may have been changed since, by the application or from outside.
        self.reserved = 0 if limit == resource.RLIM_INFINITY else max(1, limit // RESERVED_PART)
        self.mark = min(limit - self.reserved, UNLIMITED) if self.reserved else UNLIMITED

    def excess(self) -> int:
        """How many more than ``mark`` are open; below zero while there is room."""
        self._read_limit()
        return descriptors.count_descriptors() - self.mark

    def keep_spare(self) -> bool:
        """Open the spare one unless it is open; False when that is not possible now."""
        if self._spare < 0:
            self._spare = _open()
        return self._spare >= 0

    def free_spare(self) -> None:
        """Close the spare one, so that a number is free for what comes next."""
        if self._spare >= 0:
            _close(self._spare)
            self._spare = -1


def _open() -> int:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1  # none left in this process or in the system, or no such device in this folder's world


def silent_longest(connections: Iterable[Connection], most: int, now: float) -> list[Connection]:
    """The connections that make room first: no request of theirs runs, and they have been silent for long.

    Those that have never had a response come before those that have, and then the longest silence first.
    """
    waiting = [each for each in connections if each.state in _WAITING]
    least_s = {False: SILENT_S, True: SILENT_S if all(each.kept for each in waiting) else KEPT_SILENT_S}
    found = []
    for connection in waiting:
        silence = silence_s(connection, now)
        if silence >= least_s[connection.kept] and not has_input(connection.transport):
            found.append((connection.kept, -silence, id(connection), connection))
    return [connection for *_, connection in sorted(found)[:most]]


def silence_s(connection: Connection, now: float) -> float:
    """For how long nothing has passed on a connection.

    Where the kernel does not tell, as it does for TCP, it is taken from the deadline; 0.0 if that has been moved.
    """
    try:
        info = connection.transport.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return connection.reading.silence_s(now)
    return min(int.from_bytes(info[part], sys.byteorder) for part in (_LAST_SENT, _LAST_RECEIVED)) / 1000
