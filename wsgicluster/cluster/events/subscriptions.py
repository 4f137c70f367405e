"""The functions that are registered for events, to the end of their process; and those of a configuration file.

While the configuration file is read, in the arbiter, they are only recorded: `take` gives what was recorded, messages
included, to the generation of that reading, and leaves nothing behind that a worker would inherit.
"""

from collections.abc import Callable
from typing import Any

from wsgicluster.cluster.messages import handlers
from wsgicluster.cluster.messages.handlers import MessageHandler
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.events import Event


@dataclass(frozen=True, slots=True)
class Subscription:
    """A function for events of this name; with ``slot`` for those of one worker's slot only."""

    event: str
    slot: int | None
    function: Callable[[Any], object]

    def takes(self, event: Event) -> bool:
        """Is the function to be called with this event?"""
        return event.name == self.event and self.slot in (None, getattr(event, "slot", None))


@dataclass(frozen=True, slots=True)
class Registered:
    """All that one reading of a configuration file has registered."""

    subscriptions: tuple[Subscription, ...]
    by_topic: dict[str, tuple[MessageHandler, ...]]


_subscriptions: list[Subscription] = []


def subscribe(subscription: Subscription) -> None:
    """Call its function from now on."""
    _subscriptions.append(subscription)


def subscriptions() -> tuple[Subscription, ...]:
    """All of this process, in the order in which they were registered."""
    return tuple(_subscriptions)


def take() -> Registered | None:
    """What was registered since the last call, which is forgotten here; None for nothing."""
    found = Registered(tuple(_subscriptions), handlers.take())
    _subscriptions.clear()
    return found if found.subscriptions or found.by_topic else None


def restore(registered: Registered) -> None:
    """Register in this process what `take` has returned."""
    _subscriptions.extend(registered.subscriptions)
    handlers.restore(registered.by_topic)
