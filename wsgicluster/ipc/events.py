"""Events: what happens to a server and its processes, as values that handlers, web hooks and commands get.

Made by the arbiter, which knows the facts; each is a frozen dataclass with a form in JSON, the same everywhere. Who
receives events, and what is done with them, is not known here.
"""

import dataclasses
import json
from typing import Any, ClassVar, TypeAlias

from wsgicluster.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """What all events have.

    ``at`` is in seconds since the epoch. ``reason`` is one line for people, empty where there is nothing to say.
    ``asked`` says whether it was requested, ``by`` who has requested it: ``"operator"`` by a signal, ``"steward"``,
    ``"application"``, or ``"arbiter"``, for its own reasons; empty if nothing was requested.
    """

    name: ClassVar[str] = ""
    at: float
    reason: str = ""
    asked: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ProcessEvent(_Event):
    """What happens to one process: ``role`` is ``"worker"``, ``"jobs"``, ``"steward"`` or ``"mold"``.

    ``slot`` is 0 for all but workers.
    """

    role: str
    slot: int
    generation: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkEvent(_ProcessEvent):
    """A process was started, or ordered from the mold; ``pid`` is 0 where it is not known yet."""

    name: ClassVar[str] = "fork"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineEvent(_ProcessEvent):
    """The process runs the server's code and is about to import the application."""

    name: ClassVar[str] = "online"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningEvent(_ProcessEvent):
    """A worker accepts connections at ``address``; once for each of its listeners, before ``ready``."""

    name: ClassVar[str] = "listening"
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyEvent(_ProcessEvent):
    """The process is ready, ``boot_s`` seconds after it was started."""

    name: ClassVar[str] = "ready"
    boot_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainingEvent(_ProcessEvent):
    """The stop of the process was requested: it finishes what it runs."""

    name: ClassVar[str] = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisconnectEvent(_ProcessEvent):
    """The process accepts nothing any more, and its channel to the arbiter is closed: it exits."""

    name: ClassVar[str] = "disconnect"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitEvent(_ProcessEvent):
    """The process has exited; always the last of its events.

    ``code`` is its exit code, None where a signal has ended it, whose name is ``signal``, else empty. ``requests`` is
    how many it has served, ``age_s`` how many seconds it has existed, ``rss_bytes`` its peak of resident memory.
    ``request`` is the first line of the request in progress, ``stack`` where the process was, or its traceback, when it
    ended unexpectedly; both empty where there is none.
    """

    name: ClassVar[str] = "exit"
    code: int | None
    signal: str = ""
    requests: int = 0
    age_s: float = 0.0
    rss_bytes: int = 0
    request: str = ""
    stack: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutEvent(_ProcessEvent):
    """The process has not given a sign of life for ``timeout_s`` seconds and is ended; ``request`` as in ``exit``."""

    name: ClassVar[str] = "timeout"
    timeout_s: float
    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecycleEvent(_ProcessEvent):
    """A process is to be replaced, for ``reason``; it drains as soon as its replacement is ready."""

    name: ClassVar[str] = "recycle"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadEvent(_Event):
    """How a reload went: ``result`` is ``"begun"``, ``"complete"``, ``"aborted"``, ``"superseded"`` or ``"refused"``.

    ``changes`` has the settings that are different, each as old and new value in one text, with secrets masked.
    ``generation`` is 0 for a reload that was refused.
    """

    name: ClassVar[str] = "reload"
    generation: int
    result: str
    changes: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleEvent(_Event):
    """Another number of workers is wanted: ``workers`` instead of ``before``."""

    name: ClassVar[str] = "scale"
    workers: int
    before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DegradedEvent(_Event):
    """Workers are missing: ``ready`` of the wanted ``workers`` serve. With ``recovered`` all of them serve again."""

    name: ClassVar[str] = "degraded"
    ready: int
    workers: int
    recovered: bool = False


Event: TypeAlias = (
    ForkEvent
    | OnlineEvent
    | ListeningEvent
    | ReadyEvent
    | DrainingEvent
    | DisconnectEvent
    | ExitEvent
    | TimeoutEvent
    | RecycleEvent
    | ReloadEvent
    | ScaleEvent
    | DegradedEvent
)

EVENTS: dict[str, type[Event]] = {
    kind.name: kind
    for kind in (
        ForkEvent,
        OnlineEvent,
        ListeningEvent,
        ReadyEvent,
        DrainingEvent,
        DisconnectEvent,
        ExitEvent,
        TimeoutEvent,
        RecycleEvent,
        ReloadEvent,
        ScaleEvent,
        DegradedEvent,
    )
}
"""The events by name, in the order of a process's life."""

OWN_EVENTS = ("ready", "draining", "disconnect")
"""Those that a worker hears of itself."""

EVENT_BYTES = 64 * 1024
"""The largest packet of an event."""
_CHARACTERS = {"stack": 8192, "reason": 1000}
"""What is kept of texts that may be long: each character may take six bytes, and two of them fit."""


def as_json(event: Event) -> dict[str, Any]:
    """The fields of an event for JSON, its name as ``event`` first; very long texts are cut."""
    fields: dict[str, Any] = {"event": event.name, **dataclasses.asdict(event)}
    for name, most in _CHARACTERS.items():
        if name in fields:
            fields[name] = fields[name][:most]
    return fields


def encode_event(event: Event) -> bytes:
    """The packet of an event."""
    return json.dumps(as_json(event)).encode()


def decode_event(packet: bytes) -> Event:
    """The event in a packet; raises ValueError for anything else."""
    try:
        fields = json.loads(packet)
        return EVENTS[fields.pop("event")](**fields)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {packet[:200]!r}") from error
