"""What comes before the first request of a connection: a proxy's introduction, then the TLS handshake.

It is advanced by the loop, as far as the client has come, and never waits: a client that says nothing costs a
descriptor until its time is over. Requests are not known here.
"""

import ipaddress
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from wsgicluster.errors import ProtocolError
from wsgicluster.http.proxyline import BLOCK_BYTES, ProxyMode, read_proxy_line
from wsgicluster.http.uwsgi import UwsgiReader
from wsgicluster.settings import Settings
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.host import HandshakeError
from wsgicluster.worker.shared import alike
from wsgicluster.wsgi.trust import Peers

if TYPE_CHECKING:
    from ssl import SSLContext

    from wsgicluster.worker.tls import TlsConnection

HEADER_BYTES = 16 + BLOCK_BYTES
"""More than any header of the PROXY protocol has."""

_MODES = {"v1": ProxyMode.V1, "v2": ProxyMode.V2, "auto": ProxyMode.AUTO}
_HANDSHAKE = b"\x16"
"""The first byte of a TLS connection (RFC 8446, section 5.1: ContentType handshake)."""


class Entrance:
    """What every new connection of one worker has to pass; holds no connection itself.

    ``mode`` is None without the PROXY protocol. ``speakers`` are those who may connect where peers speak for others: by
    that, or by the uwsgi protocol. ``forwarders`` are those whose forwarded headers are believed.
    ``context`` and ``connection_class`` are for TLS, if it is spoken.
    """

    def __init__(self, mode: ProxyMode | None, speakers: Peers, forwarders: Peers, log: logging.Logger) -> None:
        self.mode = mode
        self.forwarders = forwarders
        self.log = log
        self.context: SSLContext | None = None
        self.connection_class = Connection
        self._speakers = speakers

    @classmethod
    def of(cls, settings: Settings, log: logging.Logger) -> "Entrance | None":
        """As the settings say; None where the first thing that a client says is a request. Raises UsageError.

        Reads keys and certificates, so it is called while the worker is still allowed to.
        """
        mode = _MODES.get(settings.proxy_protocol)
        gateways = settings.protocol == "uwsgi"
        allowed = settings.uwsgi_allow_ips if gateways else settings.proxy_allow_ips if mode is not None else ("*",)
        entrance = cls(mode, Peers(allowed), Peers(settings.forwarded_allow_ips), log)
        if settings.has_tls:
            # Not imported by a server without TLS, whose workers are several megabytes smaller for it.
            from wsgicluster.settings.certificates import server_context
            from wsgicluster.worker.tls import TlsConnection

            entrance.context = server_context(settings)
            entrance.connection_class = TlsConnection
        return entrance if gateways or mode is not None or entrance.context is not None else None

    def fit(self, plain: type[Connection]) -> None:
        """Have connections as a worker's kind needs them, whose connections are ``plain`` without an entrance."""
        self.connection_class = alike(plain, self.connection_class)

    def admit(self, connection: Connection) -> None:
        """Let a new connection begin; `Connection.receive_if_open` is the first step."""
        if not self._speakers.include(connection.reader.template["REMOTE_ADDR"]):
            setting = "uwsgi_allow_ips" if self.mode is None else "proxy_allow_ips"
            self.log.debug("%s: may not speak for others (%s): closed", _name(connection), setting)
            connection.close()
            return
        introduce(connection, b"", self.forwarders)
        if self.mode is not None or self.context is not None:
            connection.open_with(Passage(self, connection))


