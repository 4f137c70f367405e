"""The control socket, opened once the first children have been forked, so that the first response does not wait for it.

No worker needs its modules. They are imported then and not when a client connects, since an upgrade may have replaced
the files by that time.
"""

import gc
import socket
from typing import TYPE_CHECKING

from wsgicluster.arbiter.control.launch import Launch
from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.arbiter.operations import Operations, Parts
from wsgicluster.ipc.events import Event

if TYPE_CHECKING:
    from wsgicluster.control.server import ControlServer


class DeferredControl:
    """The control server of one server, and until there is it, the events that it will show."""

    def __init__(self, parts: Parts, operations: Operations, launch: Launch, inbox: Inbox) -> None:
        self._parts = parts
        self._operations = operations
        self._launch = launch
        self._inbox = inbox
        self._server: ControlServer | None = None
        self._early: list[Event] = []
        parts.supervisor.events.observers.append(self._early.append)

    def open(self) -> "ControlServer":
        """Open the control socket, where there can be one, unless that was done."""
        if self._server is None:
            from wsgicluster.arbiter.control.opening import open_control

            observers = self._parts.supervisor.events.observers
            self._server, add_event = open_control(self._parts, self._operations, self._launch, self._inbox)
            observers[observers.index(self._early.append)] = add_event
            for event in self._early:
                add_event(event)
            # Children that are forked from now on share this memory, too.
            gc.freeze()
        return self._server

    def admit(self, sock: socket.socket, peer: str) -> None:
        """Serve a connection that was not accepted from the socket."""
        self.open().admit(sock, peer)

    def close(self) -> None:
        """Close the socket."""
        if self._server is not None:
            self._server.close()
