"""The cluster's runtime, for applications: ``from wsgicluster import cluster``.

Everything here works in a worker and in a process that is alone (``flask run``, pytest). The import is quick, and
starts no thread, process or file; the first use of a part imports it, and starts what it needs. `role` and `worker` are
looked up anew each time: ``from wsgicluster.cluster import role`` would keep what they were.
"""

TYPE_CHECKING = False
"""As type checkers have it; not from `typing`, whose import would take most of the time of this one."""

if TYPE_CHECKING:
    from wsgicluster.cluster.errors import (
        BusDown,
        ClusterError,
        Deadlock,
        LockLost,
        LockNotHeld,
        MessageTooLarge,
        NoHandler,
        NotInCluster,
        QueueFull,
        RemoteError,
        RequestTimeout,
        StoreFull,
        WorkerGone,
    )
    from wsgicluster.cluster.events.events import on
    from wsgicluster.cluster.messages.handlers import ClusterMessage as Message
    from wsgicluster.cluster.messages.messages import broadcast, on_message, request, send
    from wsgicluster.cluster.server.members import CurrentWorker, MemberSnapshot, workers
    from wsgicluster.cluster.server.operations import drain, reload, restart, scale, set_scheduling
    from wsgicluster.cluster.server.standing import Role
    from wsgicluster.cluster.state.state import counter, every, lock, once, store
    from wsgicluster.cluster.values.payload import Json
    from wsgicluster.ipc.events import (
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

    role: Role
    worker: CurrentWorker | None

__all__ = [
    "BusDown",
    "ClusterError",
    "CurrentWorker",
    "Deadlock",
    "DegradedEvent",
    "DisconnectEvent",
    "DrainingEvent",
    "ExitEvent",
    "ForkEvent",
    "Json",
    "ListeningEvent",
    "LockLost",
    "LockNotHeld",
    "MemberSnapshot",
    "Message",
    "MessageTooLarge",
    "NoHandler",
    "NotInCluster",
    "OnlineEvent",
    "QueueFull",
    "ReadyEvent",
    "RecycleEvent",
    "ReloadEvent",
    "RemoteError",
    "RequestTimeout",
    "Role",
    "ScaleEvent",
    "StoreFull",
    "TimeoutEvent",
    "WorkerGone",
    "broadcast",
    "counter",
    "drain",
    "every",
    "lock",
    "on",
    "on_message",
    "once",
    "reload",
    "request",
    "restart",
    "role",
    "scale",
    "send",
    "set_scheduling",
    "store",
    "worker",
    "workers",
]

_HOMES = {
    **dict.fromkeys(
        (
            "BusDown", "ClusterError", "Deadlock", "LockLost", "LockNotHeld", "MessageTooLarge", "NoHandler",
            "NotInCluster", "QueueFull", "RemoteError", "RequestTimeout", "StoreFull", "WorkerGone",
        ),
        "errors",
    ),
    **dict.fromkeys(("broadcast", "on_message", "request", "send"), "messages.messages"),
    **dict.fromkeys(("counter", "every", "lock", "once", "store"), "state.state"),
    **dict.fromkeys(("CurrentWorker", "MemberSnapshot", "workers"), "server.members"),
    **dict.fromkeys(("drain", "reload", "restart", "scale", "set_scheduling"), "server.operations"),
    "Json": "values.payload",
    "Message": "messages.handlers",
    "on": "events.events",
    "Role": "server.standing",
}  # fmt: skip
"""Name to the module that has it."""
_EVENTS = frozenset(name for name in __all__ if name.endswith("Event"))
"""Names of events, which are made by the arbiter, too."""
_ELSEWHERE = {"Message": "ClusterMessage"}
"""Those that have another name there."""
_LOOKED_UP = {"role": "server.standing", "worker": "server.members"}
"""Name to the module that has a function of this name, which is called each time."""


def __getattr__(name: str) -> object:
    import importlib

    if name in _LOOKED_UP:
        return getattr(importlib.import_module(f"{__name__}.{_LOOKED_UP[name]}"), name)()
    if name not in _HOMES and name not in _EVENTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "wsgicluster.ipc.events" if name in _EVENTS else f"{__name__}.{_HOMES[name]}"
    found = getattr(importlib.import_module(home), _ELSEWHERE.get(name, name))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
