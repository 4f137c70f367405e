"""The hooks that run in the arbiter, called at Gunicorn's moments: see `wsgicluster.arbiter.hooks.ArbiterHooks`.

A hook that raises is logged and stops nothing, but for those without which the server cannot start.
"""

import base64
import logging
import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from wsgicluster.arbiter.hooks import HookedChild
from wsgicluster.errors import HookError
from wsgicluster.gunicorn.carried import Changes, apply_environ, variables_of
from wsgicluster.gunicorn.configuration import Configuration
from wsgicluster.gunicorn.views import BOOTING, ListenerView, LogView, ServerView, WorkerView
from wsgicluster.settings import Settings
from wsgicluster.system import forks
from wsgicluster.system.descriptors import OpenedDescriptors

SLOW_S = 0.1
"""A hook that takes longer is named in the log: no worker is supervised meanwhile."""


SENT_BYTES = 16 * 1024
"""How much of a view goes to a worker of the mold: an order has 64 KiB, for both views and what else is in it."""

SENT_VARIABLES_BYTES = 4 * 1024
"""How much of the environment goes to one, and of the file's variables."""

MOST_GENERATIONS = 3
"""One serves, one is on trial, and one may still be leaving."""


class ChildState:
    """What the arbiter knows of a worker: a `Live`."""

    def __init__(self, child: HookedChild, requests: Callable[[], int]) -> None:
        self._child = child
        self.requests = requests

    def is_alive(self) -> bool:
        """Is there, or will be, a process?"""
        return self._child.alive

    def leave(self) -> None:
        """Nothing: only a worker itself can say so."""


