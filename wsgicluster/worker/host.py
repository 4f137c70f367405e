"""What a connection may ask of the worker that it belongs to, and nothing more."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from wsgicluster.errors import ProtocolError, ServerError
from wsgicluster.http.limits import HeadLimits
from wsgicluster.worker.loop import Loop
from wsgicluster.worker.timing import Timing
from wsgicluster.wsgi.contact import Answers

if TYPE_CHECKING:
    from wsgicluster.worker.connection import Connection
    from wsgicluster.worker.ending import Ending


class Exchange(Answers, Protocol):
    """A shorter way to receive, which may have answered already; see `wsgicluster.worker.exchange`.

    ``received_bytes`` counts; ``serving`` is the connection whose request is being answered.
    """

    received_bytes: int
    serving: "Connection | None"

    def holds(self, connection: "Connection") -> bool:
        """Whether the last response on a connection has not been sent yet."""

    def receive(self, connection: "Connection", peer: Any) -> bytes | memoryview | None:
        """The bytes received, or None when there was a request and it has been answered."""


class Arrivals(Protocol):
    """A shorter way to accept, which may have answered already; see `wsgicluster.worker._exchange`."""

    def serve_listeners(self, connect: Callable[..., "Connection"], templates: list[dict[str, Any]]) -> None:
        """Say how a connection is made of a descriptor, and what is the same for all of a listener."""

    def accept(self, listener: int) -> tuple[int, Any] | None:
        """The next connection's descriptor, which does not block, and its peer's address."""

    def answer_arrivals(self, listener: int, index: int, ends: float, most: int) -> None:
        """Accept and answer until ``most`` connections stay open, nobody waits, or the time is over."""

    def abandon(self) -> None:
        """In a process that the application has forked: hold no client's connection open."""


class HandshakeError(Exception):
    """The TLS handshake has failed, for the reason that is the text."""


class Opening(Protocol):
    """What comes before the first request of a connection; see `wsgicluster.worker.opening`."""

    def advance(self) -> None:
        """Go on, as far as that is possible without waiting."""


class Host(Protocol):
    """What a connection needs of its worker."""

    loop: Loop
    timing: Timing
    upload_folder: str | None
    draining: bool
    received_bytes: int
    exchange: "Exchange | None"
    limits: tuple[HeadLimits, HeadLimits]
    """On heads from strangers, and from those who are trusted."""
    on_request: "Callable[[Connection], object]"
    """The connection's reader has a complete request."""

    def adopt(self, connection: "Connection", template: dict[str, Any]) -> None:
        """A connection is new, or has got another client; ``template`` is that of its environs."""

    def may_keep(self) -> bool:
        """Whether connections are to be kept, now."""

    def waits(self, connection: "Connection") -> None:
        """While the worker drains: the connection has nothing to do until its client speaks again."""

    def left(self, connection: "Ending") -> None:
        """The connection is closed."""

    def date(self) -> str:
        """The text of a ``Date`` field."""

    def refused(self, connection: "Connection", error: ProtocolError) -> None:
        """A request was refused before the application saw it."""

    def broken(self, connection: "Connection", error: ServerError) -> None:
        """A response cannot be sent to its end, through no fault of the client."""
