"""Events for handlers: ``@cluster.on("exit")``.

In the configuration file handlers are called by the steward, with events of all processes; in an application with
those of the own worker. They are called one after another, in a thread of their own.
"""

import difflib
from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

from wsgicluster.cluster.events.own_events import watch
from wsgicluster.cluster.events.subscriptions import Subscription, subscribe
from wsgicluster.ipc import membership
from wsgicluster.ipc.events import (
    EVENTS,
    OWN_EVENTS,
    DegradedEvent,
    DisconnectEvent,
    DrainingEvent,
    ExitEvent,
    ForkEvent,
    ListeningEvent,
    OnlineEvent,
    ReadyEvent,
    RecycleEvent,
    ReloadEvent,
    ScaleEvent,
    TimeoutEvent,
)

_F = TypeVar("_F", bound=Callable[[Any], object])

_Fork = TypeVar("_Fork", bound=Callable[[ForkEvent], object])
_Online = TypeVar("_Online", bound=Callable[[OnlineEvent], object])
_Listening = TypeVar("_Listening", bound=Callable[[ListeningEvent], object])
_Ready = TypeVar("_Ready", bound=Callable[[ReadyEvent], object])
_Draining = TypeVar("_Draining", bound=Callable[[DrainingEvent], object])
_Disconnect = TypeVar("_Disconnect", bound=Callable[[DisconnectEvent], object])
_Exit = TypeVar("_Exit", bound=Callable[[ExitEvent], object])
_Timeout = TypeVar("_Timeout", bound=Callable[[TimeoutEvent], object])
_Recycle = TypeVar("_Recycle", bound=Callable[[RecycleEvent], object])
_Reload = TypeVar("_Reload", bound=Callable[[ReloadEvent], object])
_Scale = TypeVar("_Scale", bound=Callable[[ScaleEvent], object])
_Degraded = TypeVar("_Degraded", bound=Callable[[DegradedEvent], object])


@overload
def on(event: Literal["fork"], function: _Fork, *, slot: int | None = None) -> _Fork: ...
@overload
def on(event: Literal["fork"], *, slot: int | None = None) -> Callable[[_Fork], _Fork]: ...
@overload
def on(event: Literal["online"], function: _Online, *, slot: int | None = None) -> _Online: ...
@overload
def on(event: Literal["online"], *, slot: int | None = None) -> Callable[[_Online], _Online]: ...
@overload
def on(event: Literal["listening"], function: _Listening, *, slot: int | None = None) -> _Listening: ...
@overload
def on(event: Literal["listening"], *, slot: int | None = None) -> Callable[[_Listening], _Listening]: ...
@overload
def on(event: Literal["ready"], function: _Ready, *, slot: int | None = None) -> _Ready: ...
@overload
def on(event: Literal["ready"], *, slot: int | None = None) -> Callable[[_Ready], _Ready]: ...
@overload
def on(event: Literal["draining"], function: _Draining, *, slot: int | None = None) -> _Draining: ...
@overload
def on(event: Literal["draining"], *, slot: int | None = None) -> Callable[[_Draining], _Draining]: ...
@overload
def on(event: Literal["disconnect"], function: _Disconnect, *, slot: int | None = None) -> _Disconnect: ...
@overload
def on(event: Literal["disconnect"], *, slot: int | None = None) -> Callable[[_Disconnect], _Disconnect]: ...
@overload
def on(event: Literal["exit"], function: _Exit, *, slot: int | None = None) -> _Exit: ...
@overload
def on(event: Literal["exit"], *, slot: int | None = None) -> Callable[[_Exit], _Exit]: ...
@overload
def on(event: Literal["timeout"], function: _Timeout, *, slot: int | None = None) -> _Timeout: ...
@overload
def on(event: Literal["timeout"], *, slot: int | None = None) -> Callable[[_Timeout], _Timeout]: ...
@overload
def on(event: Literal["recycle"], function: _Recycle, *, slot: int | None = None) -> _Recycle: ...
@overload
def on(event: Literal["recycle"], *, slot: int | None = None) -> Callable[[_Recycle], _Recycle]: ...
@overload
def on(event: Literal["reload"], function: _Reload, *, slot: int | None = None) -> _Reload: ...
@overload
def on(event: Literal["reload"], *, slot: int | None = None) -> Callable[[_Reload], _Reload]: ...
@overload
def on(event: Literal["scale"], function: _Scale, *, slot: int | None = None) -> _Scale: ...
@overload
def on(event: Literal["scale"], *, slot: int | None = None) -> Callable[[_Scale], _Scale]: ...
@overload
def on(event: Literal["degraded"], function: _Degraded, *, slot: int | None = None) -> _Degraded: ...
@overload
def on(event: Literal["degraded"], *, slot: int | None = None) -> Callable[[_Degraded], _Degraded]: ...
def on(event: str, function: _F | None = None, *, slot: int | None = None) -> _F | Callable[[_F], _F]:
    """Have a function called with each event of this name, from now to the end of the process.

    Either decorate it, or give it as ``function``. With ``slot`` only events of the worker in that slot count. An error
    that it raises is logged, and other functions are still called. In the configuration file all events may be named,
    in an application ``ready``, ``draining`` and ``disconnect``, which are those of the own worker. Raises ValueError
    for any other name.
    """
    _check(event)
    if function is None:
        return lambda decorated: _subscribe(event, slot, decorated)
    return _subscribe(event, slot, function)


def _subscribe(event: str, slot: int | None, function: _F) -> _F:
    if not callable(function):
        raise TypeError(f"{function!r} cannot be called; cluster.on needs a function")
    subscribe(Subscription(event, slot, function))
    watch()
    return function


def _check(event: str) -> None:
    if event not in EVENTS:
        near = difflib.get_close_matches(str(event), EVENTS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; events are {', '.join(EVENTS)}"
        raise ValueError(f"there is no event {event!r}{hint}")
    member = membership.current()
    if member is not None and member.role != "steward" and event not in OWN_EVENTS:
        raise ValueError(
            f"{event!r} is an event for the configuration file; an application may have {', '.join(OWN_EVENTS)}"
        )
