"""What comes in by TLS: none of it may stay inside while the socket, which alone is waited for, has nothing more."""

import contextlib
import os
import pathlib
import select
import socket
import ssl

import pytest

from tests.certificates import make_certificates
from wsgicluster.worker.transport.tls import RECORD_BYTES, TlsTransport
from wsgicluster.worker.transport.transport import RECEIVE_BYTES, plain_transport


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("record_bytes", [700, RECORD_BYTES])
def test_bursts_of_more_than_one_read(record_bytes: int, version: ssl.TLSVersion, tmp_path: pathlib.Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.path("server.pem"), certificates.path("server.key"))
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.ExitStack() as stack:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        theirs.setblocking(False)
        server = TlsTransport(plain_transport(ours.detach()), context)
        stack.callback(server.close)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = certificates.client(version=version).wrap_bio(incoming, outgoing, server_hostname="localhost")

        done = False
        while not done:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                done = True
            if not done:
                theirs.sendall(outgoing.read())
                with contextlib.suppress(BlockingIOError):
                    server.shake_hands()
                incoming.write(theirs.recv(RECEIVE_BYTES))

        sent, got = bytearray(), bytearray()
        for turn in range(3):
            burst = os.urandom(2 * RECEIVE_BYTES + 10)
            sent += burst
            for start in range(0, len(burst), record_bytes):
                client.write(burst[start : start + record_bytes])
            theirs.sendall(outgoing.read())
            if turn == 0:
                # With the client's last word of the handshake (TLS 1.3) the first requests come in.
                server.shake_hands()
                got += server.recv(RECEIVE_BYTES)
            while select.select([server], [], [], 0)[0]:
                with contextlib.suppress(BlockingIOError):  # only a part of a record has come
                    got += server.recv(RECEIVE_BYTES)
            assert got == sent
