"""What a server looks at and opens before it has a child, and what it says about that."""

import logging
import os
from collections.abc import Sequence

from wsgicluster import process
from wsgicluster.arbiter import surroundings
from wsgicluster.arbiter.addresses import Addresses
from wsgicluster.arbiter.listeners import Owner, Queue, backlog_limit, open_listeners
from wsgicluster.arbiter.origin import Passed
from wsgicluster.cluster.assignment import HAND_OFF_FORMAT
from wsgicluster.settings import Settings


def look_around(log: logging.Logger) -> None:
    """Remark on surroundings that will do harm later."""
    remark = surroundings.deaf_parent(os.getppid(), process.title(1))
    if remark:
        log.warning("%s", remark)


def open_addresses(settings: Settings, addresses: Addresses, passed: Sequence[Passed] = ()) -> list[int]:
    """The numbers of the listeners that these settings ask for, opened or taken over. Raises AddressError."""
    owner = Owner(settings.user, settings.group) if os.geteuid() == 0 else Owner()
    queue = Queue(settings.backlog, settings.defer_accept)
    return addresses.open(settings.bind, lambda missing: open_listeners(missing, queue, owner), passed)


def listen(settings: Settings, addresses: Addresses, passed: Sequence[Passed], log: logging.Logger) -> list[int]:
    """Open or take over the first listeners, and say so; their numbers. Raises AddressError."""
    numbers = open_addresses(settings, addresses, passed)
    addresses.say_listening(numbers, settings.scheme)
    limit = backlog_limit()
    if limit is not None and limit < settings.backlog:
        log.warning("backlog: the kernel grants %d, not %d; see net.core.somaxconn", limit, settings.backlog)
    return numbers


def most_children(settings: Settings) -> int:
    """How many children there are at a time, as a rule: two generations of workers, and their molds."""
    return 2 * (settings.workers + settings.preload_app)


def first_number(pid: int) -> int:
    """Where a server begins to number what it opens: two of them that share a hand-off socket never meet."""
    return pid << 32


def hand_off_kind(settings: Settings) -> str:
    """What the packets on the hand-off socket look like and mean; two servers with the same may share one."""
    return f"{HAND_OFF_FORMAT} {settings.protocol} {'tls' if settings.has_tls else 'plain'}"
