"""Addresses as the kernel writes them, read as Python's own ``socket.accept`` gives them."""

import socket
import struct
from typing import Any

_FAMILY = struct.Struct("=H")
_IPV4 = struct.Struct("!2xH4s")
_IPV6 = struct.Struct("!2xHI16s")
_SCOPE = struct.Struct("=I")


def read_address(raw: bytes) -> Any:
    """``(host, port)`` or ``(host, port, flow, scope)`` of a ``struct sockaddr``; ``""`` for a Unix socket's."""
    (family,) = _FAMILY.unpack_from(raw)
    if family == socket.AF_INET:
        port, host = _IPV4.unpack_from(raw)
        return socket.inet_ntop(family, host), port
    if family == socket.AF_INET6:
        port, flow, host = _IPV6.unpack_from(raw)
        return socket.inet_ntop(family, host), port, flow, *_SCOPE.unpack_from(raw, _IPV6.size)
    return ""
