"""Requests that run while their bodies arrive, in a worker where one that waits keeps nobody else waiting.

Whoever runs such a request receives its body, as the application reads it: what that does not read stays with the
client. The loop says when there is more to receive, and when the client has been slow for too long. How one waits
is not known here.
"""

import io
import math
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from wsgicluster.errors import BrokenBody, ProtocolError
from wsgicluster.http.connection import RequestReader
from wsgicluster.http.head import CHUNKED
from wsgicluster.worker.connection import CONTINUE
from wsgicluster.worker.cycle import Outcome
from wsgicluster.worker.ending import RECEIVE_BYTES, State
from wsgicluster.worker.loop import READ, WRITE
from wsgicluster.worker.shared import ConcurrentHost, Sharing

LARGE_BYTES = 64 * 1024
"""Up to this length a body is collected first: that costs little, and slow clients cost no greenlet."""

_RUNNING = State.RUNNING


class BodyFeed:
    """A body as it arrives (a `wsgicluster.http.connection.BodyStore`): ``pending`` has come and was not read.

    ``complete`` says that nothing more comes, ``failure`` why nothing more can come.
    """

    def __init__(self) -> None:
        self.pending = bytearray()
        self.complete = False
        self.failure: ProtocolError | None = None

    def write(self, piece: memoryview) -> None:
        """Take the next piece."""
        self.pending += piece

    def finish(self) -> BinaryIO:
        """The body as a file, if it has come to its end before anybody has begun to read."""
        self.complete = True
        return io.BytesIO(self.pending)

    def discard(self) -> None:
        """Forget what nobody will read."""
        self.pending.clear()


