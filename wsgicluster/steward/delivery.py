"""Delivers events to the handlers of the configuration file, one after another, in a thread of its own.

It must not know where events come from but for the socket they are read from.
"""

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence

from wsgicluster.cluster.events.subscriptions import Subscription
from wsgicluster.ipc.events import EVENT_BYTES, Event, decode_event


class Delivery:
    """The thread; ``forward`` gets each event besides, and must not wait."""

    def __init__(
        self,
        events: socket.socket,
        subscriptions: Callable[[], Sequence[Subscription]],
        forward: Sequence[Callable[[Event], object]],
        log: logging.Logger,
    ) -> None:
        self.busy_since = 0.0
        """When the handler that runs was called, on the monotonic clock; 0.0 while none runs."""
        self._events = events
        self._subscriptions = subscriptions
        self._forward = forward
        self._log = log
        self._finishing = False
        self._wake_receive, self._wake_send = os.pipe()
        self._thread = threading.Thread(target=self._run, name="wsgicluster-events", daemon=True)

    def start(self) -> None:
        """Deliver from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Deliver what has been sent until now, then stop."""
        self._finishing = True
        os.write(self._wake_send, b"\0")

    @property
    def is_done(self) -> bool:
        """Is everything delivered, after `stop`?"""
        return not self._thread.is_alive()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._events, select.POLLIN)
        poll.register(self._wake_receive, select.POLLIN)
        while True:
            # Asked before the socket is: an event that was sent before the stop may come between the two.
            finishing = self._finishing
            try:
                packet = self._events.recv(EVENT_BYTES)
            except BlockingIOError:
                if finishing:
                    return
                poll.poll()
                continue
            if not packet:
                return
            try:
                event = decode_event(packet)
            except ValueError as error:
                self._log.warning("Steward: %s", error)
                continue
            self.deliver(event)

    def deliver(self, event: Event) -> None:
        """Call all handlers of an event, and forward it."""
        for forward in self._forward:
            forward(event)
        for subscription in self._subscriptions():
            if subscription.takes(event):
                self._call(subscription, event)

    def _call(self, subscription: Subscription, event: Event) -> None:
        self.busy_since = time.monotonic()
        try:
            subscription.function(event)
        except BaseException:  # noqa: BLE001
            # The boundary to the operator's code: whatever it raises, the next handler is still called.
            name = getattr(subscription.function, "__qualname__", repr(subscription.function))
            self._log.exception("Steward: the handler %s failed (event %s)", name, event.name)
        finally:
            self.busy_since = 0.0