class Passage:
    """One connection on its way through the entrance."""

    __slots__ = ("_connection", "_entrance", "_header", "_step")

    def __init__(self, entrance: Entrance, connection: Connection) -> None:
        self._entrance = entrance
        self._connection = connection
        self._header = b""
        # A step says whether there is another one, which is tried at once.
        self._step: Callable[[], bool] = self._look_at_hello if entrance.mode is None else self._read_introduction

    def advance(self) -> None:
        """Go on, as far as that is possible without waiting."""
        try:
            while self._step():
                pass
        except BlockingIOError:
            self._connection.watch(self._connection.awaited)
        except OSError:
            self._connection.close()

    def _peek(self, size: int) -> bytes:
        """What has come, left where it is. Raises BlockingIOError, or ConnectionError at the end of the stream."""
        data = self._connection.sock.recv(size, socket.MSG_PEEK)
        if not data:
            raise ConnectionError("the client has left")
        return data

    def _read_introduction(self) -> bool:
        # Not a byte beyond the header is taken: TLS and the exchange read from the socket themselves.
        entrance, connection = self._entrance, self._connection
        assert entrance.mode is not None, "only then this is a step"
        data = self._peek(HEADER_BYTES)
        try:
            found = read_proxy_line(self._header + data, entrance.mode)
        except ProtocolError as error:
            entrance.log.debug("%s: %s: closed", _name(connection), error.detail)
            connection.close()
            return False
        taken = len(data) if found is None else found[1] - len(self._header)
        self._header += connection.sock.recv(taken)
        if found is None:
            return True
        introduce(connection, self._header, entrance.forwarders)
        if entrance.context is None:
            connection.opened()
            return False
        self._step = self._look_at_hello
        return True

    def _look_at_hello(self) -> bool:
        first = self._peek(1)
        if first.isalpha():
            self._connection.refuse(ProtocolError(400, "plain HTTP has come where TLS is spoken; use https"))
            return False
        if first != _HANDSHAKE:
            self._entrance.log.debug("%s: neither TLS nor HTTP: closed", _name(self._connection))
            self._connection.close()
            return False
        self._step = self._shake_hands
        return True

    def _shake_hands(self) -> bool:
        connection, context = cast("TlsConnection", self._connection), self._entrance.context
        assert context is not None, "only then this is a step"
        try:
            connection.shake_hands(context)
        except HandshakeError as error:
            self._entrance.log.debug("%s: the TLS handshake failed: %s", _name(connection), error)
            # The client shall be able to read why, so its last bytes must not meet a closed socket.
            connection.linger()
        else:
            connection.opened()
        return False


def introduce(connection: Connection, header: bytes, forwarders: Peers) -> None:
    """Make a connection that of the client whom a header of the PROXY protocol names, or a gateway with its request.

    Without either do nothing. One whose client the proxy does not name stays the proxy's. What it forwards is believed
    in neither case unless the client itself is a forwarder: a proxy that passes bytes on says nothing about the
    headers among them, and a gateway passes those of its client on as they are.
    """
    if isinstance(connection.reader, UwsgiReader):
        connection.reader.on_head = partial(_introduce_by_environ, connection, forwarders)
    if not header:
        return
    found = read_proxy_line(header, ProxyMode.AUTO)
    assert found is not None, "a header is whole"
    source, destination = found[0].source, found[0].destination
    template = connection.reader.template
    if source is None:
        connection.introduced(header, connection.client, False)
        return
    if isinstance(source, tuple):
        template["REMOTE_ADDR"], template["REMOTE_PORT"] = source[0], str(source[1])
        template["PROXY_PROTOCOL"] = "TCP6" if ":" in source[0] else "TCP4"
    else:
        template["REMOTE_ADDR"] = template["REMOTE_PORT"] = ""
        template["PROXY_PROTOCOL"] = "UNIX"
    if isinstance(destination, tuple):
        template["PROXY_ADDR"], template["PROXY_PORT"] = destination[0], str(destination[1])
    trusted = isinstance(source, tuple) and forwarders.include(source[0])
    connection.introduced(header, peer_text(source), trusted)


def _introduce_by_environ(connection: Connection, forwarders: Peers, environ: dict[str, Any]) -> None:
    """The same with what a gateway says of its request."""
    source, template = (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]), connection.reader.template
    try:
        ipaddress.ip_address(source[0])
        # What stands in the template is the gateway itself: it has told nobody.
        named = source != (template["REMOTE_ADDR"], template["REMOTE_PORT"])
    except ValueError:
        named = False  # the client of a Unix socket of the gateway's
    if named:
        connection.introduced(b"", peer_text(source).removesuffix(b":"), forwarders.include(source[0]))
    else:
        connection.introduced(b"", connection.client, False)


def _name(connection: Connection) -> str:
    return connection.client.decode("latin-1")


def peer_text(peer: Any) -> bytes:
    """A peer's address for people: ``127.0.0.1:4711``, ``[::1]:4711``, or ``unix``."""
    if not isinstance(peer, tuple):
        return b"unix"
    host = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
    return f"{host}:{peer[1]}".encode("latin-1")
