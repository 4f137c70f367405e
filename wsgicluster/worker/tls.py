"""Connections over TLS: the same as others, but for what the TLS layer does with their bytes.

The TLS layer works on memory; sockets are read and written here. So nothing ever waits, whatever has become of the
socket and ssl modules in a process (gevent replaces both), and several records cost one system call. What would
block raises BlockingIOError, as with a plain socket. Where keys and certificates come from is not known here.
"""

import contextlib
import os
import select
import socket
import ssl
from collections.abc import Iterable
from time import monotonic
from typing import Any, ClassVar, cast

from wsgicluster.errors import ProtocolError
from wsgicluster.http.connection import RequestReader
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.ending import RECEIVE_BYTES, State
from wsgicluster.worker.host import HandshakeError, Host
from wsgicluster.worker.loop import READ, WRITE
from wsgicluster.worker.outbox import Outbox
from wsgicluster.worker.records import Records
from wsgicluster.worker.sender import new_poll
from wsgicluster.wsgi.files import FileRegion
from wsgicluster.wsgi.tls import tls_variables

RECORD_BYTES = 16 * 1024
"""The most that one TLS record holds (RFC 8446, section 5.1)."""

BATCH_BYTES = 4 * RECORD_BYTES
"""What is encrypted, and given to the socket, in one go."""

SEND_BYTES = 4 * BATCH_BYTES
"""Most that is sent at a time, so that one fast reader does not keep the loop."""

HANDSHAKE_BYTES = 4 * 1024
"""What is received at a time during the handshake; what comes behind it is not looked at before it is decrypted."""

RECORDS = 64
"""How many records are decrypted before it is looked whether they are of any use."""

BARREN_RECORDS, BARREN_S = 64, 1.0
"""More records without data in this time are a client's that wants to keep us busy: to renew a connection's keys
(RFC 8446, section 4.6.3) costs as much as to answer a small request, and next to nothing to ask for."""


