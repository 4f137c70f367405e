"""What comes before the first request of a connection: the header of the PROXY protocol, then the TLS handshake.

It is advanced by the loop, as far as the client has come, and never waits: a client that says nothing costs a
descriptor until its time is over. Requests are not known here.
"""

import ipaddress
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from wsgicluster.errors import ProtocolError
from wsgicluster.http.proxyline import BLOCK_BYTES, ProxyMode, may_begin, read_proxy_line
from wsgicluster.http.refused import LINE_BYTES, named
from wsgicluster.http.uwsgi import UwsgiReader
from wsgicluster.ipc.reasons import BadRequest, CloseReason
from wsgicluster.settings import Settings
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.states import ConnectionInput
from wsgicluster.worker.transport.transport import ByteTransport, HandshakeError
from wsgicluster.wsgi.trust import Peers

if TYPE_CHECKING:
    import ssl

    from wsgicluster.worker.transport.tls import TlsTransport

HEADER_BYTES = 16 + BLOCK_BYTES
"""More than any header of the PROXY protocol has."""

_MODES = {"v1": ProxyMode.V1, "v2": ProxyMode.V2, "auto": ProxyMode.AUTO}
_HANDSHAKE = b"\x16"
"""The first byte of a TLS connection (RFC 8446, section 5.1: ContentType handshake)."""


class PreambleSettings:
    """What every new connection of one worker has to pass; holds no connection itself.

    ``mode`` is None without the PROXY protocol. ``speakers`` are those who may connect where peers speak for others: by
    that, or by the uwsgi protocol. ``forwarders`` are those whose forwarded headers are trusted.
    ``context`` and ``connection_class`` are for TLS, if it is used.
    """

    def __init__(self, mode: ProxyMode | None, speakers: Peers, forwarders: Peers, log: logging.Logger) -> None:
        self.mode = mode
        self.forwarders = forwarders
        self.log = log
        self.tls: Callable[[ByteTransport], TlsTransport] | None = None
        self.place: Callable[[Connection], bool] | None = None
        """Asked once a PROXY header has said whose a connection is: True when a sibling has got it."""
        self._speakers = speakers

    @classmethod
    def of(
        cls, settings: Settings, log: logging.Logger, tls: "ssl.SSLContext | None" = None
    ) -> "PreambleSettings | None":
        """As the settings say; None where the first thing that a client says is a request. Raises UsageError.

        ``tls`` is what a TLS context is made of, else it is a new one, whose session tickets no sibling accepts. Reads
        keys and certificates, so it is called while the worker is still allowed to.
        """
        mode = _MODES.get(settings.proxy_protocol)
        gateways = settings.protocol == "uwsgi"
        if mode is None and not gateways and not settings.has_tls:
            return None
        allowed = settings.uwsgi_allow_ips if gateways else settings.proxy_allow_ips if mode is not None else ("*",)
        found = cls(mode, Peers(allowed), Peers(settings.forwarded_allow_ips), log)
        if settings.has_tls:
            # Not imported by a server without TLS, whose workers are several megabytes smaller for it.
            from wsgicluster.settings.tls_context import server_context
            from wsgicluster.worker.transport.tls import TlsTransport

            found.tls = partial(TlsTransport, context=server_context(settings, tls))
        return found

    def apply(self, connection: Connection, header: bytes = b"") -> None:
        """Let a new connection begin as they say; `Connection.receive_if_open` is the first step.

        ``header`` is its PROXY header, if a sibling has read that already.
        """
        expects_header = self.mode is not None and not header
        if not self._speakers.include(connection.reader.template["REMOTE_ADDR"]):
            if self.mode is ProxyMode.AUTO:
                # A header is optional, and this peer would not be trusted with one: what it sends are requests.
                if self.tls is not None:
                    Preamble(self, connection, False).begin()
                return
            setting = "uwsgi_allow_ips" if self.mode is None else "proxy_allow_ips"
            _reject(connection, BadRequest.PREAMBLE, setting, f"peer not in {setting}")
            return
        apply_proxy_header(connection, header, self.forwarders)
        if self.tls is not None or expects_header:
            Preamble(self, connection, expects_header).begin()


