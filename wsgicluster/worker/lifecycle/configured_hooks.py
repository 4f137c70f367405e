"""The hooks of the configuration file as a worker calls them, each at its moment.

What carries them out is given as a value: a worker without hooks imports none of it.
"""

import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from wsgicluster.ipc.messages import RecycleWanted
from wsgicluster.ipc.scoreboard import Cell, Page
from wsgicluster.worker.lifecycle.state import StateCell


class WorkerFacts:
    """What hooks may see of a worker that changes by itself, and how they have it leave."""

    def __init__(
        self, state: StateCell, page: Page, send: Callable[[RecycleWanted], object], max_requests: int
    ) -> None:
        self.max_requests = max_requests
        self._state = state
        self._cells = page.cells
        self._send = send

    def is_alive(self) -> bool:
        """Whether it serves, and is to continue."""
        return not self._state.leaving

    def requests(self) -> int:
        """How many it has served."""
        return self._cells[Cell.REQUESTS]

    def leave(self) -> None:
        """Have it replaced, once another one is ready."""
        self._send(RecycleWanted("application", "a hook has set worker.alive to False"))


class ConfiguredHooks(Protocol):
    """What is called; `forked`, `initialized` and those of molds raise HookError, the others nothing."""

    def forked(self) -> None:
        """Before the application is loaded."""

    def initialized(self, application: Any, live: WorkerFacts, sockets: Sequence[socket.socket]) -> Any:
        """Before the first request; returns the application, or what a hook has put in its place."""

    def interrupted(self) -> None:
        """The worker exits at once, as was requested."""

    def aborted(self) -> None:
        """The worker hangs, and exits."""

    def before_mold(self) -> None:
        """A mold is about to be forked from the worker, which has drained."""

    def after_mold(self) -> None:
        """In the mold."""

    def exiting(self) -> None:
        """The worker exits."""

    def wrap(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """The same application, called behind a hook."""

    def around(self, serve: Callable[..., Any]) -> Callable[..., Any]:
        """How a request is served, with a hook behind it."""
