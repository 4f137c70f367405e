"""Gunicorn's worker classes, as far as they are the same here: a class by its name, and one derived without changes.

The request cycle is another one. A method of Gunicorn's that a class overrides would never be called, so that such a
class is refused when it is made.
"""

from typing import Any

from wsgicluster.worker import hooks

SUPPORTED_WORKERS = {
    "sync": "gunicorn.workers.sync.SyncWorker",
    "gevent": "gunicorn.workers.ggevent.GeventWorker",
    "gevent_wsgi": "gunicorn.workers.ggevent.GeventPyWSGIWorker",
    "gevent_pywsgi": "gunicorn.workers.ggevent.GeventPyWSGIWorker",
    "gthread": "gunicorn.workers.gthread.ThreadWorker",
}

_METHODS = frozenset(
    (
        "accept", "enqueue_req", "finish_request", "get_thread_pool", "handle", "handle_abort", "handle_exit",
        "handle_quit", "handle_request", "handle_usr1", "handle_winch", "init_process", "init_signals", "load_wsgi",
        "notify", "patch", "run", "run_for_one", "run_for_multiple", "wait",
    )
)  # fmt: skip


class GunicornWorker(hooks.WorkerHooks):
    """What all of them are."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        overridden = sorted(_METHODS & vars(cls).keys())
        if overridden:
            raise TypeError(
                f"{cls.__qualname__} overrides {', '.join(overridden)} of Gunicorn's worker, which is not called here; "
                "derive it from a class of wsgicluster.worker, with its begin, end and call_application"
            )


class GunicornSyncWorker(GunicornWorker, hooks.SyncWorker):
    """A worker that runs one request at a time."""


class GunicornThreadWorker(GunicornWorker, hooks.ThreadWorker):
    """A worker that runs requests in threads."""


class GunicornGeventWorker(GunicornWorker, hooks.GeventWorker):
    """A worker that runs requests in greenlets; there is one HTTP server for all kinds of workers."""
