"""A client that speaks TLS, and one that only begins to."""

import contextlib
import json
import socket
import ssl

from tests.live.client import Connection


class TlsClient(Connection):
    """A client that speaks TLS."""

    def __init__(self, port: int, context: ssl.SSLContext, name: str = "localhost", timeout_s: float = 10.0) -> None:
        raw = socket.create_connection(("127.0.0.1", port), timeout_s)
        try:
            # Only a connection that is ended in TLS is complete.
            tls = context.wrap_socket(raw, server_hostname=name, suppress_ragged_eofs=False)
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
