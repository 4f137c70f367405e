"""Which leaves of the cycle are in use outside the loop: the compiled ones where they were built, else plain Python.

Both give the same results; see `wsgicluster.http.core`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wsgicluster.http import core
from wsgicluster.ipc.scoreboard import Page
from wsgicluster.worker.request.cycle import Client, Cycle
from wsgicluster.worker.request.outcome import Outcome
from wsgicluster.wsgi.trust import Trust

if TYPE_CHECKING:
    from wsgicluster.worker.request._coalesce import Coalescer
    from wsgicluster.worker.request._leaves import Receiver

serve: Callable[[Cycle, Client, dict[str, Any], int, bytes], Outcome] = Cycle.serve
"""Answer one request; as `Cycle.serve`."""

if core.compiled:
    from wsgicluster.worker.request import _coalesce, _leaves

    serve = _leaves.serve


def receiver(
    cycle: Cycle, on_request: Callable[[Any], object], running: object, receive_bytes: int, trust: Trust
) -> "Receiver | None":
    """What receives requests for connections; None where these do so themselves.

    Not for a ``trust`` that counts hops, or another protocol than HTTP.
    """
    if not core.compiled:
        return None
    from wsgicluster.worker.request._leaves import Receiver

    return Receiver(cycle, on_request, running, receive_bytes, trust.schemes)


def coalescer(page: Page, beat_s: float = 0.0) -> "Coalescer | None":
    """What sends blocks of one response together that follow each other quickly; None where each is sent by itself.

    ``beat_s`` is how long an application may take for each block where ``page`` says so, 0 where it does not.
    """
    return _coalesce.Coalescer(page, beat_s) if core.compiled else None
