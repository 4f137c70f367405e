"""What a connection may ask of the worker that it belongs to, and nothing more."""

import select
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from wsgicluster.errors import ProtocolError, ServerError
from wsgicluster.http.limits import HeadLimits
from wsgicluster.ipc.reasons import BadRequest, CloseReason
from wsgicluster.worker.loop.loop import Loop
from wsgicluster.worker.transport.outbox import Storage
from wsgicluster.worker.transport.timeouts import Timing
from wsgicluster.wsgi.client_callables import Answers

C = TypeVar("C")
"""The class of connections; they know their host, and this module does not know them."""
C_contra = TypeVar("C_contra", contravariant=True)


class FastPath(Answers, Protocol[C]):
    """A shorter way to receive, which may have answered already; see `wsgicluster.worker.kinds.sync.fast_path`.

    ``received_bytes`` counts; ``serving`` is the connection whose request is being answered.
    """

    received_bytes: int
    serving: C | None

    def holds(self, connection: C) -> bool:
        """Whether the last response on a connection has not been sent yet."""

    def receive(self, connection: C, peer: Any) -> bytes | memoryview | None:
        """The bytes received, or None when there was a request and it has been answered."""


class Arrivals(Protocol[C_contra]):
    """A shorter way to accept, which may have answered already; see `wsgicluster.worker.kinds.sync._fast_path`.

    It accepts no more in one go once it has got a descriptor from ``mark`` on. ``last_passed`` is the last descriptor
    from another worker. ``choose`` returns the mailbox of the worker that the next connection is passed on to, or -1:
    none; it is None where all are served here.
    """

    mark: int
    last_passed: int
    choose: Callable[[], int] | None

    def serve_listeners(
        self, connect: Callable[..., C_contra], templates: list[dict[str, Any]], packets: list[bytes]
    ) -> None:
        """Say how a connection is made of a descriptor, and what is the same for all of a listener.

        Each that is passed on goes with that of the ``packets`` that is its listener's.
        """

    def accept(self, listener: int) -> tuple[int, Any] | None:
        """The next connection's descriptor, which does not block, and its peer's address."""

    def answer_arrivals(self, listener: int, index: int, ends: float, most: int) -> None:
        """Accept and answer until ``most`` connections stay open, no client waits, or the time is over."""

    def answer_passed(self, mailbox: int, most: int) -> tuple[bytes, int] | None:
        """Answer so many new connections (``most``) that other workers have accepted, and return None.

        Returns the first packet of another kind, with its descriptor or -1; an empty one where no more lie there.
        """

    def abandon(self) -> int:
        """In a process that the application has forked: close the connection that is being answered.

        Returns what its descriptor was, or -1: it has been closed, and may still be sent to.
        """


class Host(Protocol[C]):
    """What a connection needs of its worker."""

    loop: Loop
    timing: Timing
    storage: Storage
    received_bytes: int
    fast_path: FastPath[C] | None
    limits: tuple[HeadLimits, HeadLimits]
    """On heads from strangers, and from those who are trusted."""
    may_keep: Callable[[], bool]
    """Whether connections are to be kept, now; see `wsgicluster.worker.connection.keep_alive`."""
    on_request: Callable[[C], object]
    """The connection's reader has a complete request."""

    @property
    def draining(self) -> bool:
        """Whether the worker serves what it has, and nothing after that."""

    def adopt(self, connection: C, template: dict[str, Any], /) -> object:
        """A connection is new, or has got another client; ``template`` is that of its environs."""

    def runs_early(self, connection: C) -> bool:
        """Whether the request that a connection holds runs already, while its body still arrives."""

    def waits(self, connection: C) -> None:
        """While the worker drains: the connection has nothing to do until its client speaks again."""

    def left(self, connection: C, reason: CloseReason) -> None:
        """The connection is closed, or another process has it."""

    def date(self) -> str:
        """The text of a ``Date`` field."""

    def refused(self, connection: C, error: ProtocolError, sent_bytes: int) -> None:
        """A request was refused before the application saw it; the answer's body has so many bytes."""

    def note_bad_request(self, what: BadRequest) -> None:
        """A client has done something wrong before its first request."""

    def rejected(self, connection: C, kind: str, reason: str) -> None:
        """A connection is closed before its first request; ``kind`` is one of few."""

    def wait_for_client(self, poll: select.poll, limit_s: float) -> None:
        """While the application waits for its client: wait until the socket takes more, for a moment or ``limit_s``."""

    def has_waited(self, seconds: float) -> None:
        """The application has waited for so long until its client had read on."""

    def broken(self, connection: C, error: ServerError) -> None:
        """A response cannot be sent to its end, through no fault of the client."""
