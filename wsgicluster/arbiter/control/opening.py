"""The control socket of a server: opened where it can be, and read by the arbiter's loop."""

import logging
import os
import socket
from collections.abc import Mapping

from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.clock import Clock
from wsgicluster.control import address
from wsgicluster.control.server import ControlServer, Handler
from wsgicluster.settings import Settings

PRIVATE = 0o600


def open_control(
    settings: Settings, inbox: Inbox, handlers: Mapping[str, Handler], clock: Clock, log: logging.Logger
) -> ControlServer:
    """The server's control socket. Without a listener where the settings want none, or the system gives none.

    Nothing but the admin worker depends on it, which needs no listener: a server without one is steered by signals.
    """
    return ControlServer(_listener(settings, log), inbox, handlers, clock, log)


def _listener(settings: Settings, log: logging.Logger) -> socket.socket | None:
    """Where the settings want it; None where there is none, which is logged unless it is wanted so."""
    if settings.control_socket_disable:
        return None
    where = settings.control_socket or address.address_of(os.getpid(), settings.pidfile)
    if where is None:
        return None
    mode = PRIVATE if settings.control_socket_mode is None else settings.control_socket_mode
    try:
        return address.open_listener(os.path.abspath(where) if settings.control_socket else where, mode)
    except OSError as error:
        level = logging.WARNING if settings.control_socket else logging.DEBUG
        log.log(level, "control_socket: cannot listen at %s: %s", address.shown(where), error.strerror or error)
        return None
