"""A client that speaks TLS, and one that only begins to."""

import contextlib
import json
import socket
import ssl
from typing import cast

from tests.live.client import Connection
from wsgicluster.wsgi.tls import Name, distinguished_name


class TlsClient(Connection):
    """A client that speaks TLS, and resumes ``session`` if the server lets it."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        name: str = "localhost",
        timeout_s: float = 10.0,
        session: ssl.SSLSession | None = None,
    ) -> None:
        raw = socket.create_connection(("127.0.0.1", port), timeout_s)
        try:
            # Only a connection that is ended in TLS is complete.
            tls = context.wrap_socket(raw, server_hostname=name, suppress_ragged_eofs=False, session=session)
        except BaseException:
            raw.close()
            raise
        self.tls = tls
        self.sock = tls
        self._file = tls.makefile("rb")

    def __enter__(self) -> "TlsClient":
        return self

    def environ(self) -> dict[str, str]:
        """The environ of a request on this connection, as the application saw it."""
        found: dict[str, str] = json.loads(self.exchange("/environ").body)
        return found


def half_a_hello(context: ssl.SSLContext) -> bytes:
    """The beginning of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    return hello[: len(hello) // 2]


class MemoryClient:
    """A client whose TLS works on memory, so that a test decides what is sent together, and what never."""

    def __init__(self, port: int, context: ssl.SSLContext, timeout_s: float = 10.0) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.sock = socket.create_connection(("127.0.0.1", port), timeout_s)

    def __enter__(self) -> "MemoryClient":
        return self

    def __exit__(self, *_error: object) -> None:
        self.sock.close()

    def shake_hands(self) -> None:
        """Finish the handshake; its last bytes are still to be sent."""
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                self.send()
                self._incoming.write(self.sock.recv(65536))

    def send(self) -> None:
        """Send what has been encrypted."""
        self.sock.sendall(self._outgoing.read())

    def say_goodbye(self) -> None:
        """Encrypt close_notify."""
        with contextlib.suppress(ssl.SSLWantReadError):  # the server has not said so yet
            self.tls.unwrap()

    def rest(self) -> bytes:
        """All that comes until the server says that it was all; EOFError when it ends without a word."""
        got = b""
        while True:
            try:
                if not (piece := self.tls.read(65536)):
                    return got
                got += piece
            except ssl.SSLZeroReturnError:  # both sides have said so
                return got
            except ssl.SSLWantReadError:
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError from None
                self._incoming.write(data)


def subject(port: int, context: ssl.SSLContext, name: str = "localhost") -> str:
    """The common name in the server's certificate."""
    with TlsClient(port, context, name) as client:
        found = client.tls.getpeercert() or {}
    return distinguished_name(cast(Name, found["subject"])).removeprefix("CN=")
