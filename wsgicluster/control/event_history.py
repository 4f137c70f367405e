"""The last events of a server, for clients that ask for them and for those that follow."""

import collections
from typing import Any

from wsgicluster.control.commands import MOST_EVENTS
from wsgicluster.control.server import Call


class EventHistory:
    """The last events as values of JSON, and those who follow them."""

    def __init__(self, most: int = MOST_EVENTS) -> None:
        self._events: collections.deque[dict[str, Any]] = collections.deque(maxlen=most)
        self._followers: dict[Call, None] = {}

    def add(self, event: dict[str, Any]) -> None:
        """One has happened."""
        self._events.append(event)
        for call in list(self._followers):
            call.item(event)

    def last(self, count: int) -> list[dict[str, Any]]:
        """So many of the last, oldest first."""
        return list(self._events)[-count:] if count else []

    def answer(self, call: Call) -> None:
        """Carry out ``events``."""
        for event in self.last(call.args["last"]):
            call.item(event)
        if not call.args["follow"]:
            call.succeed({})
            return
        self._followers[call] = None
        call.poll = lambda: None
        call.on_end = lambda: self._followers.pop(call, None)
