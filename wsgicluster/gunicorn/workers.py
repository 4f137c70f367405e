"""Gunicorn's worker classes, as far as they are the same here: what subclasses read, and the methods they may override.

The request cycle is another one. A method of Gunicorn's that would never be called must not be overridden, so that such
a class is refused when it is made.
"""

import inspect
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from wsgicluster.gunicorn.configuration import Configuration
from wsgicluster.settings import Settings
from wsgicluster.settings.types.worker import instead_of
from wsgicluster.system import forks
from wsgicluster.worker import hooks

SUPPORTED_WORKERS = {
    "sync": "gunicorn.workers.sync.SyncWorker",
    "gevent": "gunicorn.workers.ggevent.GeventWorker",
    "gevent_wsgi": "gunicorn.workers.ggevent.GeventPyWSGIWorker",
    "gevent_pywsgi": "gunicorn.workers.ggevent.GeventPyWSGIWorker",
    "gthread": "gunicorn.workers.gthread.ThreadWorker",
}

_NOT_CALLED = frozenset(
    (
        "accept", "enqueue_req", "finish_request", "get_thread_pool", "handle", "handle_error", "handle_request",
        "handle_winch", "load_wsgi", "notify", "run", "run_for_multiple", "run_for_one", "wait",
    )
)  # fmt: skip

_SIGNALS = {
    "handle_exit": signal.SIGTERM,
    "handle_quit": signal.SIGQUIT,
    "handle_abort": signal.SIGABRT,
    "handle_usr1": signal.SIGUSR1,
}
"""The methods that are called for a signal."""

_Handler = Callable[[int, FrameType | None], object]


class GunicornWorker(hooks.WorkerHooks):
    """What all of them are. `init_process` and the methods of signals may be overridden, and call those here.

    ``cfg`` has the settings, ``wsgi`` is the application, ``age`` the worker's number.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        name, instead = cls.__qualname__, instead_of(cls.__module__)
        if instead:
            raise TypeError(f"{name} is a worker of another framework; expected {instead}")
        overridden = sorted(_NOT_CALLED & vars(cls).keys())
        if overridden:
            raise TypeError(
                f"{name} overrides {', '.join(overridden)} of Gunicorn's worker, which is not called here; use the "
                "hooks pre_request and post_request, or derive it from a class of wsgicluster.worker, with its begin, "
                "end and call_application"
            )
        if "__init__" in vars(cls) and not _takes_any(vars(cls)["__init__"]):
            raise TypeError(f"{name} has an __init__ with Gunicorn's arguments; have it take *args and pass them on")

    def __init__(
        self, application: Any, settings: Settings, slot: int, log: Any, is_draining: Callable[[], bool]
    ) -> None:
        super().__init__(application, settings, slot, log, is_draining)
        self.cfg = Configuration(settings)
        self.wsgi = application
        self.age = slot
        self.pid, self.ppid = os.getpid(), os.getppid()
        self.timeout = settings.timeout
        self.booted = False
        self.__before: dict[int, _Handler] = {}
        self.__exiting = False
        """An overridden `handle_exit` runs."""

    def begin(self) -> None:
        """Call `init_process`, and from now on the overridden methods of signals."""
        for name, number in _SIGNALS.items():
            if getattr(type(self), name) is not getattr(GunicornWorker, name):
                self.__take(number, getattr(self, name))
        if self.__before:
            forks.on_fork(self.__forget)
        self.init_process()
        self.booted = True

    @property
    def alive(self) -> bool:
        """Whether the worker serves; one that sets it to False finishes what it has, and is replaced."""
        return not self.draining

    @alive.setter
    def alive(self, wanted: bool) -> None:
        if self.__exiting and not wanted:
            self.__act(signal.SIGTERM, None)  # a signal would call `handle_exit` again
        elif not wanted:
            os.kill(self.pid, signal.SIGTERM)

    def init_process(self) -> None:
        """Called before the first request. Unlike Gunicorn's it returns, and the worker serves afterwards."""
        self.init_signals()

    def init_signals(self) -> None:
        """Nothing: the worker has its handlers."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """TERM: finish and leave."""
        self.__act(signal.SIGTERM, frame)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """QUIT: leave at once."""
        self.__act(signal.SIGQUIT, frame)

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """ABRT: the worker hangs, and ends."""
        self.__act(signal.SIGABRT, frame)

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """USR1: reopen the logs."""
        self.__act(signal.SIGUSR1, frame)

    def __act(self, number: signal.Signals, frame: FrameType | None) -> None:
        before = self.__before.get(number)
        if before is None:
            os.kill(os.getpid(), number)
        else:
            before(number, frame)

    def __take(self, number: signal.Signals, method: _Handler) -> None:
        before = signal.getsignal(number)
        assert callable(before), "the worker's own, which it has set before"
        own: _Handler = before

        def handle(sig: int, frame: FrameType | None) -> None:
            self.__exiting = number is signal.SIGTERM
            try:
                method(sig, frame)
            except BaseException as error:
                # The class is the user's. In Gunicorn SystemExit ends the worker, which the server's handler does here.
                if not isinstance(error, SystemExit):
                    self.log.exception("worker_class: the handler of %s failed", number.name)
                own(sig, frame)
            finally:
                self.__exiting = False

        self.__before[number] = own
        signal.signal(number, handle)

    def __forget(self) -> None:
        """In a process that the application has forked: that is no worker."""
        for number in self.__before:
            signal.signal(number, signal.SIG_DFL)


class GunicornSyncWorker(GunicornWorker, hooks.SyncWorker):
    """A worker that runs one request at a time."""


class GunicornThreadWorker(GunicornWorker, hooks.ThreadWorker):
    """A worker that runs requests in threads."""


class GunicornGeventWorker(GunicornWorker, hooks.GeventWorker):
    """A worker that runs requests in greenlets; there is one HTTP server for all kinds of workers."""

    def init_process(self) -> None:
        """Call `patch`, too."""
        self.patch()
        super().init_process()

    def patch(self) -> None:
        """Nothing: the standard library is cooperative before the application is imported."""


def _takes_any(function: Callable[..., Any]) -> bool:
    kinds = {each.kind for each in inspect.signature(function).parameters.values()}
    return inspect.Parameter.VAR_POSITIONAL in kinds
