"""Which listening sockets are open, by numbers that stay theirs: each generation has a list of its own.

A socket that two generations listen at is one socket, with one number. What opens one is given as a function.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Sequence

from wsgicluster import process
from wsgicluster.arbiter import holders
from wsgicluster.arbiter.listeners import Listener
from wsgicluster.errors import AddressError
from wsgicluster.settings import Address, FdAddress, TcpAddress, UnixAddress

Places = tuple[tuple[int, socket.socket], ...]
"""The numbers and sockets of one generation."""


class Addresses:
    """All open listeners; numbers are never used twice."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._open: dict[int, tuple[Address, Listener]] = {}
        self._next = 0

    def open(self, addresses: Iterable[Address], make: Callable[[Sequence[Address]], list[Listener]]) -> list[int]:
        """The numbers of listeners at these addresses, those that are open already included.

        Raises AddressError when one cannot be had, and has opened none then.
        """
        wanted = list(addresses)
        numbers = self._found(wanted)
        missing = [address for address, number in zip(wanted, numbers, strict=True) if number is None]
        if self._next:
            for address in missing:
                if isinstance(address, FdAddress):
                    raise AddressError(f"cannot listen on {address}: a descriptor can only be taken over at the start")
        made = iter(make(missing) if missing else [])
        return [self._add(a, next(made)) if n is None else n for a, n in zip(wanted, numbers, strict=True)]

    def _found(self, wanted: Sequence[Address]) -> list[int | None]:
        free = list(self._open)
        found: list[int | None] = []
        for address in wanted:
            number = next((number for number in free if _is_same(self._open[number][0], address)), None)
            if number is not None:
                free.remove(number)
                if self._open[number][0] != address:
                    self._log.warning("bind: %s: mode and owner change with a restart only", address)
            found.append(number)
        return found

    def _add(self, address: Address, listener: Listener) -> int:
        number, self._next = self._next, self._next + 1
        self._open[number] = address, listener
        return number

    def numbers(self) -> set[int]:
        """Those of all that are open."""
        return set(self._open)

    def places(self, numbers: Iterable[int]) -> Places:
        """The sockets with these numbers."""
        return tuple((number, self._open[number][1].sock) for number in numbers)

    def shown(self, number: int) -> str:
        """The address as clients know it."""
        return self._open[number][1].address

    def shut(self, family: Collection[int]) -> dict[int, int]:
        """Let no newcomer in by TCP, where that is possible; answers the numbers of these listeners, and their ports.

        The others are left alone: sockets that processes outside the ``family`` have as well, such as another server
        or whoever has passed them on, who go on listening. Nobody is lost with those, when they are closed here.
        """
        ports = {}
        for number, (address, listener) in self._open.items():
            if not isinstance(address, TcpAddress) or not _holders(listener.sock) <= set(family):
                continue
            with contextlib.suppress(OSError):  # not Linux, or not allowed here: a few may be reset in mid-air
                process.drop_newcomers(listener.sock)
                ports[number] = listener.sock.getsockname()[1]
        return ports

    def held(self) -> set[int]:
        """The numbers of those that other processes have open, too."""
        return {number for number, (_, listener) in self._open.items() if _holders(listener.sock) - {os.getpid()}}

    def open_again(self, numbers: Iterable[int]) -> None:
        """Let newcomers in again, by listeners that somebody will be slow to let go of."""
        for number in numbers:
            with contextlib.suppress(OSError):  # they time out, then
                process.take_newcomers(self._open[number][1].sock)

    def keep(self, wanted: Collection[int]) -> list[str]:
        """Close all others, as far as this process goes; answers their addresses."""
        closed = []
        for number in self.numbers().difference(wanted):
            _, listener = self._open.pop(number)
            closed.append(listener.address)
            try:
                listener.close()
            except OSError as error:
                self._log.warning("cannot remove the socket file of %s: %s", listener.address, error.strerror)
        return closed


def _holders(sock: socket.socket) -> set[int]:
    return set(holders.pids({str(os.fstat(sock.fileno()).st_ino)}))


def _is_same(present: Address, wanted: Address) -> bool:
    if isinstance(present, UnixAddress) and isinstance(wanted, UnixAddress):
        return present.path == wanted.path
    return present == wanted
