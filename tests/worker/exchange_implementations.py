"""The ways in which a sync worker can answer: the cycle alone, and the shorter ways that must not be told from it."""

from collections.abc import Callable
from typing import Any

import pytest

from wsgicluster.http import core
from wsgicluster.worker.exchange import PlainExchange
from wsgicluster.worker.sync import SyncWorker
from wsgicluster.wsgi.input import StoredBody

PLAIN = "plain"


def _use_cycle(worker: SyncWorker) -> None:
    """The reference: each request is read by a RequestReader, accepted by the worker, answered by the Cycle."""
    worker.exchange = worker.arrivals = None
    parts: Any = worker
    parts._body_buffer = lambda length: StoredBody(worker.upload_folder, length)


def _use_python(worker: SyncWorker) -> None:
    _use_cycle(worker)
    if worker.admission is None and worker.ids is None:
        worker.exchange = PlainExchange(worker.cycle, worker._trust, worker.timing.keepalive_s, worker.slow_s)


def _use_compiled(worker: SyncWorker) -> None:
    from wsgicluster.worker._exchange import BodyBuffer, Exchange, Peer

    worker._peer, worker._body_buffer = Peer, BodyBuffer
    worker.exchange = worker.arrivals = Exchange(
        worker.cycle, worker.limits[False], worker._trust, worker.timing.keepalive_s, worker.slow_s
    )
    worker.exchange.ids = worker.ids
    worker.exchange.aged_ms = 50 if worker.admission else 0


USE: dict[str, Callable[[SyncWorker], None]] = {PLAIN: _use_cycle, "python": _use_python, "compiled": _use_compiled}
"""How a worker that has no connection yet is made to answer in one of the ways."""

TWINS = ("python", "compiled")
"""What is held to the behaviour of the plain way."""

_UNBUILT = "compiled code was not built, or is turned off, in this environment"


def ways(*names: str) -> list[Any]:
    """Parameters: one for each way; the compiled one is left out where there is none."""
    unbuilt = pytest.mark.skipif(not core.compiled, reason=_UNBUILT)
    return [pytest.param(name, marks=[unbuilt] if name == "compiled" else []) for name in names]
