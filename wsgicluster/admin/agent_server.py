"""The listener for HAProxy's ``agent-check``: each client gets one line, and nothing is read.

One thread serves all of its few clients, and waits for none of them. It must not know what the line says.
"""

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable

MOST = 64
LINGER_S = 1.0
"""How long a client may take to read to the end. What it sends meanwhile (``agent-send``) is dropped: to close over
bytes that were not read would reset the connection, and take the line with it."""


class AgentServer:
    """Serves one listener; ``line`` returns what to send, or nothing where that is not known."""

    def __init__(self, listener: socket.socket, line: Callable[[], str], log: logging.Logger) -> None:
        self._listener = listener
        self._line = line
        self._log = log
        self._clients: dict[int, tuple[socket.socket, float]] = {}
        self._wake_receive, self._wake_send = os.pipe()
        self._poll = select.poll()
        self._thread = threading.Thread(target=self._run, name="wsgicluster-haproxy-agent", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more; until then each check has got the line of its moment."""
        os.write(self._wake_send, b"\0")

    @property
    def is_done(self) -> bool:
        """Has it ended, after `stop`?"""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:  # noqa: BLE001
            # The boundary of this thread.
            self._log.exception("Admin worker: the HAProxy agent failed, and does not respond any more")

    def _serve(self) -> None:
        listening = self._listener.fileno()
        for descriptor in (listening, self._wake_receive):
            self._poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll(self._timeout_ms()):
                if descriptor == self._wake_receive:
                    return
                if descriptor == listening:
                    self._accept()
                elif descriptor in self._clients:
                    self._drop_input(descriptor)
            now = time.monotonic()
            for descriptor in [each for each, (_, ends) in self._clients.items() if ends <= now]:
                self._end(descriptor)

    def _timeout_ms(self) -> float | None:
        ends = min((ends for _, ends in self._clients.values()), default=None)
        return None if ends is None else max(0.0, ends - time.monotonic()) * 1000

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # the client has disconnected, or no descriptor is left: HAProxy ignores a check without a response
        line = self._line()
        try:
            client.setblocking(False)
            if line:
                client.send(f"{line}\n".encode("ascii", "replace"))  # far less than a new socket takes
            client.shutdown(socket.SHUT_WR)
        except OSError:
            client.close()  # the client has left
            return
        if len(self._clients) >= MOST:
            self._end(next(iter(self._clients)))
        self._clients[client.fileno()] = client, time.monotonic() + LINGER_S
        self._poll.register(client.fileno(), select.POLLIN)

    def _drop_input(self, descriptor: int) -> None:
        client, _ = self._clients[descriptor]
        with contextlib.suppress(OSError):  # reset by the client
            if client.recv(4096):
                return
        self._end(descriptor)

    def _end(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._clients.pop(descriptor)[0].close()
