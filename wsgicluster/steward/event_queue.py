"""A queue of events before something slow: bounded, in a thread of its own, so that no handler waits for it."""

import collections
import logging
import threading
from collections.abc import Callable

from wsgicluster.counting import count_of
from wsgicluster.ipc.events import Event

MOST_EVENTS = 1000


class EventQueue:
    """Passes events to ``deliver``, oldest first; ``name`` is that of the setting, for the log.

    ``deliver`` gets an event, and a function that waits for so many seconds, or returns True once the process is about
    to exit.
    """

    def __init__(
        self, name: str, deliver: Callable[[Event, Callable[[float], bool]], object], log: logging.Logger
    ) -> None:
        self.dropped = 0
        """Events that were dropped, since too many waited."""
        self._name = name
        self._deliver = deliver
        self._log = log
        self._waiting: collections.deque[Event] = collections.deque()
        self._changed = threading.Condition()
        self._finishing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"wsgicluster-{name}", daemon=True)

    def start(self) -> None:
        """Pass events on from now on."""
        self._thread.start()

    def add(self, event: Event) -> None:
        """Queue an event; drop it where too many wait."""
        with self._changed:
            if len(self._waiting) >= MOST_EVENTS:
                self.dropped += 1
                if self.dropped == 1:
                    self._log.warning("%s: %d events wait, so that further ones are dropped", self._name, MOST_EVENTS)
                return
            if self.dropped:
                self._log.warning("%s: %s dropped", self._name, count_of(self.dropped, "event was", "events were"))
                self.dropped = 0
            self._waiting.append(event)
            self._changed.notify()

    def finish(self) -> None:
        """Try each event that waits once more, then stop."""
        self._finishing.set()
        with self._changed:
            self._changed.notify()

    @property
    def is_done(self) -> bool:
        """Has everything been tried, after `finish`?"""
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._finishing.is_set():
                        return
                    self._changed.wait()
                event = self._waiting.popleft()
            try:
                self._deliver(event, self._finishing.wait)
            except Exception:  # noqa: BLE001
                # The boundary of this thread: one event that cannot be passed on does not stop the others.
                self._log.exception("%s: event %s cannot be passed on", self._name, event.name)
