"""What takes part in a connection for some of its life: its phases without a request, and what one request has with it.

A connection asks these and does not know them.
"""

from typing import Protocol


class ConnectionPhase(Protocol):
    """What a connection does while it neither reads nor runs a request.

    See `wsgicluster.worker.connection.preamble` and `wsgicluster.worker.connection.closing`.
    """

    def advance(self) -> None:
        """Continue, as far as that is possible without waiting."""

    def expired(self) -> None:
        """The connection's deadline has passed."""


class Extension(Protocol):
    """What one request has that most have not: a body that still arrives, or a socket that its application may take.

    See `wsgicluster.worker.kinds.gevent.streaming` and `wsgicluster.worker.connection.raw`. ``waits`` says that the
    request waits for its client to send more.
    """

    @property
    def waits(self) -> bool: ...

    def wake(self) -> None:
        """The socket is readable, and the request ``waits`` for that."""

    def expired(self, now: float) -> bool:
        """The connection's deadline has passed; False when it is none of the request's."""

    def may_keep(self) -> bool:
        """The head of the response is about to be sent: whether the connection is kept, if the worker keeps any."""

    def client_wait_s(self, now: float) -> float:
        """How long the request has waited for what its client sends."""

    def over(self) -> bool:
        """The request is over, or its connection is closed; True when nothing more may be sent on it."""
