"""Worker processes: they boot the application and serve connections.

The classes of workers that may be derived from are here under their names; each is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsgicluster.worker.gevent import GeventWorker as GeventWorker
    from wsgicluster.worker.server import LoopWorker as Worker
    from wsgicluster.worker.sync import SyncWorker as SyncWorker
    from wsgicluster.worker.thread import ThreadWorker as ThreadWorker

__all__ = ["GeventWorker", "SyncWorker", "ThreadWorker", "Worker"]

_PLACES = {
    "GeventWorker": ("gevent", "GeventWorker"),
    "SyncWorker": ("sync", "SyncWorker"),
    "ThreadWorker": ("thread", "ThreadWorker"),
    "Worker": ("server", "LoopWorker"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
