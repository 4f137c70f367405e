"""What a socket with TLS did not take at once: order, and writes that are tried again."""

import contextlib
import os
import pathlib
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.certificates import make_certificates
from wsgicluster.worker.loop.loop import READ
from wsgicluster.worker.transport.outbox import Outbox, Storage
from wsgicluster.worker.transport.tls import RECORD_BYTES, TlsTransport
from wsgicluster.worker.transport.transport import plain_transport
from wsgicluster.wsgi.files import FileRegion


class Ends:
    """Both ends of a connection, neither of which ever waits; ``read`` is the client's."""

    def __init__(self, folder: pathlib.Path) -> None:
        certificates = make_certificates(folder)
        ours, self._theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self._theirs.setblocking(False)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.path("server.pem"), certificates.path("server.key"))
        self.server = TlsTransport(plain_transport(ours.detach()), context)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._client = certificates.client().wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._shake_hands()

    def _shake_hands(self) -> None:
        done: set[str] = set()
        while len(done) < 2:
            for name, step in (("client", self._client.do_handshake), ("server", self.server.shake_hands)):
                self._move()
                try:
                    step()
                    done.add(name)
                except (ssl.SSLWantReadError, BlockingIOError):
                    pass
        self._move()

    def _move(self) -> None:
        if data := self._outgoing.read():
            self._theirs.sendall(data)
        with contextlib.suppress(BlockingIOError):
            self._incoming.write(self._theirs.recv(1000))

    def read(self) -> bytes:
        """What the client can decrypt after it has taken a few bytes more."""
        self._move()
        try:
            return self._client.read(1 << 20)
        except ssl.SSLWantReadError:
            return b""

    def write(self, data: bytes) -> None:
        """Send as the client."""
        self._client.write(data)
        self._move()

    def close(self) -> None:
        self.server.close()
        self._theirs.close()


@pytest.fixture
def ends(tmp_path: pathlib.Path) -> Iterator[Ends]:
    pair = Ends(tmp_path / "certificates")
    yield pair
    pair.close()


def test_all_kinds_keep_their_order(ends: Ends, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(100_000))
    outbox = Outbox(Storage(str(tmp_path)))
    blocks = [os.urandom(size) for size in (10, 20, RECORD_BYTES - 1, 5, 70_000, 1, 1 << 20, 30_000)]
    got = bytearray()
    for block in blocks:
        # Between the blocks the socket is tried: with what it has not taken, it is tried again.
        outbox.put(block)
        outbox.flush(ends.server)
        got += ends.read()
    with path.open("rb") as file:
        outbox.put_file(FileRegion(file.fileno(), 10, 99_990))
    outbox.put(b"the end")
    while not outbox.flush(ends.server):
        got += ends.read()
    expected = b"".join(blocks) + path.read_bytes()[10:] + b"the end"
    while len(got) < len(expected):
        got += ends.read()
    assert got == expected


def test_nothing_there_blocks_like_a_plain_socket(ends: Ends) -> None:
    with pytest.raises(BlockingIOError):
        ends.server.recv(100)
    assert ends.server.wants == READ
    ends.write(b"hello")
    assert ends.server.recv(1, socket.MSG_PEEK) != b"h", "a look shows what came, which is encrypted"
    assert ends.server.recv(100) == b"hello"


def test_full_records_are_read_together(ends: Ends) -> None:
    ends.write(b"x" * RECORD_BYTES)
    ends.write(b"y" * RECORD_BYTES)
    ends.write(b"z")
    assert ends.server.recv(1 << 16) == b"x" * RECORD_BYTES + b"y" * RECORD_BYTES + b"z"


def test_the_end_is_said_once_and_late_bytes_are_raw(ends: Ends) -> None:
    ends.server.shutdown(socket.SHUT_WR)
    ends.server.end(True)
    assert ends.read() == b""
    ends.write(b"too late")
    assert b"too late" not in ends.server.recv(1000)
