"""Probes of load balancers and orchestrators, to which the worker's loop responds: ``health_path`` and ``ready_path``.

They never reach the application, wait for no thread, and count as no request of it. Without these settings nothing of
this is made.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from wsgicluster.errors import ClientGone
from wsgicluster.http.response import REASONS
from wsgicluster.ipc.scoreboard import Cell, ServerState
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.keep_alive import KeepAlive
from wsgicluster.worker.connection.offloaded import OffloadedConnection
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.request.cycle import Cycle
from wsgicluster.worker.request.outcome import Outcome
from wsgicluster.worker.runner import Step
from wsgicluster.wsgi.environ import place_of
from wsgicluster.wsgi.response import Response

METHODS = ("GET", "HEAD")
_STATE_WORDS = {ServerState.LEAVING: "draining"}
_PROBES = int(Cell.PROBES)

Judge = Callable[[], list[str]]
"""Returns why a probe fails; nothing where it does not."""


def healthy() -> list[str]:
    """A worker that responds is healthy."""
    return []


def unready(server: ServerState, orphaned: bool) -> list[str]:
    """Why load balancers should send no clients to a server in this state, in the words of the admin worker."""
    if orphaned:
        return ["arbiter: has exited"]
    if server.is_ready:
        return []
    return [f"server: {_STATE_WORDS.get(server, server.name.lower())}"]


def probe_response(reasons: list[str]) -> tuple[str, list[tuple[str, str]], bytes]:
    """Status, fields and body of the response to a probe."""
    code = 503 if reasons else 200
    body = json.dumps({"status": "unavailable" if reasons else "ok", "reasons": reasons}).encode() + b"\n"
    fields = [
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-store"),
        ("Content-Length", str(len(body))),
    ]
    return f"{code} {REASONS[code]}", fields, body


class ProbePaths:
    """The probes of one worker, by path; ``logs_them`` says whether the access log has them."""

    def __init__(self, context: WorkerContext, cycle: Cycle, judges: Mapping[str, Judge], logs_them: bool) -> None:
        self._judges = dict(judges)
        self._cycle = cycle
        self._cells = context.page.cells
        self._logs_them = logs_them and cycle.access is not None
        # No request of the application has run whose time could be reason enough to close.
        self._may_keep = KeepAlive(context.page.cells, context.settings.keepalive).allows
        place = place_of(os.environ)
        self._beginnings = tuple(
            f"{method} {place}{path}{end}".encode("latin-1") for path in judges for method in METHODS for end in " ?"
        )
        self._most_bytes = max(map(len, self._beginnings))

    def step(self, then: Step) -> Step:
        """What is called with each complete request; one that is not a probe goes to ``then``."""
        judges = self._judges

        def answer_probe(connection: Connection) -> None:
            environ = connection.reader.environ
            judge = judges.get(environ["PATH_INFO"])
            if judge is None or environ["REQUEST_METHOD"] not in METHODS:
                then(connection)
            else:
                self._answer(connection, environ, judge())

        return answer_probe

    def offer(self, then: Callable[[OffloadedConnection], bool]) -> Callable[[OffloadedConnection], bool]:
        """What is asked about each connection on which something has come while all threads are busy.

        One with a probe is not given to a sibling, which may be as busy: it needs no thread. ``then`` decides the rest.
        """

        def offer(connection: OffloadedConnection) -> bool:
            return not self._comes_next(connection) and then(connection)

        return offer

    def _comes_next(self, connection: OffloadedConnection) -> bool:
        if not connection.movable or not connection.reader.idle or connection.reader.rest:
            return False  # it stays here in any case
        try:
            begun = connection.transport.recv(self._most_bytes, socket.MSG_PEEK)
        except OSError:
            return False
        return begun.startswith(self._beginnings)

    def _answer(self, connection: Connection, environ: dict[str, Any], reasons: list[str]) -> None:
        reader, cycle, began = connection.reader, self._cycle, time.monotonic()
        del reader.environ
        if reader.body is not None:
            reader.body.close()  # it has been received, and is of no use
            reader.body = None
        if connection.extension is None:
            connection.may_keep = self._may_keep
        response = Response(connection, reader.flags, cycle.stamp(began))
        status, fields, body = probe_response(reasons)
        response.start_response(status, fields)
        try:
            response.send_whole(body)
            outcome = Outcome.KEEP if response.keep else Outcome.CLOSE
        except ClientGone:
            outcome = Outcome.ABORT
        connection.may_keep = connection.host.may_keep
        self._cells[_PROBES] += 1
        if self._logs_them:
            cycle.log(environ, status, fields, response.sent_bytes, time.monotonic() - began)
        connection.finished(outcome)


def probe_paths(context: WorkerContext, cycle: Cycle) -> ProbePaths | None:
    """Those that the settings name, if they do."""
    settings, board, state = context.settings, context.assignment.board, context.state
    judges: dict[str, Judge] = {}
    if settings.health_path is not None:
        judges[settings.health_path] = healthy
    if settings.ready_path is not None:
        judges[settings.ready_path] = lambda: unready(board.told(), state.orphaned)
    return ProbePaths(context, cycle, judges, settings.access_log_health) if judges else None
