"""An application whose requests wait until a test lets them through, in a worker with one thread."""

import select
import socket
import threading
from collections.abc import Callable
from typing import Any

from tests.worker.own_worker import OwnWorker, hello

KEPT = b"HTTP/1.1 200 OK\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"


class Gate:
    """An application that waits at ``/wait`` until it is let through."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            assert self.open.wait(20)
        return hello(environ, start_response)


def running(own: OwnWorker) -> int:
    """How many requests run."""
    return len(own.parts.runner.load.running)


def busy_with(own: OwnWorker) -> tuple[socket.socket, socket.socket]:
    """A client that is kept, and another one whose request has the only thread."""
    kept, busy = own.connect(), own.connect()
    for client in (kept, busy):
        own.ask(client)
        own.answer(client)
    # A response may be here before the worker has seen that it has room again for new clients, and has read what it
    # has sent to wake a sibling: there is none in these tests.
    hand_off = own.assignment.hand_off_receive
    own.turn_until(lambda: not own.parts.listeners.saturated and not select.select([hand_off], [], [], 0)[0])
    own.ask(busy, WAIT)
    own.turn_until(lambda: running(own) == 1)
    return kept, busy