class Preamble:
    """One connection before its first request; a `wsgicluster.worker.connection.extension.ConnectionPhase`."""

    __slots__ = ("_connection", "_header", "_settings", "_step", "_tls")

    def __init__(self, settings: PreambleSettings, connection: Connection, expects_header: bool) -> None:
        self._settings = settings
        self._connection = connection
        self._header = b""
        # A step says whether there is another one, which is tried at once.
        self._step: Callable[[], bool] = self._read_proxy_header if expects_header else self._look_at_hello
        self._tls: TlsTransport | None = None

    def begin(self) -> None:
        """Come first: its time and that of the first head are one."""
        connection = self._connection
        connection.enter(ConnectionInput.PREAMBLE, self)
        first_by = connection.loop.now + connection.host.timing.head_s
        connection.reading.first_by(first_by)
        connection.loop.deadlines.set(connection, first_by)

    def _end(self, received: bytes = b"") -> None:
        """Let the first request be read, of which some bytes may have been received already."""
        self._connection.enter(ConnectionInput.OPENED)
        if received:
            self._connection.reading.take(received)
        else:
            self._connection.reading.receive()

    def expired(self) -> None:
        """The client has had its time."""
        self._connection.close(CloseReason.IDLE)

    def advance(self) -> None:
        """Continue, as far as that is possible without waiting."""
        try:
            while self._step():
                pass
        except BlockingIOError:
            self._connection.watch(self._connection.transport.wants)
        except OSError:
            self._connection.close(CloseReason.CLIENT)

    def _peek(self, size: int) -> bytes:
        """What has come, left where it is. Raises BlockingIOError, or ConnectionError at the end of the stream."""
        data = self._connection.transport.recv(size, socket.MSG_PEEK)
        if not data:
            raise ConnectionError("the client has left")
        return data

    def _read_proxy_header(self) -> bool:
        # Not a byte beyond the header is received: TLS and the fast path read from the socket themselves.
        settings, connection = self._settings, self._connection
        assert settings.mode is not None, "only then this is a step"
        data = self._peek(HEADER_BYTES)
        if settings.mode is ProxyMode.AUTO and not may_begin(self._header + data):
            connection.movable = True
            if settings.tls is None:
                self._end(self._header)
                return False
            self._step = self._look_at_hello
            return True
        try:
            found = read_proxy_line(self._header + data, settings.mode)
        except ProtocolError as error:
            _reject(connection, BadRequest.PREAMBLE, "PROXY protocol", error.detail)
            return False
        taken = len(data) if found is None else found[1] - len(self._header)
        # With a flag it is received as it came, and not as a request; see `ByteTransport.recv`.
        self._header += connection.transport.recv(taken, socket.MSG_DONTWAIT)
        connection.movable = found is not None  # another process could not continue with a part of a header
        if found is None:
            return True
        apply_proxy_header(connection, self._header, settings.forwarders)
        if settings.place is not None and settings.place(connection):
            return False
        if settings.tls is None:
            self._end()
            return False
        self._step = self._look_at_hello
        return True

    def _look_at_hello(self) -> bool:
        first = self._peek(1)
        if first.isalpha():
            # As much of it as is there, for the logs.
            self._connection.reader.rest = data = self._peek(LINE_BYTES)
            error = ProtocolError(400, "plain HTTP has come where TLS is expected; use https")
            self._connection.refuse(named(error, data, "TLS"))
            return False
        if first != _HANDSHAKE:
            what = named(ProtocolError(400, "neither TLS nor HTTP"), self._peek(LINE_BYTES), "TLS")
            _reject(self._connection, BadRequest.TLS, "no TLS", what.detail)
            return False
        self._step = self._shake_hands
        return True

    def _shake_hands(self) -> bool:
        settings, connection, tls = self._settings, self._connection, self._tls
        if tls is None:
            assert settings.tls is not None, "only then this is a step"
            tls = self._tls = settings.tls(connection.transport)
            connection.continue_over(tls)
        try:
            connection.reader.template.update(tls.shake_hands())
        except HandshakeError as error:
            settings.log.debug("%s: the TLS handshake failed: %s", _name(connection), error)
            connection.host.note_bad_request(BadRequest.TLS)
            # The client shall be able to read why, so its last bytes must not meet a closed socket.
            connection.linger()
        else:
            self._end()
        return False


def _reject(connection: Connection, what: BadRequest, kind: str, reason: str) -> None:
    """Close before the first request, without a response; ``kind`` is one of few."""
    connection.host.note_bad_request(what)
    connection.host.rejected(connection, kind, reason)
    connection.close(CloseReason.PREAMBLE)


def _identify(connection: Connection, header: bytes, client: bytes, trusted: bool) -> None:
    """A proxy has said whose connection this is; the template of the environs says so already."""
    connection.proxy_header = header
    connection.client = client
    connection.trusted = trusted
    connection.reader.limits = connection.host.limits[trusted]
    connection.host.adopt(connection, connection.reader.template)


def apply_proxy_header(connection: Connection, header: bytes, forwarders: Peers) -> None:
    """Make a connection that of the client whom a header of the PROXY protocol names, or a gateway with its request.

    Without either do nothing. One whose client the proxy does not name stays the proxy's. What it forwards is trusted
    in neither case unless the client itself is a forwarder: a proxy that passes bytes on says nothing about the
    headers among them, and a gateway passes those of its client on as they are.
    """
    if isinstance(connection.reader, UwsgiReader):
        connection.reader.on_head = partial(_identify_by_environ, connection, forwarders)
    if not header:
        return
    found = read_proxy_line(header, ProxyMode.AUTO)
    assert found is not None, "a header is whole"
    source, destination = found[0].source, found[0].destination
    template = connection.reader.template
    if source is None:
        _identify(connection, header, connection.client, False)
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
    _identify(connection, header, peer_text(source), trusted)


def _identify_by_environ(connection: Connection, forwarders: Peers, environ: dict[str, Any]) -> None:
    """The same with what a gateway says of its request."""
    source, template = (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]), connection.reader.template
    try:
        ipaddress.ip_address(source[0])
        # What stands in the template is the gateway itself: it has named no client.
        named = source != (template["REMOTE_ADDR"], template["REMOTE_PORT"])
    except ValueError:
        named = False  # the client of a Unix socket of the gateway's
    if named:
        _identify(connection, b"", peer_text(source).removesuffix(b":"), forwarders.include(source[0]))
    else:
        _identify(connection, b"", connection.client, False)


def _name(connection: Connection) -> str:
    return connection.client.decode("latin-1")


def peer_text(peer: Any) -> bytes:
    """A peer's address for people: ``127.0.0.1:4711``, ``[::1]:4711``, or ``unix``."""
    if not isinstance(peer, tuple):
        return b"unix"
    host = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
    return f"{host}:{peer[1]}".encode("latin-1")
