"""Requests that run while their bodies arrive, in a worker where one that waits keeps no other waiting.

The greenlet that runs such a request receives its body, as the application reads it: what that does not read stays with
the client. The loop says when there is more to receive, and when the client has been slow for too long. How a greenlet
waits is not known here.
"""

import io
import math
import tempfile
from time import monotonic
from typing import Any, BinaryIO, Protocol, cast

from wsgicluster.errors import BrokenBody, ProtocolError
from wsgicluster.http.head import CHUNKED
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.reading import CONTINUE
from wsgicluster.worker.loop.loop import READ
from wsgicluster.worker.transport.transport import RECEIVE_BYTES, has_input
from wsgicluster.wsgi.input import MEMORY_BYTES

LARGE_BYTES = 64 * 1024
"""Up to this length a body is collected first: that costs little, and slow clients cost no greenlet."""

KEPT_BYTES = 64 * 1024 * 1024
"""So much of what has been read is kept of each body, in case that the application goes back."""


class KeptBody:
    """What has been read of a body, for an application that goes back in it: in memory, then in an unlinked file.

    As few do, no more than `KEPT_BYTES` are kept until ``wanted``, which says that the application has asked where it
    stands or whether it may go back. Without room for the file nothing is kept any more.
    """

    def __init__(self, folder: str | None) -> None:
        self.size = 0
        self.wanted = False
        self._folder = folder
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self.complete = True
        """Whether all of what has been read is still here."""

    def write(self, data: memoryview) -> None:
        """Keep what has just been read."""
        self.size += len(data)
        if not self.complete:
            return
        if self.size > KEPT_BYTES and not self.wanted:
            self.release()
            return
        try:
            if self._file is None:
                self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES, prefix="wsgicluster-body-", dir=self._folder)
            self._file.seek(0, io.SEEK_END)
            self._file.write(data)
        except OSError:
            # The folder has no room. The body is read on as it comes, for which it needs none.
            self.release()

    def read(self, position: int, count: int) -> bytes:
        """Up to so many bytes of what has been read. Raises OSError when that was not kept."""
        if not self.complete:
            raise io.UnsupportedOperation("the part of the body that has been read was not kept (stream_body)")
        if self._file is None:
            return b""
        self._file.seek(position)
        return self._file.read(count)

    def release(self) -> None:
        """Give memory and file back, and keep nothing any more."""
        self.complete = False
        if self._file is not None:
            self._file.close()
            self._file = None


