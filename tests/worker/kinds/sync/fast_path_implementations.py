"""The ways in which a sync worker can answer: the cycle alone, and the shorter ways that must not be told from it."""

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest

from wsgicluster.http import core
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.host import FastPath
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.kinds.parts import RunnerParts
from wsgicluster.worker.kinds.requests import finish_environ
from wsgicluster.worker.kinds.sync.worker import CompiledWay, CycleAlone, InlineRunner, PythonWay, Way
from wsgicluster.worker.request.leaves import receiver, serve
from wsgicluster.worker.runner import KindRunner, Step
from wsgicluster.worker.transport.transport import RECEIVE_BYTES

PLAIN = "plain"


def _use_cycle(_context: WorkerContext, _parts: RunnerParts, _slow_s: float) -> Way:
    """The reference: each request is read by a RequestReader, accepted by the worker, answered by the Cycle."""
    return CycleAlone()


def _use_python(context: WorkerContext, parts: RunnerParts, _slow_s: float) -> Way:
    asked_first = context.settings.queue_timeout or parts.named
    return CycleAlone() if asked_first else PythonWay(parts)


class LeavesRunner(InlineRunner):
    """Receives and answers as the kinds do whose requests run outside their loops."""

    def __init__(self, context: WorkerContext, parts: RunnerParts) -> None:
        super().__init__(context, parts, _use_cycle)

    def _fast_path_for(self, on_request: Step) -> FastPath[Connection] | None:
        """What is received whole is complete."""
        cycle, trust = self._parts.cycle, self._parts.trust
        self.fast_path = receiver(cycle, on_request, ConnectionState.RUNNING, RECEIVE_BYTES, trust)
        return self.fast_path

    def run(self, connection: Connection) -> None:
        """Call the application here and now."""
        reader = connection.reader
        if "wsgi.input" not in reader.environ and not finish_environ(connection, self._parts.trust):
            return
        environ = reader.environ
        del reader.environ
        outcome = copy_context().run(serve, self._cycle, connection, environ, reader.flags, reader.line)
        connection.finished(outcome)


Make = Callable[[WorkerContext, RunnerParts], InlineRunner]


def _offered_by(make: Make) -> Callable[[WorkerContext, RunnerParts], KindRunner]:
    return lambda context, parts: make(context, parts).offered()


RUNNERS = {
    PLAIN: _offered_by(partial(InlineRunner, choose_way=_use_cycle)),
    "python": _offered_by(partial(InlineRunner, choose_way=_use_python)),
    "leaves": _offered_by(LeavesRunner),
    "compiled": _offered_by(partial(InlineRunner, choose_way=CompiledWay)),
}
"""The runner that answers in each way, as a kind has it."""

TWINS = ("python", "leaves", "compiled")
"""What is held to the behaviour of the plain way."""

_UNBUILT = "compiled code was not built, or is turned off, in this environment"


def ways(*names: str) -> list[Any]:
    """Parameters: one for each way; the compiled ones are left out where there is none."""
    unbuilt = pytest.mark.skipif(not core.compiled, reason=_UNBUILT)
    return [pytest.param(name, marks=[unbuilt] if name in ("leaves", "compiled") else []) for name in names]
