"""Worker processes: they boot the application and serve connections.

The classes that workers of one's own derive from are here under their names. None of them imports what its kind needs.
"""

from wsgicluster.worker.hooks import GeventWorker, SyncWorker, ThreadWorker, WorkerHooks
from wsgicluster.worker.hooks import ThreadWorker as GThreadWorker
from wsgicluster.worker.hooks import WorkerHooks as Worker

__all__ = ["GThreadWorker", "GeventWorker", "SyncWorker", "ThreadWorker", "Worker", "WorkerHooks"]
