"""What runs the requests of one worker: all that a kind gives for it, by who asks for it.

How requests are run is not known here, nor by those who ask.
"""

import select
from collections.abc import Callable, Collection, Sequence, Sized
from typing import Any, Protocol

from wsgicluster.dataclass import dataclass
from wsgicluster.http.connection import BodyStore
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.host import Arrivals, FastPath
from wsgicluster.worker.loop.loop import do_nothing
from wsgicluster.worker.request.in_flight import RequestRunner

Step = Callable[[Connection], object]
"""What is called with a connection that has a complete request."""


class RequestQueue(Protocol):
    """The requests that are complete and wait to be run."""

    @property
    def waiting(self) -> Sized:
        """All of them."""

    def withdraw(self, unwanted: Callable[[Connection], bool]) -> Sequence[Connection]:
        """Take the oldest out of the queue, as long as they are unwanted."""


class NoQueue:
    """Where each request begins to run as soon as it is complete, or waits in its socket."""

    waiting: Sized = ()

    def withdraw(self, _unwanted: Callable[[Connection], bool]) -> Sequence[Connection]:
        """There is none to take out."""
        return ()


class Load(Protocol):
    """How much there is to run, and how much of it at once; for the intake, the drain, and what looks for timeouts.

    ``capacity`` is how many requests can run at once, ``batch`` how many new clients are taken in one turn whatever
    else there is. While ``room_awaited`` is set, the loop is to be woken when there is room. ``running`` are the
    requests that run while the loop turns.
    """

    batch: int
    capacity: int
    room_awaited: bool

    @property
    def running(self) -> Collection[RequestRunner]: ...
    @property
    def queue(self) -> RequestQueue: ...

    def oldest_s(self, now: float) -> float:
        """How long the oldest request that runs has done so."""


class ClientWaits(Protocol):
    """What happens while an application waits for its client; for connections, through their host.

    ``spools_responses``: responses are stored for slow clients, since other requests would have to wait.
    """

    spools_responses: bool

    def is_crowded(self) -> bool:
        """Whether other requests would wait now for one that waits for its client."""

    def wait_for_client(self, poll: select.poll, limit_s: float) -> None:
        """While the application waits for its client: wait until the socket takes more, for a moment or ``limit_s``."""

    def has_waited(self, seconds: float) -> None:
        """The application has waited for so long until its client had read on."""

    def lift_deadline(self, connection: Connection) -> None:
        """The request that runs on a connection may take as long as it wants."""


def adopt_nothing(_connection: Connection, _template: dict[str, Any]) -> None:
    """Nothing is kept for a connection."""


def run_when_complete(_connection: Connection) -> bool:
    """No request runs before its body is there."""
    return False


@dataclass(frozen=True)
class KindRunner:
    """What a kind gives to one worker; what a kind leaves out, it has nothing to do for.

    ``run`` is called with each complete request that no fast path has answered. ``fast_path_for`` returns the shorter
    way to receive, if there is one, which calls what it is given with each complete request; it is called before there
    is a connection. ``may_keep`` says whether connections are to be kept, now; see
    `wsgicluster.worker.connection.keep_alive`. ``open_body`` returns where a body goes that arrives in pieces, by its
    length, which is CHUNKED when it is not known; ``runs_early`` whether a request runs already while that arrives.
    ``adopt`` is called with a connection that is new, or has got another client, and the template of its environs.
    ``begin`` is called when the worker is about to serve, ``end_quickly`` from a signal handler when it hangs and ends
    in a moment, ``end_threads`` once it has drained, where a mold is to be forked from it.
    """

    run: Step
    load: Load
    waits: ClientWaits
    fast_path_for: Callable[[Step], FastPath[Connection] | None]
    may_keep: Callable[[], bool]
    open_body: Callable[[int], BodyStore]
    runs_early: Callable[[Connection], bool] = run_when_complete
    adopt: Callable[[Connection, dict[str, Any]], object] = adopt_nothing
    arrivals: Arrivals[Connection] | None = None
    begin: Callable[[], object] = do_nothing
    end_quickly: Callable[[], object] = do_nothing
    end_threads: Callable[[], object] = do_nothing