class ArbiterCalls:
    """The hooks of one server, in its arbiter; ``use`` is called with each reading of the settings.

    ``opened`` are the descriptors that the configuration file has opened, to which those of hooks are added;
    ``user_logger`` returns the object of ``logger_class``, or None.
    """

    def __init__(self, log: logging.Logger, opened: OpenedDescriptors, user_logger: Callable[[], Any]) -> None:
        self._log = log
        self._settings = Settings()
        self._children: dict[int, tuple[HookedChild, WorkerView]] = {}
        self._opened = opened
        self._unsent: set[str] = set()
        self._changes: list[tuple[Settings, Changes]] = []
        """For the newest settings with ``preload_app``, the last of them in use."""
        self.server = ServerView(Configuration(self._settings), LogView(log, user_logger), self._workers)

    def use(self, settings: Settings) -> None:
        """These are the newest settings."""
        self._settings = settings
        self.server.cfg = self.server.app.cfg = Configuration(settings)
        if settings.preload_app and not any(known is settings for known, _ in self._changes):
            self._changes = [*self._changes[-MOST_GENERATIONS + 1 :], (settings, Changes(settings.pre_fork))]

    # The moments

    def starting(self) -> None:
        """First of all. Raises HookError."""
        server = self.server
        server.num_workers = int(self._settings.workers)
        self._call("nworkers_changed", server, server.num_workers, None, needed=True)
        server.pid = os.getpid()
        self._call("on_starting", server, needed=True)

    def listening(self, sockets: Sequence[socket.socket]) -> None:
        """The addresses are open. Raises HookError."""
        self._listen(sockets)
        self._call("when_ready", self.server, needed=True)

    def reloaded(self, sockets: Sequence[socket.socket]) -> None:
        """New settings are in force."""
        self.server.pid = os.getpid()  # they may be the first ones with hooks
        before, self.server.num_workers = self.server.num_workers, int(self._settings.workers)
        self._call("nworkers_changed", self.server, self.server.num_workers, before)
        self._listen(sockets)
        self._call("on_reload", self.server)

    def workers_changed(self, wanted: int, before: int) -> None:
        """Another number of workers is wanted."""
        self.server.num_workers = wanted
        self._call("nworkers_changed", self.server, wanted, before)

    def before_fork(self, child: HookedChild, settings: Settings, requests: Callable[[], int]) -> object:
        """A worker is about to be forked; returns its view."""
        server = self.server
        server.worker_age += 1
        view = WorkerView(server.worker_age, Configuration(settings), server.log)
        view.show(ChildState(child, requests))
        self._call("pre_fork", server, view, of=settings)
        self._children[child.key] = (child, view)
        forks.wait_for_imports()
        return view

    def exited(self, child: HookedChild) -> None:
        """A worker has exited, or will never be."""
        _, view = self._children.pop(child.key, (child, None))
        if view is not None and child.pid:
            view.pid = child.pid
            self._call("child_exit", self.server, view)

    def executing(self) -> None:
        """In a process that is about to become a new server."""
        self._call("pre_exec", self.server)

    def stopped(self) -> None:
        """Last of all."""
        self._call("on_exit", self.server)

    def descriptors(self) -> frozenset[int]:
        """Those that hooks and their file have opened in this process."""
        return self._opened.numbers()

    # What workers get

    def packed(self, given: object, settings: Settings) -> str:
        """What hooks have set, for a worker of the mold: on its view and the server's, in their file, and outside."""
        assert isinstance(given, WorkerView), "what `before_fork` has returned"
        parts = {
            "age": given.age,
            "worker": self._sendable("worker", given.own()),
            "server": self._sendable("server", self.server.own()),
            "environ": {},
            "variables": {},
        }
        found = next((changes for known, changes in self._changes if known is settings), None)
        if found is not None:
            parts["environ"] = self._sendable("os.environ", found.environ(), SENT_VARIABLES_BYTES)
            parts["variables"] = self._sendable("__config__", found.variables(), SENT_VARIABLES_BYTES)
        return base64.b64encode(pickle.dumps(parts)).decode()

    def unpacked(self, given: object, settings: Settings) -> WorkerView:
        """In a worker: its view, from what `before_fork` or `packed` has returned."""
        if isinstance(given, WorkerView):
            return given
        assert isinstance(given, str), "what `packed` has returned"
        parts = pickle.loads(base64.b64decode(given))
        view = WorkerView(parts["age"], Configuration(settings), self.server.log)
        vars(view).update(parts["worker"])
        vars(self.server).update(parts["server"])
        variables_of(settings.pre_fork).update(parts["variables"])
        apply_environ(parts["environ"])
        self.server.worker_age = view.age
        return view

    def _sendable(self, whose: str, attributes: dict[str, Any], most_bytes: int = SENT_BYTES) -> dict[str, Any]:
        found: dict[str, Any] = {}
        room_bytes = most_bytes
        for name, value in attributes.items():
            try:
                size_bytes = len(pickle.dumps(value))
            except Exception as error:  # noqa: BLE001
                # Whatever an object's own pickling raises.
                self._say_unsent(f"{whose}.{name}", f"it cannot be pickled: {error}")
                continue
            if size_bytes > room_bytes:
                self._say_unsent(f"{whose}.{name}", f"all of them may have {most_bytes} bytes")
                continue
            room_bytes -= size_bytes
            found[name] = value
        return found

    def _say_unsent(self, attribute: str, why: str) -> None:
        if attribute not in self._unsent:
            self._unsent.add(attribute)
            text = "preload_app: %s, set by a hook, does not reach workers, as %s"
            self._log.warning(text, attribute, why)

    # Calls

    def _listen(self, sockets: Sequence[socket.socket]) -> None:
        scheme = "https" if self._settings.has_tls else "http"
        self.server.LISTENERS = [ListenerView(sock, scheme) for sock in sockets]

    def _workers(self) -> dict[int | str, WorkerView]:
        """By pid; those that were ordered from a mold have a text in its place until they have one.

        They have to be there: hooks give each worker a number that no other one has.
        """
        found: dict[int | str, WorkerView] = {}
        in_arbiter = getattr(self.server, "pid", 0) == os.getpid()
        for key, (child, view) in list(self._children.items()):
            if child.pid:
                view.pid = child.pid
                found[child.pid] = view
            elif in_arbiter:
                found[f"{BOOTING} {key}"] = view
        return found

    def _call(self, name: str, *arguments: Any, needed: bool = False, of: Settings | None = None) -> None:
        hook = getattr(of or self._settings, name)
        if hook is None:
            return
        self._workers()
        began = time.monotonic()
        try:
            with self._opened.noted():
                hook(*arguments)
        except BaseException as error:
            if needed:
                summary = traceback.format_exception_only(error)[-1].strip()
                raise HookError(f"{name}: the hook failed: {summary}", traceback.format_exc()) from error
            # What Gunicorn would end of: here the server keeps serving.
            self._log.exception("%s: the hook failed", name)
        took_s = time.monotonic() - began
        if took_s > SLOW_S:
            self._log.warning("%s: the hook took %.2f s; no worker is supervised meanwhile", name, took_s)
