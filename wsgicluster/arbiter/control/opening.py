"""The control socket of a server: opened where it can be, and read by the arbiter's loop."""

import logging
import os
import socket
from collections.abc import Callable

from wsgicluster.arbiter.control.handlers import CommandHandlers
from wsgicluster.arbiter.control.launch import Launch
from wsgicluster.arbiter.control.launch_handlers import LaunchHandlers
from wsgicluster.arbiter.control.memory_handlers import MemoryHandlers
from wsgicluster.arbiter.control.setting_handlers import SettingHandlers
from wsgicluster.arbiter.control.stack_handlers import StackHandlers
from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.arbiter.operations import Operations, Parts
from wsgicluster.arbiter.supervision.observation import event_as_json
from wsgicluster.control import address
from wsgicluster.control.event_history import EventHistory
from wsgicluster.control.server import ControlServer
from wsgicluster.ipc.events import Event
from wsgicluster.settings import Settings

PRIVATE = 0o600


def open_control(
    parts: Parts, operations: Operations, launch: Launch, inbox: Inbox
) -> tuple[ControlServer, Callable[[Event], object]]:
    """The server's control socket, and what shows it an event.

    Without a listener where the settings want none, or the system gives none. Nothing but the admin worker depends on
    it, which needs no listener: a server without one is steered by signals.
    """
    history = EventHistory()
    handlers = {
        **CommandHandlers(parts, operations, history).table(),
        **SettingHandlers(parts, operations).table(),
        **StackHandlers(parts).table(),
        **MemoryHandlers(parts).table(),
        **LaunchHandlers(parts, launch).table(),
    }
    log = parts.logs.error
    server = ControlServer(_listener(parts.settings, log), inbox, handlers, parts.clock, log)
    return server, lambda event: history.add(event_as_json(event))


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