class TlsSocket:
    """A non-blocking socket with TLS: what a connection needs of a socket.

    What is encrypted cannot be taken back. A batch that the socket takes only in part counts as not sent, and has to
    be sent again: the next bytes given to `send` must begin with the same ones. Whoever keeps unsent bytes in order,
    as the outbox does, need not think of it.
    """

    __slots__ = (
        "_barren", "_barren_since", "_incoming", "_outgoing", "_owed", "_raw", "_records", "_sealed", "_tls",
        "ended", "wants_write",
    )  # fmt: skip

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._records = Records()
        self._barren = 0
        self._barren_since = monotonic()
        self._sealed = b""
        self._owed = 0
        self.ended = False
        """The client sends nothing more."""
        self.wants_write = False
        """The handshake waits for the socket to take something."""

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._raw.fileno()

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """As of the socket."""
        self._raw.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """As of the socket."""
        return self._raw.getsockopt(level, option, size)

    def close(self) -> None:
        """Close the socket, without a word."""
        self._tls = None
        self._raw.close()

    def shake_hands(self) -> ssl.SSLObject:
        """Go on with the handshake, to its end. Raises BlockingIOError, HandshakeError and other OSErrors."""
        tls = self._tls
        assert tls is not None, "nobody shakes hands to say goodbye"
        self.wants_write = False
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push()
                self.wants_write = bool(self._sealed)
                self._pull_handshake()
            except ssl.SSLError as error:
                self._push()  # why
                raise HandshakeError(error.reason or error.strerror or "OpenSSL does not say why") from error
            else:
                self._push()
                return tls

    def recv(self, size: int, flags: int = 0) -> bytes:
        """All that can be decrypted of what has come, perhaps more than ``size``; empty at the end.

        With flags a look at what has come, as it came. Raises BlockingIOError and other OSErrors, and
        ProtocolError (400) for a client that only keeps us busy.
        """
        tls = self._tls
        if flags or tls is None:
            return self._raw.recv(size, flags)
        data = b""
        try:
            data = self._raw.recv(size)
            # Not told to the TLS layer, which would not send anything more then.
            self.ended = self.ended or not data
        except BlockingIOError:
            if not self._incoming.pending:
                raise
            # A request may have come with the end of the handshake.
        pieces: list[bytes] = []
        for portion, records in self._records.cut(data, RECORDS):
            self._incoming.write(portion)
            known = len(pieces)
            self._decrypt(tls, pieces)
            self._count_barren(records - (len(pieces) - known))
        if not pieces and not self.ended:
            raise BlockingIOError
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _decrypt(self, tls: ssl.SSLObject, pieces: list[bytes]) -> None:
        """Add what the records hold that are there; of each that holds something it is one piece."""
        try:
            while piece := tls.read(RECORD_BYTES):
                pieces.append(piece)
                # To be told by an exception that there is no more costs as much as all the rest of a small record.
                if not (self._incoming.pending or tls.pending()):
                    break
            else:
                self.ended = True
            if self._outgoing.pending:
                self._push()
        except ssl.SSLWantReadError:
            if self._outgoing.pending:
                self._push()
        except ssl.SSLError:
            self._push()  # why
            raise

    def _count_barren(self, more: int) -> None:
        # What came with the handshake has not been counted, and makes it less.
        self._barren = max(0, self._barren + more)
        if self._barren > BARREN_RECORDS:
            now = monotonic()
            if now < self._barren_since + BARREN_S:
                raise ProtocolError(400, "too many TLS records without data have come")
            self._barren, self._barren_since = 0, now

    def send(self, data: Any) -> int:
        """Encrypt and send what the socket takes; the number of bytes. Raises BlockingIOError."""
        if self._tls is None:
            raise ConnectionError("the connection has been shut down")
        size = len(data)
        if 0 < size <= RECORD_BYTES and not (self._owed or self._sealed):
            # What most responses are: one record, which the socket takes.
            self._tls.write(data)
            self._push()
            if not self._sealed:
                return size
            self._owed = size
            raise BlockingIOError
        view = memoryview(data)
        size = min(len(view), SEND_BYTES)
        sent = 0
        while sent < size:
            if not self._owed:
                self._owed = self._seal(view[sent : sent + BATCH_BYTES])
            self._push()
            if self._sealed:
                break
            sent += self._owed
            self._owed = 0
        if size and not sent:
            raise BlockingIOError
        return sent

    def _seal(self, batch: memoryview) -> int:
        tls = self._tls
        assert tls is not None, "looked at before"
        sealed = 0
        while sealed < len(batch):
            sealed += tls.write(batch[sealed:])
        return sealed

    def sendmsg(self, buffers: Iterable[Any]) -> int:
        """Small buffers share a record. Raises BlockingIOError."""
        pieces: list[Any] = []
        size = 0
        for buffer in buffers:
            pieces.append(buffer)
            size += len(buffer)
            # Not before a batch is full: tried again it must not be shorter than it was.
            if size >= BATCH_BYTES:
                break
        return self.send(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def say_goodbye(self) -> None:
        """Send close_notify, if the socket takes it: the peer has got all there is (RFC 8446, section 6.1)."""
        tls = self._tls
        if tls is not None and not self._sealed:
            with contextlib.suppress(OSError):  # among them SSLWantReadError: its own has not come yet
                tls.unwrap()
            with contextlib.suppress(OSError):
                self._push()

    def shutdown(self, how: int) -> None:
        """Send close_notify and shut the socket down; what is received from now on is not decrypted any more."""
        self.say_goodbye()
        self._tls = None
        self._raw.shutdown(how)

    def _pull_handshake(self) -> None:
        data = self._raw.recv(HANDSHAKE_BYTES)
        if not data:
            raise HandshakeError("the client has left")
        for portion, _ in self._records.cut(data, HANDSHAKE_BYTES):
            self._incoming.write(portion)

    def _push(self) -> None:
        """Give the socket what is encrypted; what it does not take stays in ``_sealed``."""
        sealed = self._sealed + self._outgoing.read() if self._sealed else self._outgoing.read()
        if sealed:
            try:
                sent = self._raw.send(sealed)
            except BlockingIOError:
                sent = 0
            self._sealed = sealed[sent:]


class TlsOutbox(Outbox):
    """What waits to be encrypted and sent; the kernel cannot do that, so files are read."""

    def _transfer(self, sock: socket.socket, region: FileRegion) -> int:
        data = os.pread(region.descriptor, min(region.size, SEND_BYTES), region.offset)
        return sock.send(data) if data else 0


class TlsConnection(Connection):
    """A connection that is plain until its handshake begins.

    It stays in its process to the end, since the state of TLS cannot be handed over; and it is received from
    without the exchange, which reads descriptors.
    """

    __slots__ = ("_aborts", "_tls")

    movable = False
    outbox_class: ClassVar[type[Outbox]] = TlsOutbox

    def __init__(self, host: Host, sock: socket.socket | int, listener: int, reader: RequestReader) -> None:
        super().__init__(host, sock, listener, reader)
        self._exchange = None
        self._aborts = False
        self._tls: TlsSocket | None = None

    @property
    def awaited(self) -> int:  # type: ignore[override]
        """What the TLS layer waits for."""
        return WRITE if self._tls is not None and self._tls.wants_write else READ

    def shake_hands(self, context: ssl.SSLContext) -> None:
        """Go on with the handshake, to its end. Raises BlockingIOError, HandshakeError and other OSErrors."""
        tls = self._tls
        if tls is None:
            tls = self._tls = TlsSocket(self.sock, context)
            self._sock = cast(socket.socket, tls)
        self.reader.template.update(tls_variables(tls.shake_hands()))

    def receive(self) -> None:
        """Read what is there and run the request when it is complete."""
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            self._wait_for_record()
            return
        except ProtocolError as error:
            self.refuse(error)
            return
        except OSError:
            self.close()
            return
        self._host.received_bytes += len(data)
        self.take(data)

    def _wait_for_record(self) -> None:
        # A part of a record is no reason to put a deadline off: it could come byte by byte.
        if self._watching:
            self.watch(READ)
        else:
            self.wait_for_request()

    @property
    def ended(self) -> bool:  # type: ignore[override]
        """The client has said that it sends nothing more."""
        return self._tls is not None and self._tls.ended

    def wait_for_request(self) -> None:
        """Wait for the first byte of a request, unless there is none."""
        if self.ended:
            self.close()
        else:
            super().wait_for_request()

    def _wait_for_rest(self, fresh: bool) -> None:
        if self.ended:
            self.close()
        else:
            super()._wait_for_rest(fresh)

    def send_pair(self, head: bytes, body: bytes) -> None:
        """Send two buffers; a small body shares the head's record. Raises ClientGone."""
        room = max(0, RECORD_BYTES - len(head))
        self.send(head + body[:room])
        if len(body) > room:
            self.send(memoryview(body)[room:])

    def close(self) -> None:
        """Close at once; a client that has got all its responses is told that they were all."""
        if self._tls is not None and self.state is not State.CLOSED and not self._aborts and self._outbox is None:
            self._tls.say_goodbye()
        super().close()

    def abort(self) -> None:
        """Reset the connection: the client must not take what it got for a complete response."""
        self._aborts = True
        super().abort()

    def lost_client(self) -> bool:
        """Whether the client has ended or reset the connection."""
        # Its last bytes are those of TLS that say so, and cannot be told from a next request.
        poll = new_poll()
        poll.register(self.descriptor, select.POLLRDHUP)
        return bool(poll.poll(0))

    def send_interim(self, data: bytes) -> None:
        """Send an interim response. Raises ClientGone."""
        # Not dropped when the socket does not take it: TLS has begun with it then.
        self.send(data)