class BodyFeed:
    """A body as it arrives (a `wsgicluster.http.connection.BodyStore`): ``pending`` has come and was not read.

    ``kept`` is what has been read. ``complete`` says that nothing more comes, ``failure`` why nothing more can come.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.pending = bytearray()
        self.kept = KeptBody(folder)
        self.complete = False
        self.failure: ProtocolError | None = None

    def write(self, piece: memoryview) -> None:
        """Take the next piece."""
        self.pending += piece

    def take(self, count: int) -> bytes:
        """So many of the bytes that were not read, which counts as reading them."""
        data = bytes(memoryview(self.pending)[:count])
        del self.pending[:count]
        self.kept.write(memoryview(data))
        return data

    def finish(self) -> BinaryIO:
        """The body as a file, if it has come to its end before the application has begun to read."""
        self.complete = True
        return io.BytesIO(self.pending)

    def discard(self) -> None:
        """Forget what will not be read."""
        self.pending.clear()


class BodySource(Protocol):
    """Where more of a body comes from."""

    def receive_body(self) -> None:
        """Have more of it in the feed; waits for it. Raises BrokenBody."""


class BodyInput(io.RawIOBase):
    """What the buffered ``wsgi.input`` reads from; waits as long as nothing is there."""

    def __init__(self, source: BodySource, feed: BodyFeed) -> None:
        self._source = source
        self._feed = feed
        self._position = 0

    @classmethod
    def opened(cls, source: BodySource, feed: BodyFeed) -> BinaryIO:
        """``wsgi.input`` itself."""
        buffered = io.BufferedReader(cls(source, feed), RECEIVE_BYTES)
        # It has asked where it stands; the application has not.
        feed.kept.wanted = False
        return cast(BinaryIO, buffered)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether the application may go back. From now on all is kept, if that was so until now."""
        self._feed.kept.wanted = True
        return self._feed.kept.complete

    def tell(self) -> int:
        """The position, which the application may go back to; see `seekable`."""
        self._feed.kept.wanted = True
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; receives all in front of it. Raises ValueError, OSError as files do, and BrokenBody."""
        kept = self._feed.kept
        if whence == io.SEEK_END:
            self._receive_until(math.inf)
            offset += kept.size
        elif whence == io.SEEK_CUR:
            offset += self._position
        if offset < 0:
            raise ValueError(f"negative seek position {offset}")
        kept.wanted = True
        self._receive_until(offset)
        if offset < kept.size and not kept.complete:
            kept.read(offset, 0)
        self._position = offset
        return offset

    def _receive_until(self, position: float) -> None:
        feed, kept = self._feed, self._feed.kept
        while kept.size < position:
            if feed.pending:
                feed.take(min(len(feed.pending), int(min(position - kept.size, RECEIVE_BYTES))))
            elif feed.complete:
                return
            else:
                self._source.receive_body()

    def readinto(self, buffer: Any) -> int:
        """Give what is there, or wait for more; 0 at the end of the body. Raises BrokenBody."""
        feed = self._feed
        data = b""
        if self._position < feed.kept.size:
            data = feed.kept.read(self._position, len(buffer))
        elif self._position == feed.kept.size:
            while not feed.pending:
                if feed.complete:
                    return 0
                self._source.receive_body()
            data = feed.take(min(len(buffer), len(feed.pending)))
        # Else it stands behind the end.
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        """All the rest. Raises BrokenBody."""
        feed = self._feed
        while not feed.complete:
            self._source.receive_body()
        again = feed.kept.size - self._position
        data = feed.kept.read(self._position, again) if again > 0 else b""
        if again >= 0:
            data += feed.take(len(feed.pending))
        self._position += len(data)
        return data


class Waiter(Protocol):
    """One wait of a greenlet that runs a request."""

    def wait(self) -> None:
        """Wait until `wake`, which may have been called already."""

    def wake(self) -> None:
        """End the wait; from the loop."""


class StreamingHost(Protocol):
    """What is needed of a worker besides what every connection needs."""

    def new_waiter(self) -> Waiter:
        """For the greenlet that calls this, or any other one."""


class StreamedBody:
    """The body of a request that runs while that arrives; an `Extension` of its connection."""

    __slots__ = ("_connection", "_feed", "_host", "_over", "_waited_s", "_waiter", "_waits_since")

    def __init__(self, host: StreamingHost, connection: Connection, feed: BodyFeed) -> None:
        self._host = host
        self._connection = connection
        self._feed = feed
        self._over = False
        self._waited_s = 0.0
        self._waiter: Waiter | None = None
        self._waits_since = math.inf

    # -- the loop's side

    def begin(self) -> None:
        """Run the request now."""
        connection, reader = self._connection, self._connection.reader
        # RFC 9112, section 7.1.3: what is read has been decoded. Some applications would decode it once more.
        reader.environ.pop("HTTP_TRANSFER_ENCODING", None)
        reader.body = BodyInput.opened(self, self._feed)
        connection.extend(self)
        connection.reading.run()

    @property
    def waits(self) -> bool:
        """Whether the application waits for more of the body."""
        return self._waiter is not None

    def wake(self) -> None:
        """There is more to receive."""
        if self._waiter is not None:
            self._waiter.wake()

    def expired(self, _now: float) -> bool:
        """The client has sent nothing for too long; False when the application does not wait for it."""
        if self._waiter is None:
            return False
        if not has_input(self._connection.transport):
            self._feed.failure = ProtocolError(408, "the request's body did not arrive in time")
        self._waiter.wake()
        return True

    def over(self) -> bool:
        """The request is over. What has not been received of its body is dropped with the connection."""
        self._over = True
        self._feed.kept.release()
        if self._waiter is not None:
            # Another greenlet of the application still reads: it would never hear anything again.
            self._waiter.wake()
            self._waiter = None
        reader = self._connection.reader
        if not reader.idle:
            self._connection.lingers = True
            reader.close()
        return False

    # -- the side of the greenlet that runs the request

    def receive_body(self) -> None:
        """Receive more of the body, and wait for it when there is nothing. Raises BrokenBody."""
        feed = self._feed
        while not self._over and not feed.complete:
            if feed.failure is not None:
                raise BrokenBody(feed.failure.detail, feed.failure)
            try:
                self._receive_some()
                return
            except BlockingIOError:
                self._wait_for_body()
        if not feed.complete:  # else another one has received the rest meanwhile
            raise BrokenBody("the request is over")

    def client_wait_s(self, now: float) -> float:
        """How long the request has waited for its body."""
        return self._waited_s + max(0.0, now - self._waits_since)

    def may_keep(self) -> bool:
        """The head of the response is about to be sent: whether nothing of the body is left to receive."""
        if not self._feed.complete and not self._connection.reader.awaits_continue:
            try:
                # The rest may be there, although the application has not read it.
                self._receive_some()
            except (BlockingIOError, BrokenBody):
                return False
        return self._connection.reader.idle and self._connection.host.may_keep()

    def _receive_some(self) -> None:
        connection, transport = self._connection, self._connection.transport
        try:
            data = transport.recv(RECEIVE_BYTES)
            connection.ended = transport.ended
            if data:
                connection.host.received_bytes += len(data)
                connection.reader.receive(data)
        except BlockingIOError:
            raise
        except ProtocolError as error:  # of the body, or of the TLS around it
            self._feed.failure = error
            raise BrokenBody(error.detail, error) from error
        except OSError as error:
            raise BrokenBody("the client left before its request's body was complete") from error
        if not data:
            raise BrokenBody("the client left before its request's body was complete")

    def _wait_for_body(self) -> None:
        connection = self._connection
        reader = connection.reader
        if reader.awaits_continue and not self._waited_s:
            # RFC 9110, section 10.1.1. An application that responds without having read does not want the body.
            connection.contact.interrupt(CONTINUE)
        self._waits_since = now = monotonic()
        self._waiter = waiter = self._host.new_waiter()
        # The time in which the application did not ask for more is none of the client's.
        deadline = connection.host.timing.body_deadline(now, now - self._waited_s, reader.body_received)
        connection.loop.deadlines.set(connection, deadline)
        connection.watch(connection.watching | READ)
        try:
            waiter.wait()
        finally:
            if self._waiter is waiter:
                self._waiter = None
            self._waits_since = math.inf
            self._waited_s += monotonic() - now


def is_streamed(mode: str, length: int) -> bool:
    """Whether a body that has not come with its head is streamed; ``mode`` is the setting, ``length`` maybe CHUNKED."""
    return mode == "all" or (mode == "large" and length != CHUNKED and length > LARGE_BYTES)
