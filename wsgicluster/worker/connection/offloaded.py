"""A connection whose request runs outside the loop, in a thread or a greenlet, while the loop turns.

While it is RUNNING it belongs to the thread or the greenlet that runs its request: that one sends through the socket,
and the loop leaves it alone. Both meet only at what the client has not taken, behind a lock. How requests are run is
not known here.
"""

from _thread import allocate_lock
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from wsgicluster.errors import ClientGone, ServerError
from wsgicluster.http.connection import RequestReader
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.host import Host
from wsgicluster.worker.connection.reading import Reading
from wsgicluster.worker.connection.states import ON_KEPT, ConnectionState
from wsgicluster.worker.loop.loop import READ, WRITE
from wsgicluster.worker.request.cycle import Outcome
from wsgicluster.worker.request.in_flight import RequestsInFlight
from wsgicluster.worker.transport.transport import has_input

PROMPT_S = 0.005
"""How long leftovers of a response wait for its own next block to take them along, before the loop sends them."""

_READING, _RUNNING = ConnectionState.READING, ConnectionState.RUNNING
_KEEP = Outcome.KEEP
_BEFORE_REQUESTS = frozenset((ConnectionState.OPENING, ConnectionState.READING))


class ConcurrentHost(Host[Any], Protocol):
    """What such a connection needs of its worker besides; of ``running`` requests ``capacity`` can run at once."""

    running: RequestsInFlight
    capacity: int

    def offer_to_sibling(self, connection: "OffloadedConnection") -> bool:
        """Give the connection to a sibling, if there is a reason; True when it was given away or has to wait."""

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have the loop call something, from whatever thread or greenlet."""


class OffloadedReading(Reading["OffloadedConnection"]):
    """Reads requests, unless a sibling is to have those for which there is no room here."""

    __slots__ = ()

    def readable(self) -> None:
        """The loop has found it readable."""
        connection = self._connection
        host = connection.host
        if len(host.running.seats) < host.capacity or not host.offer_to_sibling(connection):
            self.receive()


class OffloadedConnection(Connection):
    """A `Connection` whose requests run elsewhere; ``guest``: it has come from a sibling and has not been served."""

    __slots__ = ("_opened_at", "_promised", "guest")

    host: ConcurrentHost
    reads = OffloadedReading

    def __init__(self, host: ConcurrentHost, descriptor: int, listener: int, reader: RequestReader) -> None:
        super().__init__(host, descriptor, listener, reader)
        self.guest = False
        self._opened_at = host.loop.now
        self._promised = False
        """The loop will look after what waits to be sent."""

    @property
    def waits_for_turn(self) -> bool:
        """Whether its request is complete, and has not begun to run."""
        return self.state is _RUNNING and hasattr(self.reader, "environ")

    # -- the loop's side

    def receive_unless_full(self) -> None:
        """As `receive_if_open`, but a request for which there is no room may be a sibling's, and stays unread then."""
        if self.state is _READING:
            self.reading.readable()
        else:
            self.receive_if_open()

    def ready_while_running(self, events: int) -> None:
        """The socket takes more, or its client has sent something, while the request runs."""
        extension = self.extension
        waits = extension is not None and extension.waits
        if events & ~READ and self.watching & WRITE:
            self.watch(READ if waits else 0)
            self._send_leftovers()
        if events & ~WRITE and self.watching & READ:
            if extension is not None and waits:
                extension.wake()
                return
            # The next request comes early, or the client has left. Either stays where it is until this one is over.
            self.watch(self.watching & WRITE)
            if self.state is _READING:  # it has just ended, and saw the socket still watched
                self.watch(READ)

    def is_silent_since(self, moment: float) -> bool:
        """Was it opened before, and has had no request to this day, nor sent anything that was not looked at?"""
        if self._opened_at >= moment or self.kept or self.state not in _BEFORE_REQUESTS:
            return False
        return self.reader.idle and not has_input(self.transport)

    def pause(self) -> None:
        """Leave what has come where it is, until `wait_if_reading`."""
        self.watch(0)

    def wait_if_reading(self) -> None:
        """Watch the socket again, unless the next request runs already."""
        if self.state is _READING and self.reader.idle and not self.reader.rest:
            self.reading.wait()

    def _send_leftovers(self) -> None:
        """Send what has been left, while the request runs."""
        turn = self.turn
        self._promised = False
        if turn is None or self.outbox is None or self.state is not _RUNNING:
            return  # sent since, or left to `finished`
        if not turn.acquire(False):
            # The request is about to send something itself.
            self._promise()
            return
        try:
            if self.outbox is None or self.sends_alone or self.flush_in_turn():
                return
            self._promised = True
        except ClientGone:
            if not self.outbox.given_up:
                self.outbox = None  # its next bytes meet the same error
            return
        except ServerError as error:
            self.host.broken(self, error)
            return
        finally:
            turn.release()
        if self.state is _RUNNING:
            extension = self.extension
            self.watch(WRITE | READ if extension is not None and extension.waits else WRITE)

    # -- the side of the thread or greenlet that runs the request

    def settle(self, outcome: Outcome) -> Callable[[], object] | None:
        """The request is over: do what is left to do; the call that this returns is left to the loop.

        A connection that is kept, as most are, only starts to wait again: it is still watched.
        """
        host = self.host
        if (
            outcome is not _KEEP
            or not self.kept
            or self.outbox is not None
            or self.extension is not None
            or self.watching != READ
            or self.reader.rest
            or self.ended
        ):
            return lambda: self.finished(outcome)
        deadline = monotonic() + host.timing.keepalive_s
        if deadline < self.deadline:
            return lambda: self.finished(outcome)
        self.deadline = deadline
        self.quick = True
        self.state = ON_KEPT[self.state]
        # The loop may have turned away from a running connection, or have begun to drain, a moment before.
        if self.watching != READ or host.draining:
            return self.wait_if_reading
        return None

    def client_wait_s(self, now: float) -> float:
        """How long the request that runs has waited for its client: for its body, and to take the response."""
        waited_s, extension = super().client_wait_s(now), self.extension
        return waited_s if extension is None else waited_s + extension.client_wait_s(now)

    def keep(self, data: memoryview | bytes) -> None:
        """Keep data until the client takes it. Raises ClientGone."""
        if self.state is not _RUNNING:
            super().keep(data)
            return
        if self.turn is None:
            self.turn = allocate_lock()
        with self.turn:
            # From here on the loop finds nothing left, or sends it, or its promise is renewed below.
            self.sends_alone = False
            super().keep(data)
        if not self._promised:
            self._promised = True
            self.host.call_soon(self._promise)

    def _promise(self) -> None:
        self._promised = True
        self.loop.call_at(self.loop.now + PROMPT_S, self._send_leftovers)
