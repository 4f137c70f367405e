"""Which peers may say how the client reached them, and what they say (RFC 7239, section 8.1: nobody else may)."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from wsgicluster.errors import ProtocolError


class Trust:
    """The peers whose forwarded headers are believed.

    ``allowed`` holds addresses, networks in CIDR notation, or ``"*"`` for everybody.
    ``secure_scheme_headers`` maps header names to the value that means https.
    """

    def __init__(self, allowed: Sequence[str], secure_scheme_headers: Mapping[str, str]) -> None:
        self._everybody = "*" in allowed
        self._addresses = frozenset(allowed)
        self._networks = [ipaddress.ip_network(entry, strict=False) for entry in allowed if "/" in entry]
        self.schemes = [
            ("HTTP_" + name.upper().replace("-", "_"), value) for name, value in secure_scheme_headers.items()
        ]

    def trusts(self, address: str) -> bool:
        """Whether a peer is believed; ``""`` is the peer of a Unix socket, which the file's mode admits."""
        # A client of IPv4 that comes to a socket of IPv6.
        address = address.removeprefix("::ffff:") if "." in address else address
        if self._everybody or not address or address in self._addresses:
            return True
        if not self._networks:
            return False
        peer = ipaddress.ip_address(address.partition("%")[0])
        return any(peer in network for network in self._networks)

    def set_scheme(self, environ: dict[str, Any]) -> None:
        """Set ``wsgi.url_scheme`` from a trusted peer's headers.

        Raises ProtocolError (400) when two of them contradict each other.
        """
        said = None
        for key, secure in self.schemes:
            value = environ.get(key)
            if value is not None:
                scheme = "https" if value == secure else "http"
                if said is not None and said != scheme:
                    raise ProtocolError(400, "forwarded scheme headers contradict each other")
                said = scheme
        if said is not None:
            environ["wsgi.url_scheme"] = said
