"""The functions that an application has registered for messages, by topic, to the end of its process."""

import threading
from collections.abc import Callable
from typing import Any

from wsgicluster.cluster.messages.packets import Address
from wsgicluster.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class ClusterMessage:
    """What a handler is called with.

    ``value`` is its own copy. ``sender`` may be given to `send` and `request`: the slot of a worker, or the name of a
    role. ``retained`` says that the value was sent with ``retain``; it may be older than the process that it reaches.
    """

    value: Any
    topic: str
    sender: Address
    retained: bool = False


HandlerFunction = Callable[[ClusterMessage], object]


@dataclass(slots=True, eq=False)
class MessageHandler:
    """One registered function; ``version`` is that of the newest retained value that it has been called with."""

    function: HandlerFunction
    version: int = 0


_lock = threading.Lock()
_by_topic: dict[str, tuple[MessageHandler, ...]] = {}


def register(topic: str, function: HandlerFunction) -> None:
    """Call this for each message of the topic from now on."""
    with _lock:
        _by_topic[topic] = (*_by_topic.get(topic, ()), MessageHandler(function))


def handlers_of(topic: str) -> tuple[MessageHandler, ...]:
    """Those of a topic, in the order in which they were registered."""
    return _by_topic.get(topic, ())


def has_any() -> bool:
    """Whether there is any handler at all."""
    return bool(_by_topic)


def take() -> dict[str, tuple[MessageHandler, ...]]:
    """All handlers by topic, which are forgotten here."""
    with _lock:
        found = dict(_by_topic)
        _by_topic.clear()
    return found


def restore(by_topic: dict[str, tuple[MessageHandler, ...]]) -> None:
    """Register what `take` has returned."""
    with _lock:
        _by_topic.update(by_topic)
