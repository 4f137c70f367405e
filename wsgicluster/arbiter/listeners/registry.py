"""Which listening sockets are open, by numbers that stay theirs: each generation has a list of its own.

A socket that two generations listen at is one socket, with one number. What opens one is given as a function.
"""

import contextlib
import dataclasses
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from wsgicluster.arbiter.listeners import matching
from wsgicluster.arbiter.listeners.matching import ListenTarget
from wsgicluster.arbiter.listeners.sockets import Listener
from wsgicluster.arbiter.service.launch import Passed
from wsgicluster.errors import AddressError
from wsgicluster.settings import Address, FdAddress, UnixAddress
from wsgicluster.system.network import address_holders, syn_filter
from wsgicluster.system.network.listen_queues import queue_of

ListenerSet = tuple[tuple[int, socket.socket], ...]
"""Numbers and sockets."""


class Addresses:
    """All open listeners; numbers are never used twice, and are used up from ``first`` on.

    ``is_shared`` says whether another server listens with the same socket.
    """

    def __init__(
        self, log: logging.Logger, first: int = 0, is_shared: Callable[[Passed], bool] = lambda passed: False
    ) -> None:
        self._log = log
        self._is_shared = is_shared
        self._open: dict[int, tuple[Address | None, Listener]] = {}
        self._next = first
        self._has_begun = False

    def open(
        self,
        bind: Sequence[Address],
        make: Callable[[Sequence[ListenTarget]], list[Listener]],
        passed: Sequence[Passed] = (),
    ) -> list[int]:
        """The numbers of listeners at these addresses, those that are open already included.

        Sockets that were ``passed`` on are taken over where they are wanted, and closed where not. Raises
        AddressError when an address cannot be had, and has opened and closed none then.
        """
        present = {listener.passed.fd: number for number, (_, listener) in self._open.items()}
        plan = matching.plan(bind, [*(listener.passed for _, listener in self._open.values()), *passed])
        found = [present.get(target.passed.fd) if target.passed is not None else None for target in plan.targets]
        missing = [target for target, number in zip(plan.targets, found, strict=True) if number is None]
        for target in missing if self._has_begun else ():
            if isinstance(target.address, FdAddress):
                raise AddressError(
                    f"cannot listen on {target.address}: a descriptor can only be taken over at the start"
                )
        if plan.replaces_bind and not self._has_begun:
            self._log.info("The service manager's sockets take the place of bind")
        made = iter(make(missing) if missing else [])
        self._has_begun = True
        # Not before: a new listener must not get the descriptor of one that both servers might have.
        self._close_unused([each for each in plan.unused if each.fd not in present])
        return [
            self._add(target.address, next(made)) if number is None else self._again(number, target.address)
            for target, number in zip(plan.targets, found, strict=True)
        ]

    def _close_unused(self, unused: Iterable[Passed]) -> None:
        for each in unused:
            self._log.info("Closed: descriptor %d, passed as %s", each.fd, each.name or each.place or "no name")
            os.close(each.fd)

    def _again(self, number: int, address: Address | None) -> int:
        if isinstance(address, UnixAddress) and self._open[number][0] != address:
            self._log.warning("bind: %s: mode and owner change with a restart only", address)
        return number

    def _add(self, address: Address | None, listener: Listener) -> int:
        number = listener.passed.number
        while number is None or number in self._open:
            number, self._next = self._next, self._next + 1
        listener.passed = dataclasses.replace(listener.passed, number=number)
        self._open[number] = address, listener
        return number

    def numbers(self) -> set[int]:
        """Those of all that are open."""
        return set(self._open)

    def sockets(self, numbers: Iterable[int]) -> ListenerSet:
        """Those with these numbers, in this order."""
        return tuple((number, self._open[number][1].sock) for number in numbers)

    def passed(self) -> list[Passed]:
        """What is passed on to the server after this one: all that are open."""
        return [listener.passed for _, listener in self._open.values()]

    def urls(self, scheme: str, numbers: Iterable[int] | None = None) -> list[str]:
        """Where clients that speak ``scheme`` connect to, for people; of all listeners or those with these numbers."""
        found = self._open.values() if numbers is None else [self._open[number] for number in numbers]
        return [listener.url(scheme) for _, listener in found]

    def queues(self) -> list[dict[str, Any]]:
        """How many connections wait at each listener, and how many may, as far as the system tells."""
        found = []
        for _, listener in self._open.values():
            queue = queue_of(listener.sock)
            if queue is not None:
                found.append({"listener": listener.address, "queue": queue[0], "limit": queue[1]})
        return found

    def say_listening(self, numbers: Iterable[int], scheme: str) -> None:
        """Log where these listen, for clients that speak ``scheme``."""
        for number in numbers:
            listener = self._open[number][1]
            name = f", passed as {listener.passed.name}" if listener.passed.name else ""
            self._log.info("Listening at: %s (%d)%s", listener.url(scheme), os.getpid(), name)

    def shut(self, pids: Collection[int]) -> dict[int, int]:
        """Have the kernel drop new TCP connections, where possible; returns numbers and ports of these listeners.

        The others are left alone: sockets that processes other than those in ``pids`` have open as well, such as
        another server or the one that has passed them on, which keep listening. No client is lost when they are closed
        here.
        """
        ports = {}
        for number, (_, listener) in self._open.items():
            if not self._is_ours(listener) or not _holders(listener.sock) <= set(pids):
                continue
            with contextlib.suppress(OSError):  # not Linux, or not allowed here: a few may be reset in mid-air
                syn_filter.drop_newcomers(listener.sock)
                ports[number] = listener.sock.getsockname()[1]
        return ports

    def _is_ours(self, listener: Listener) -> bool:
        """Is it a TCP socket that only this server is known to have? Not all processes can be inspected."""
        is_tcp = listener.sock.family != socket.AF_UNIX
        return is_tcp and not matching.is_inherited(listener.passed) and not self._is_shared(listener.passed)

    def held(self) -> set[int]:
        """The numbers of those that other processes have open, too."""
        return {number for number, (_, listener) in self._open.items() if _holders(listener.sock) - {os.getpid()}}

    def open_again(self, numbers: Iterable[int]) -> None:
        """Accept new connections again, on listeners that a worker will be slow to close."""
        for number in numbers:
            with contextlib.suppress(OSError):  # they time out, then
                syn_filter.take_newcomers(self._open[number][1].sock)

    def keep(self, wanted: Collection[int]) -> list[str]:
        """Close all others, as far as this process goes; returns their addresses."""
        closed = []
        for number in self.numbers().difference(wanted):
            _, listener = self._open.pop(number)
            closed.append(listener.address)
            try:
                listener.close(remove_file=not self._is_shared(listener.passed))
            except OSError as error:
                self._log.warning("cannot remove the socket file of %s: %s", listener.address, error.strerror)
        return closed


def _holders(sock: socket.socket) -> set[int]:
    return set(address_holders.pids({str(os.fstat(sock.fileno()).st_ino)}))
