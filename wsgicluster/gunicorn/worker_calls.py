"""The hooks that run in a worker, called at Gunicorn's moments: see `wsgicluster.worker.lifecycle.configured_hooks`."""

import logging
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from wsgicluster.errors import HookError
from wsgicluster.gunicorn.views import Answer, LiveInWorker, RequestView, ResponseView, ServerView, WorkerView
from wsgicluster.settings import Settings
from wsgicluster.settings.types import hooks

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]
Serve = Callable[..., Any]

_LEAST_OF_POST_REQUEST = 2


class WorkerCalls:
    """The hooks of one worker."""

    def __init__(self, server: ServerView, worker: WorkerView, settings: Settings, log: logging.Logger) -> None:
        self._server = server
        self._worker = worker
        self._settings = settings
        self._log = log
        self._requests: dict[int, tuple[RequestView, ResponseView]] = {}
        """Those that are under way, by the identity of their environs."""

    def forked(self) -> None:
        """Before the application is loaded. Raises HookError."""
        self._worker.pid = os.getpid()
        self._needed("post_fork", self._server, self._worker)

    def initialized(self, application: Any, live: LiveInWorker, sockets: Sequence[socket.socket]) -> Any:
        """Before the first request; returns what is to be called for requests. Raises HookError."""
        worker = self._worker
        worker.show(live)
        worker.max_requests = live.max_requests or sys.maxsize
        worker.wsgi = worker.app.callable = self._server.app.callable = application
        worker.sockets = list(sockets)
        self._needed("post_worker_init", worker)
        worker.booted = True
        return worker.wsgi

    def interrupted(self) -> None:
        """The worker exits at once."""
        self._call("worker_int", self._worker)

    def aborted(self) -> None:
        """The worker hangs, and exits at once."""
        self._worker.aborted = True
        self._call("worker_abort", self._worker)

    def before_mold(self) -> None:
        """A mold is about to be forked from the worker. Raises HookError."""
        self._needed("before_mold_fork", self._server, self._worker)

    def after_mold(self) -> None:
        """In the mold. Raises HookError."""
        self._needed("after_mold_fork", self._server)

    def exiting(self) -> None:
        """The worker exits; in the process of a worker only."""
        if self._worker.pid == os.getpid():
            self._call("worker_exit", self._server, self._worker)

    # Requests

    def wrap(self, application: Application) -> Application:
        """The same application, before which ``pre_request`` is called; `serve` has to be what calls it."""
        before, worker, requests = self._settings.pre_request, self._worker, self._requests

        def call_with_hooks(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            answer: Answer = start_response.__self__  # type: ignore[attr-defined]
            request = RequestView(environ)
            requests[id(environ)] = (request, ResponseView(answer))
            if before is not None:
                before(worker, request)
            return application(environ, start_response)

        return call_with_hooks

    def around(self, serve: Serve) -> Serve:
        """How a request is served, and ``post_request`` called behind it."""
        after, worker, requests = self._settings.post_request, self._worker, self._requests
        # Asked once: to look at a function's signature takes longer than many a request.
        count = hooks.most_taken(after, _LEAST_OF_POST_REQUEST, 4) if after is not None else 0

        def serve_with_hooks(cycle: Any, client: Any, environ: dict[str, Any], flags: int, line: bytes) -> Any:
            outcome = serve(cycle, client, environ, flags, line)
            request, response = requests.pop(id(environ), (None, None))
            if after is not None and request is not None:
                try:
                    after(*(worker, request, environ, response)[:count])
                except BaseException:  # noqa: BLE001
                    # As with the application: whatever it is, it ends no worker.
                    self._log.exception("post_request: the hook failed")
            return outcome

        return serve_with_hooks

    # Calls

    def _needed(self, name: str, *arguments: Any) -> None:
        hook = getattr(self._settings, name)
        if hook is None:
            return
        try:
            hook(*arguments)
        except BaseException as error:
            summary = traceback.format_exception_only(error)[-1].strip()
            raise HookError(f"{name}: the hook failed: {summary}", traceback.format_exc()) from error

    def _call(self, name: str, *arguments: Any) -> None:
        hook = getattr(self._settings, name)
        if hook is None:
            return
        try:
            hook(*arguments)
        except BaseException:  # noqa: BLE001
            # Whatever it is: the worker exits in its own way.
            self._log.exception("%s: the hook failed", name)
