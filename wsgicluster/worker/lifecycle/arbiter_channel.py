"""The worker's side of its channel to the arbiter."""

import contextlib
import logging
from collections.abc import Callable

from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import Channel, ChannelClosed, Message
from wsgicluster.worker.loop.loop import Loop


class ArbiterChannel:
    """Tells the arbiter what it must know, and notices when it has exited: then ``on_lost`` is called."""

    def __init__(self, assignment: Assignment, loop: Loop, log: logging.Logger, on_lost: Callable[[], object]) -> None:
        self._channel: Channel = assignment.channel
        self._slot = assignment.slot
        self._loop = loop
        self._log = log
        self._on_lost = on_lost
        self._on_message: Callable[[Message], object] | None = None
        self._closed = False

    def watch(self, on_message: Callable[[Message], object]) -> None:
        """Have the loop call ``on_message`` with each message that comes from now on."""
        self._on_message = on_message
        self._loop.add(self._channel.fileno(), self._on_event)

    def send(self, message: Message) -> bool:
        """Send one message; False when it could not be sent and should be tried again later."""
        try:
            return self._channel.send(message)
        except ChannelClosed:
            self._lose()
            return True

    def receive(self) -> None:
        """Take in all that the arbiter has sent so far."""
        try:
            while (message := self._channel.receive()) is not None:
                if self._on_message is not None:
                    self._on_message(message)
        except ChannelClosed:
            self._lose()

    def _on_event(self, _events: int) -> None:
        self.receive()

    def _lose(self) -> None:
        self._on_lost()
        if not self._closed:
            self._closed = True
            if self._on_message is not None:
                with contextlib.suppress(OSError):  # closed by the application
                    self._loop.remove(self._channel.fileno())
            self._log.warning(
                "worker %d: the arbiter has exited; the worker finishes its requests and exits", self._slot
            )
