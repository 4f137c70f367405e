"""Which peers' forwarded fields are trusted, and what those set in the environ (RFC 7239, section 8.1)."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import ProtocolError
from wsgicluster.http.grammar import HOST
from wsgicluster.wsgi.forwarded import UNKNOWN, Node, list_of, read_forwarded, read_node

_PORT = re.compile("[1-9][0-9]{0,4}")


class Peers:
    """A set of peers: addresses, networks in CIDR notation, or ``"*"`` for all."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._everybody = "*" in allowed
        self._addresses = frozenset(allowed)
        self._networks = [ipaddress.ip_network(entry, strict=False) for entry in allowed if "/" in entry]

    def include(self, address: str) -> bool:
        """Whether a peer is in the set; ``""`` is the peer of a Unix socket, which the file's mode has admitted."""
        # An IPv4 client on an IPv6 socket.
        address = address.removeprefix("::ffff:") if "." in address else address
        if self._everybody or not address or address in self._addresses:
            return True
        if not self._networks:
            return False
        peer = ipaddress.ip_address(address.partition("%")[0])
        return any(peer in network for network in self._networks)


ALL_TRUSTED = -1
"""As a number of hops: as many as there are trusted proxies."""


@dataclass(frozen=True)
class Forwarding:
    """How many proxies are trusted: ``hops``, each of which sets ``fields`` (names in lower case).

    0 hops keep the peer's address.
    """

    hops: int = 0
    fields: tuple[str, ...] = ("x-forwarded-for",)


class Trust:
    """The peers whose forwarded fields are trusted.

    ``allowed`` is as in `Peers`.
    ``secure_scheme_headers`` maps header names to the value that means https.
    """

    def __init__(
        self, allowed: Sequence[str], secure_scheme_headers: Mapping[str, str], forwarding: Forwarding | None = None
    ) -> None:
        self.peers = Peers(allowed)
        self.schemes = [
            ("HTTP_" + name.upper().replace("-", "_"), value) for name, value in secure_scheme_headers.items()
        ]
        forwarding = forwarding or Forwarding()
        self.hops = forwarding.hops
        self._fields = frozenset(forwarding.fields)

    def trusts(self, address: str) -> bool:
        """Whether a peer is trusted; ``""`` is the peer of a Unix socket."""
        return self.peers.include(address)

    def set_scheme(self, environ: dict[str, Any]) -> None:
        """Set ``wsgi.url_scheme`` from a trusted peer's fields, and with ``hops`` the client's address and the host.

        Raises ProtocolError (400) when they contradict each other, or are invalid.
        """
        if self.hops:
            self._set_client(environ)
            return
        said = None
        for key, secure in self.schemes:
            value = environ.get(key)
            if value is not None:
                said = _agreed(said, "https" if value == secure else "http", "scheme")
        if said is not None:
            _set_scheme(environ, said)

    def _set_client(self, environ: dict[str, Any]) -> None:
        listed = self._list("x-forwarded-for", environ)
        node, hops = self._client(listed) if listed else (None, max(self.hops, 1))
        element: dict[str, str] = {}
        elements = read_forwarded(environ.get("HTTP_FORWARDED", "")) if "forwarded" in self._fields else []
        if elements:
            other, hops = self._client([each.get("for", "unknown") for each in elements])
            element = elements[-hops]
            if node is not None and node.address != other.address:
                raise ProtocolError(400, "the forwarded addresses contradict each other")
            node = other
        if node is not None:
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = node
        self._set_place(environ, element, hops)

    def _set_place(self, environ: dict[str, Any], element: Mapping[str, str], hops: int) -> None:
        """Set the URL that the client used: scheme, host, port and prefix; ``element`` is that of Forwarded."""
        scheme = element["proto"].lower() if "proto" in element else None
        for key, secure in self.schemes:
            values = list_of(environ.get(key, ""))
            if values:
                scheme = _agreed(scheme, "https" if _outermost(values, hops) == secure else "http", "scheme")
        if scheme is not None:
            if scheme not in ("http", "https"):
                raise ProtocolError(400, "the forwarded scheme is neither http nor https")
            _set_scheme(environ, scheme)
        host = element.get("host")
        if hosts := self._list("x-forwarded-host", environ):
            host = _agreed(host, _outermost(hosts, hops), "host")
        if host is not None:
            if not HOST.fullmatch(host) or not host:
                raise ProtocolError(400, "the forwarded host is invalid")
            environ["HTTP_HOST"] = host
        if ports := self._list("x-forwarded-port", environ):
            _set_port(environ, _outermost(ports, hops))
        if prefixes := self._list("x-forwarded-prefix", environ):
            _set_prefix(environ, _outermost(prefixes, hops))

    def _list(self, name: str, environ: Mapping[str, Any]) -> list[str]:
        if name not in self._fields:
            return []
        return list_of(environ.get("HTTP_" + name.upper().replace("-", "_"), ""))

    def _client(self, chain: Sequence[str]) -> tuple[Node, int]:
        """The client in a chain that ends with the peer of the nearest proxy, and the number of proxies after it."""
        if self.hops != ALL_TRUSTED:
            # A shorter chain is that of a client that connected to an inner proxy.
            hops = min(self.hops, len(chain))
            return read_node(chain[-hops]), hops
        node = UNKNOWN
        for hops, text in enumerate(reversed(chain), 1):
            node = read_node(text)
            # A hidden address is not that of a trusted proxy.
            if not node.address or not self.peers.include(node.address):
                return node, hops
        return node, len(chain)


def _outermost(values: Sequence[str], hops: int) -> str:
    return values[-min(hops, len(values))]


def _agreed(known: str | None, said: str, what: str) -> str:
    if known is not None and known != said:
        raise ProtocolError(400, f"forwarded {what} headers contradict each other")
    return said


def _set_scheme(environ: dict[str, Any], scheme: str) -> None:
    environ["wsgi.url_scheme"] = scheme
    if scheme == "http":
        # TLS is between the proxy and us; between client and proxy there was none.
        environ.pop("HTTPS", None)


def _set_port(environ: dict[str, Any], port: str) -> None:
    if not _PORT.fullmatch(port) or int(port) > 0xFFFF:
        raise ProtocolError(400, "the forwarded port is invalid")
    environ["SERVER_PORT"] = port
    host = environ.get("HTTP_HOST")
    if host:
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        usual = "443" if environ["wsgi.url_scheme"] == "https" else "80"
        environ["HTTP_HOST"] = name if port == usual else f"{name}:{port}"


def _set_prefix(environ: dict[str, Any], prefix: str) -> None:
    # Bytes beyond ASCII are sent raw or encoded; PEP 3333 has both as latin-1 characters.
    place = unquote_to_bytes(prefix.rstrip("/").encode("latin-1")).decode("latin-1")
    # With two slashes in front, URLs that the application builds would name another host.
    if not prefix.startswith("/") or prefix.startswith("//") or place.startswith("//"):
        raise ProtocolError(400, "the forwarded prefix is not a path")
    environ["SCRIPT_NAME"] = place
