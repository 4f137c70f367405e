"""What classes of the user's own derive from: the moments at which a worker calls them, and what it tells them.

The worker holds an object of the class and is none itself, so that no attribute of theirs meets one of the worker's.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from wsgicluster.settings import Settings


class WorkerHooks:
    """One worker, as a class of the user's own sees it.

    Derive from `SyncWorker`, `ThreadWorker` or `GeventWorker`, which say of what ``kind`` the worker is, and override
    what is needed. ``application`` is what ``wsgi_app`` names, ``settings`` are not to be changed, ``slot`` is the
    worker's number, ``log`` the logger of the error log.
    """

    kind: ClassVar[str] = ""

    def __init__(
        self, application: Any, settings: Settings, slot: int, log: logging.Logger, is_draining: Callable[[], bool]
    ) -> None:
        self.application = application
        self.settings = settings
        self.slot = slot
        self.log = log
        self.__is_draining = is_draining

    @property
    def draining(self) -> bool:
        """Whether the worker has been asked to leave: it serves what it has, and exits."""
        return self.__is_draining()

    @classmethod
    def setup(cls) -> None:
        """Called before the application is imported, in each process that imports it; nothing in it runs as root."""

    @classmethod
    def after_fork(cls) -> None:
        """Called first in a worker that was forked after the application had been imported (``preload_app``)."""

    def begin(self) -> None:
        """Called when the application is there, before the first request."""

    def call_application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Called for each request, where its kind has it run; as PEP 3333 has it of an application.

        A class that does not override it pays nothing for it: the application is called straight away.
        """
        response: Iterable[bytes] = self.application(environ, start_response)
        return response

    def end(self) -> None:
        """Called after the last request, unless the worker is ended by force."""


class SyncWorker(WorkerHooks):
    """A worker that runs one request at a time."""

    kind = "sync"


class ThreadWorker(WorkerHooks):
    """A worker that runs requests in threads."""

    kind = "gthread"


class GeventWorker(WorkerHooks):
    """A worker that runs requests in greenlets; the standard library is cooperative before `setup` is called."""

    kind = "gevent"


OF_KIND: dict[str, type[WorkerHooks]] = {each.kind: each for each in (SyncWorker, ThreadWorker, GeventWorker)}
_KINDS: dict[type, str] = {hooks: kind for kind, hooks in OF_KIND.items()}


def kind_of(hooks: type[WorkerHooks]) -> str:
    """The name of the kind that a class is derived from, or an empty one; what it calls ``kind`` itself is its own."""
    return next((_KINDS[base] for base in hooks.__mro__ if base in _KINDS), "")
