"""The listeners of the admin worker: those of all settings in use, found by the address that these name.

They are listeners like any other, but their clients are not those of the application: workers do not have them, and
sockets of a service manager do not take their place.
"""

import logging
import os
import socket
from collections.abc import Callable, Collection, Sequence

from wsgicluster.arbiter.listeners.registry import Addresses
from wsgicluster.arbiter.listeners.sockets import Backlog, Owner, open_listeners
from wsgicluster.arbiter.service.launch import Passed
from wsgicluster.errors import AddressError
from wsgicluster.settings import Address, Settings

_QUEUE = Backlog(128)
_UMASK = 0o177
"""Only the owner of the file of a Unix socket may connect, unless the address has a mode of its own."""


class AdminAddresses:
    """All that are open; numbers are used up from ``first`` on, ``is_shared`` as in `Addresses`."""

    def __init__(self, log: logging.Logger, first: int, is_shared: Callable[[Passed], bool]) -> None:
        self._log = log
        self._addresses = Addresses(log, first, is_shared)
        self._numbers: dict[Address, int] = {}

    def open(self, settings: Settings, passed: Sequence[Passed] = ()) -> None:
        """Listen where these settings say, if they do, or take over what was ``passed`` on. Raises AddressError."""
        owner = Owner(settings.user, settings.group, _UMASK) if os.geteuid() == 0 else Owner(umask=_UMASK)
        wanted = settings.admin_addresses
        try:
            numbers = self._addresses.open(
                wanted, lambda missing: open_listeners(missing, _QUEUE, owner, "admin"), passed
            )
        except AddressError as error:
            raise AddressError(f"admin: {error}") from error
        for address, number in zip(wanted, numbers, strict=True):
            if self._numbers.get(address) != number:
                self._numbers[address] = number
                (url,) = self._addresses.urls("http" if address == settings.admin else "tcp", [number])
                self._log.info("%s at: %s", "Admin worker" if address == settings.admin else "HAProxy agent", url)

    def sockets(self, settings: Settings) -> tuple[socket.socket, ...]:
        """Where the admin worker of these settings listens, in the order of `Settings.admin_addresses`."""
        numbers = [self._numbers[address] for address in settings.admin_addresses]
        return tuple(sock for _, sock in self._addresses.sockets(numbers))

    def numbers(self) -> set[int]:
        """Those of all that are open."""
        return self._addresses.numbers()

    def passed(self) -> list[Passed]:
        """What is passed on to the server after this one."""
        return self._addresses.passed()

    def close(self) -> None:
        """Close all, as far as this process goes."""
        self._numbers.clear()
        self._addresses.keep(())

    def keep(self, wanted: Collection[Address]) -> None:
        """Close all but those at these addresses, as far as this process goes."""
        gone = [address for address in self._numbers if address not in wanted]
        if not gone:
            return
        for address in gone:
            del self._numbers[address]
        for closed in self._addresses.keep(set(self._numbers.values())):
            self._log.info("No admin worker any more at: %s", closed)
