"""What a server looks at and opens before it has a child, and what it says about that."""

import logging
import os
from collections.abc import Sequence

from wsgicluster import process
from wsgicluster.arbiter import inheritance, surroundings
from wsgicluster.arbiter.listeners import Listener, Owner, Queue, backlog_limit, open_listeners
from wsgicluster.arbiter.origin import Passed
from wsgicluster.cluster.assignment import HAND_OFF_FORMAT
from wsgicluster.settings import Settings


def look_around(log: logging.Logger) -> None:
    """Remark on surroundings that will do harm later."""
    remark = surroundings.deaf_parent(os.getppid(), process.title(1))
    if remark:
        log.warning("%s", remark)


def listen(settings: Settings, passed: Sequence[Passed], log: logging.Logger) -> list[Listener]:
    """Open or take over all listeners, and close what nobody wants of what was passed on. Raises AddressError."""
    owner = Owner(settings.user, settings.group) if os.geteuid() == 0 else Owner()
    plan = inheritance.plan(settings.bind, passed)
    if plan.replaces_bind:
        log.info("The service manager's sockets take the place of bind")
    listeners = open_listeners(plan.places, Queue(settings.backlog, settings.defer_accept), owner)
    # Not before: a new listener must not get the number of one that both servers might have.
    for unused in plan.unused:
        log.info("Closed: descriptor %d, passed as %s", unused.fd, unused.name or unused.place or "no name")
        os.close(unused.fd)
    for listener in listeners:
        name = f", passed as {listener.passed.name}" if listener.passed.name else ""
        log.info("Listening at: %s (%d)%s", listener.url(settings.scheme), os.getpid(), name)
    limit = backlog_limit()
    if limit is not None and limit < settings.backlog:
        log.warning("backlog: the kernel grants %d, not %d; see net.core.somaxconn", limit, settings.backlog)
    return listeners


def hand_off_kind(settings: Settings) -> str:
    """What the packets on the hand-off socket look like and mean; two servers with the same may share one."""
    return f"{HAND_OFF_FORMAT} {settings.protocol} {'tls' if settings.has_tls else 'plain'}"
