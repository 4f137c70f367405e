"""A connection whose request runs outside the loop, in a thread or a greenlet, while the loop goes on.

While it is RUNNING it belongs to whoever runs its request: that one sends through the socket, and the loop leaves
it alone. Both meet only at what the socket has not taken, behind a lock. Who runs requests is not known here.
"""

import _socket
import socket
from _thread import LockType, allocate_lock
from collections.abc import Callable
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from wsgicluster.errors import ClientGone, ServerError
from wsgicluster.http.connection import RequestReader
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.cycle import Outcome
from wsgicluster.worker.ending import State
from wsgicluster.worker.host import Host
from wsgicluster.worker.loop import READ, WRITE
from wsgicluster.worker.seats import Running

PROMPT_S = 0.005
"""How long leftovers of a response wait for its own next block to take them along, before the loop sends them."""

UNTRIED_S = 1.0
"""When a deadline is looked at again that has passed while the request ran."""

_READING = State.READING
_RUNNING = State.RUNNING
_KEEP = Outcome.KEEP
_BEFORE_REQUESTS = frozenset((State.OPENING, State.READING))

if TYPE_CHECKING:
    _Base = Connection
else:
    _Base = object


class ConcurrentHost(Host, Protocol):
    """What such a connection needs of its worker besides; of ``running`` requests ``capacity`` can run at once."""

    running: Running
    capacity: int

    def pass_on(self, connection: "Sharing") -> bool:
        """Give the connection to a sibling, if there is a reason; True when it is gone."""

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have the loop call something, from whatever thread or greenlet."""


class Sharing(_Base):
    """What makes any `Connection` fit to have its requests run elsewhere; see `shared`."""

    if not TYPE_CHECKING:  # `shared` gives its classes the slots
        __slots__ = ()
    own_slots: ClassVar[tuple[str, ...]] = ("_broken", "_opened_at", "_promised", "_turn", "guest")

    _host: "ConcurrentHost"
    how: "ClassVar[type[Sharing]]"
    """Itself, without what `shared` has added."""
    _broken: bool
    """What waited to be sent cannot be sent to its end."""
    _turn: LockType | None
    """Held by who deals with what waits to be sent; made when something first does."""
    guest: bool
    """It has come from a sibling, and has not been served since."""
    _opened_at: float
    _promised: bool
    """The loop will look after what waits to be sent."""

    def __init__(self, host: "ConcurrentHost", sock: socket.socket | int, listener: int, reader: RequestReader) -> None:
        super().__init__(host, sock, listener, reader)
        self.guest = False
        self._opened_at = host.loop.now
        self._broken = False
        self._turn = None
        self._promised = False

    @property
    def sock(self) -> socket.socket:
        """The socket of the connection; owns the descriptor from now on."""
        sock = self._sock
        if sock is None:
            # Not the class of the socket module: gevent puts one there that waits, and this one costs less to make.
            raw = _socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, self.descriptor)
            raw.setblocking(False)
            sock = self._sock = cast(socket.socket, raw)
        return sock

    @property
    def waits_for_turn(self) -> bool:
        """Whether its request is complete, and nobody has begun to answer it."""
        return self.state is _RUNNING and hasattr(self.reader, "environ")

    # -- the loop's side

    def on_event(self, events: int) -> None:
        """The socket is ready for what this state waits for."""
        state = self.state
        if state is _READING:
            host = self._host
            if len(host.running.seats) < host.capacity or not host.pass_on(self):
                self.receive()
        elif state is _RUNNING:
            self._event_while_running()
        else:
            super().on_event(events)

    def _event_while_running(self) -> None:
        if self._watching == WRITE:
            self._unwatch()
            self._send_leftovers()
            return
        # The next request comes early, or the client has left. Either stays where it is until this one is over.
        self._unwatch()
        if self.state is _READING:  # it has just ended, and saw the socket still watched
            self.watch(READ)

    def is_silent_since(self, moment: float) -> bool:
        """Was it opened before, and has had no request to this day, nor sent anything that was not looked at?"""
        if self._opened_at >= moment or self.kept or self.state not in _BEFORE_REQUESTS:
            return False
        return self.reader.idle and not self.has_input()

    def pause(self) -> None:
        """Leave what has come where it is, until `wait_if_reading`."""
        self._unwatch()

    def _unwatch(self) -> None:
        self._loop.remove(self.descriptor)
        self._watching = 0

    def expired(self) -> None:
        """The deadline has passed."""
        now = self._loop.now
        if self.state is _RUNNING:
            # Whoever runs the request only writes the number, and relies on the loop to look at it.
            self._loop.deadlines.set(self, max(self.deadline, now + UNTRIED_S))
        elif self.deadline > now:
            self._loop.deadlines.set(self, self.deadline)
        else:
            super().expired()

    def finished(self, outcome: Outcome) -> None:
        """The response to the request has been given to this connection."""
        super().finished(Outcome.ABORT if self._broken else outcome)

    def wait_if_reading(self) -> None:
        """Watch the socket again, unless the next request runs already."""
        if self.state is _READING and self.reader.idle and not self.reader.rest:
            self.wait_for_request()

    def _send_leftovers(self) -> None:
        """Send what has been left, while the request goes on."""
        turn = self._turn
        self._promised = False
        if turn is None or self.state is not _RUNNING or self._outbox is None:
            return  # sent since, or left to `finished`
        if not turn.acquire(False):
            # The request is about to send something itself.
            self._promised = True
            self._loop.call_at(self._loop.now + PROMPT_S, self._send_leftovers)
            return
        try:
            if self._outbox is None or super()._flush_outbox():
                return
            self._promised = True
        except ClientGone:
            self._outbox = None  # its next bytes meet the same error
            return
        except ServerError as error:
            self._host.broken(self, error)
            self._broken = True
            return
        finally:
            turn.release()
        if self.state is _RUNNING:
            self.watch(WRITE)

    # -- the side of who runs the request

    def settle(self, outcome: Outcome) -> Callable[[], object] | None:
        """The request is over: do what is left to do; what this answers is left to the loop.

        A connection that is kept, as most are, only starts to wait again: it is still watched.
        """
        host = self._host
        if (
            outcome is not _KEEP
            or not self.kept
            or self._outbox is not None
            or self._watching != READ
            or self.reader.rest
            or self.ended
            or host.draining
        ):
            return lambda: self.finished(outcome)
        deadline = monotonic() + host.timing.keepalive_s
        if deadline < self.deadline:
            return lambda: self.finished(outcome)
        self.deadline = deadline
        self._quick = True
        self.state = _READING
        # The loop may have turned away from a running connection, or have begun to drain, a moment before.
        if self._watching != READ or host.draining:
            return self.wait_if_reading
        return None

    def _flush_outbox(self) -> bool:
        turn = self._turn
        if turn is None:
            return super()._flush_outbox()
        with turn:
            return super()._flush_outbox()

    def store(self, data: memoryview | bytes) -> None:
        """Keep data until the socket takes it. Raises ClientGone."""
        if self.state is not _RUNNING:
            super().store(data)
            return
        if self._broken:
            raise ClientGone("a part of the response could not be sent")
        if self._turn is None:
            self._turn = allocate_lock()
        with self._turn:
            super().store(data)
        if not self._promised:
            self._promised = True
            self._host.call_soon(self._await_leftovers)

    def _await_leftovers(self) -> None:
        self._loop.call_at(self._loop.now + PROMPT_S, self._send_leftovers)


@cache
def shared(connection_class: type[Connection], how: type[Sharing] = Sharing) -> type[Connection]:
    """The class of connections that are shared, and otherwise like ``connection_class``."""
    if issubclass(connection_class, Sharing):
        return connection_class
    body: dict[str, Any] = {"__slots__": how.own_slots, "__doc__": how.__doc__, "how": how}
    return cast(type[Connection], type(f"{how.__name__}{connection_class.__name__}", (how, connection_class), body))


def alike(connection_class: type[Connection], other: type[Connection]) -> type[Connection]:
    """``other``, shared in the way of ``connection_class`` if that is."""
    if not issubclass(connection_class, Sharing):
        return other
    return shared(other, connection_class.how)  # type: ignore[arg-type]  # which takes no classes for hashable
