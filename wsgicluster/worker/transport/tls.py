"""TLS as a transport: a connection over it is the same as others.

The TLS layer works on memory; sockets are read and written here. So nothing ever waits, whatever has become of the
socket and ssl modules in a process (gevent replaces both), and several records cost one system call. What would
block raises BlockingIOError, as with a plain socket. Where keys and certificates come from is not known here.
"""

import contextlib
import os
import select
import ssl
from collections.abc import Iterable
from time import monotonic
from typing import Any, ClassVar

from wsgicluster.errors import ProtocolError
from wsgicluster.worker.loop.loop import READ, WRITE
from wsgicluster.worker.transport.tls_records import Records
from wsgicluster.worker.transport.transport import ByteTransport, HandshakeError, new_poll
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
"""Checked for empty records every so many records."""

BARREN_RECORDS, BARREN_S = 64, 1.0
"""More records without data in this time are a client's that wants to keep us busy: to renew a connection's keys
(RFC 8446, section 4.6.3) costs as much as to answer a small request, and next to nothing to ask for."""


class TlsTransport:
    """TLS before a socket that never waits; a `wsgicluster.worker.transport.transport.ByteTransport`.

    The state of TLS cannot be handed over, so its connection stays in this process.

    What is encrypted cannot be changed any more. A batch that the socket takes only in part counts as not sent, and has
    to be sent again: the next bytes given to `send` must begin with the same ones. A caller that keeps unsent bytes in
    order, as the outbox does, need not think of it.
    """

    __slots__ = (
        "_barren", "_barren_since", "_incoming", "_outgoing", "_owed", "_raw", "_records", "_sealed", "_tls",
        "ended", "wants",
    )  # fmt: skip

    movable: ClassVar = False
    record_bytes: ClassVar = RECORD_BYTES

    def __init__(self, raw: ByteTransport, context: ssl.SSLContext) -> None:
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
        self.wants = READ
        """WRITE while the handshake waits for the socket to take something."""

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._raw.fileno()

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        """As of the socket."""
        self._raw.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """As of the socket."""
        return self._raw.getsockopt(level, option, size)

    def close(self) -> None:
        """Close the socket, and tell the client nothing."""
        self._tls = None
        self._raw.close()

    def shake_hands(self) -> dict[str, str]:
        """Continue the handshake, to its end: what it says of the client goes into environs.

        Raises BlockingIOError, HandshakeError and other OSErrors.
        """
        tls = self._tls
        assert tls is not None, "handshake after close"
        self.wants = READ
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push()
                if self._sealed:
                    self.wants = WRITE
                self._pull_handshake()
            except ssl.SSLError as error:
                self._push()  # why
                raise HandshakeError(error.reason or error.strerror or "OpenSSL does not say why") from error
            else:
                self._push()
                variables = tls_variables(tls)
                if tls.session_reused and tls.context.verify_mode is ssl.CERT_REQUIRED:
                    _check_resumed(variables)
                return variables

    def recv(self, size: int, flags: int = 0, /) -> bytes:
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
                # To learn by an exception that there is no more costs as much as all the rest of a small record.
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

    def send(self, data: Any, /) -> int:
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

    def sendmsg(self, buffers: Iterable[Any], /) -> int:
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

    def send_file(self, region: FileRegion) -> int:
        """Read the beginning of a part of a file and send that: the kernel cannot encrypt it. Raises OSError."""
        data = os.pread(region.descriptor, min(region.size, SEND_BYTES), region.offset)
        return self.send(data) if data else 0

    def peer_lost(self) -> bool:
        """Whether the client has ended or reset the connection."""
        # Its last bytes are those of TLS that say so, and cannot be told from a next request.
        poll = new_poll()
        poll.register(self.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def end(self, complete: bool) -> None:
        """Send close_notify, if the socket takes it and the client has got all there is (RFC 8446, section 6.1)."""
        tls = self._tls
        if complete and tls is not None and not self._sealed:
            with contextlib.suppress(OSError):  # among them SSLWantReadError: its own has not come yet
                tls.unwrap()
            with contextlib.suppress(OSError):
                self._push()

    def shutdown(self, how: int, /) -> None:
        """Send close_notify and shut the socket down; what is received from now on is not decrypted any more."""
        self.end(True)
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


def _check_resumed(variables: dict[str, str]) -> None:
    """Raise HandshakeError for a session that began where no certificate was required, under another name.

    OpenSSL verifies nothing when it resumes one.
    """
    if variables["SSL_CLIENT_VERIFY"] != "SUCCESS":
        raise HandshakeError("the session that was resumed has no client certificate, which is required")