class BodyInput(io.RawIOBase):
    """What the buffered ``wsgi.input`` reads from; waits as long as nothing is there."""

    def __init__(self, connection: "Streaming", feed: BodyFeed) -> None:
        self._connection = connection
        self._feed = feed

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give what is there, or wait for more; 0 at the end of the body. Raises BrokenBody."""
        pending = self._feed.pending
        while not pending:
            if self._feed.complete:
                return 0
            self._connection.receive_body(self._feed)
        count = min(len(buffer), len(pending))
        buffer[:count] = memoryview(pending)[:count]
        del pending[:count]
        return count

    def readall(self) -> bytes:
        """All the rest. Raises BrokenBody."""
        feed = self._feed
        while not feed.complete:
            self._connection.receive_body(feed)
        data = bytes(feed.pending)
        feed.pending.clear()
        return data


class Waiter(Protocol):
    """One wait of whoever runs a request."""

    def wait(self) -> None:
        """Wait until `wake`, which may have been called already."""

    def wake(self) -> None:
        """End the wait; from the loop."""


class StreamingHost(ConcurrentHost, Protocol):
    """What such a connection needs of its worker besides."""

    def new_waiter(self) -> Waiter:
        """For the greenlet that calls this, or any other one."""


class Streaming(Sharing):
    """A `Sharing` whose requests may run before their bodies are there."""

    if not TYPE_CHECKING:  # `shared` gives its classes the slots
        __slots__ = ()
    own_slots = (*Sharing.own_slots, "_feed", "_unread", "_waited_s", "_waiter", "_waits_since")

    _host: StreamingHost
    _feed: BodyFeed | None
    """The body of the request that runs, if it runs while that arrives."""
    _waiter: Waiter | None
    _waited_s: float
    _waits_since: float
    _unread: bool
    """Some of the last body has not been received."""

    def __init__(self, host: StreamingHost, sock: socket.socket | int, listener: int, reader: RequestReader) -> None:
        super().__init__(host, sock, listener, reader)
        self._feed = None
        self._waiter = None
        self._waited_s = 0.0
        self._waits_since = math.inf
        self._unread = False

    # -- the loop's side

    def _wait_for_rest(self, fresh: bool) -> None:
        reader = self.reader
        if reader.idle or not isinstance(reader.store, BodyFeed):
            super()._wait_for_rest(fresh)
            return
        self._feed = feed = reader.store
        reader.body = cast(BinaryIO, io.BufferedReader(BodyInput(self, feed), RECEIVE_BYTES))
        self.may_keep = self._may_keep_behind_body
        self.state = _RUNNING
        self._host.on_request(self)

    def on_event(self, events: int) -> None:
        """The socket is ready for what this state waits for."""
        if self.state is not _RUNNING or self._feed is None:
            super().on_event(events)
            return
        if events & ~READ and self._watching & WRITE:
            self._unwatch()
            self._send_leftovers()
        if events & ~WRITE and self._watching & READ:
            if self._waiter is not None:
                self._waiter.wake()
            elif self._watching & WRITE:
                self.watch(WRITE)
            else:
                # What has come stays where it is until somebody reads on.
                self._unwatch()

    def watch(self, events: int) -> None:
        """Wait for events of the socket: READ or WRITE, and READ in any case while the request waits for its body."""
        super().watch(events | READ if self._waiter is not None else events)

    def _unwatch(self) -> None:
        if self._waiter is not None:
            super().watch(READ)
        else:
            super()._unwatch()

    def expired(self) -> None:
        """The deadline has passed."""
        feed, waiter = self._feed, self._waiter
        if self.state is not _RUNNING or feed is None or waiter is None or self.deadline > self._loop.now:
            super().expired()
            return
        if not self.has_input():
            feed.failure = ProtocolError(408, "the request's body did not arrive in time")
        waiter.wake()

    def finished(self, outcome: Outcome) -> None:
        """The response to the request has been given to this connection."""
        if self._feed is not None:
            self._feed = None
            self._waited_s = 0.0
            if self._waiter is not None:
                # Another greenlet of the application reads on: it would never hear anything again.
                self._waiter.wake()
                self._waiter = None
                self._waits_since = math.inf
            self.may_keep = self._host.may_keep
            if not self.reader.idle:
                self._unread = True
                self.reader.close()
        super().finished(outcome)

    def _end(self) -> None:
        if self._unread:
            # Its client sends on: closing now would take the response away from it.
            self.linger()
        else:
            super()._end()

    # -- the side of who runs the request

    def receive_body(self, feed: BodyFeed) -> None:
        """Receive more of the body, and wait for it when there is nothing. Raises BrokenBody."""
        while feed is self._feed and not feed.complete:
            if feed.failure is not None:
                raise BrokenBody(feed.failure.detail, feed.failure)
            try:
                self._receive_some(feed)
                return
            except BlockingIOError:
                self._wait_for_body()
        if not feed.complete:  # else another one has received the rest meanwhile
            raise BrokenBody("the request is over")

    def body_wait_s(self, now: float) -> float:
        """How long the request that runs has waited for its client."""
        return self._waited_s + max(0.0, now - self._waits_since)

    def _receive_some(self, feed: BodyFeed) -> None:
        try:
            data = self.sock.recv(RECEIVE_BYTES)
            if data:
                self._host.received_bytes += len(data)
                self.reader.receive(data)
        except BlockingIOError:
            raise
        except ProtocolError as error:  # of the body, or of the TLS around it
            feed.failure = error
            raise BrokenBody(error.detail, error) from error
        except OSError as error:
            raise BrokenBody("the client left before its request's body was complete") from error
        if not data:
            raise BrokenBody("the client left before its request's body was complete")

    def _wait_for_body(self) -> None:
        reader, host = self.reader, self._host
        if reader.awaits_continue and not self._waited_s:
            # RFC 9110, section 10.1.1. Whoever answers without having read does not want the body.
            self.contact.interrupt(CONTINUE)
        self._waits_since = now = monotonic()
        self._waiter = waiter = host.new_waiter()
        # The time in which the application did not ask for more is none of the client's.
        began = now - self._waited_s
        self._loop.deadlines.set(self, host.timing.body_deadline(now, began, reader.body_received))
        self.watch(self._watching | READ)
        try:
            waiter.wait()
        finally:
            if self._waiter is waiter:  # else the request is over
                self._waiter = None
                self._waits_since = math.inf
                self._waited_s += monotonic() - now

    def _may_keep_behind_body(self) -> bool:
        """The head of the response is about to be sent: is the connection worth keeping?"""
        feed, reader = self._feed, self.reader
        if feed is not None and not feed.complete and not reader.awaits_continue:
            try:
                # The rest may be there, although nobody has read it.
                self._receive_some(feed)
            except (BlockingIOError, BrokenBody):
                return False
        return reader.idle and self._host.may_keep()


def is_streamed(mode: str, length: int) -> bool:
    """Whether a body that has not come with its head is streamed; ``mode`` is the setting, ``length`` maybe CHUNKED."""
    return mode == "all" or (mode == "large" and length != CHUNKED and length > LARGE_BYTES)
