"""The line or block with which a proxy names the client whose connection it forwards.

The PROXY protocol in its two versions, as HAProxy's proxy-protocol.txt defines them; the sections named below
are of that text. Strict: what a receiver may refuse is refused, and so is everything that another receiver could
read differently. This module knows no socket and not which peers are trusted; the caller passes the version
to expect, because a receiver must never guess whether there is a header at all (section 2).
"""

import enum
import functools
import ipaddress
import re
from typing import Final

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import ProtocolError

Address = tuple[str, int] | str | None
"""Host and port; the path of a Unix socket (empty if it has none, with NUL in front if it is abstract); or unknown."""

LINE_BYTES: Final = 107
"""The longest line of version 1, with its CRLF (section 2.1)."""

BLOCK_BYTES: Final = 4096
"""The longest block after the first 16 bytes of version 2. Senders stay below one TCP segment; a chain of proxies that
adds what it knows of TLS still has ample room."""


class ProxyMode(enum.Enum):
    """Which versions are accepted."""

    V1 = enum.auto()
    V2 = enum.auto()
    AUTO = enum.auto()


@dataclass(frozen=True, slots=True)
class ProxiedPeer:
    """Both ends of the proxied connection; both are None where the real ends of this connection count."""

    source: Address
    destination: Address


NO_PEER: Final = ProxiedPeer(None, None)

_V1_START = b"PROXY "
_V1_FAMILIES = ("TCP4", "TCP6", "UNKNOWN")
# The characters of a word: an unfinished one is matched against these, a complete one is parsed as well.
_V1_IPV4 = re.compile("[0-9.]{0,15}")
_V1_IPV6 = re.compile("[0-9A-Fa-f:.]{0,45}")
_V1_PORT = re.compile("0|[1-9][0-9]{0,4}")

_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEADER_BYTES = 16
_V2_LOCAL = 0x20
_V2_PROXY = 0x21
_V2_UNSPEC = frozenset((0x00, 0x01))
# Family and transport of a stream -> bytes of its two addresses, ports included.
_V2_ADDRESS_BYTES = {0x11: 2 * 4 + 2 * 2, 0x21: 2 * 16 + 2 * 2, 0x31: 2 * 108}
_V2_UNIX = 0x31

_TLV_HEADER_BYTES = 3
_TLV_CRC32C = 0x03
# The polynomial of Castagnoli, its bits in reverse (RFC 9260, appendix A).
_CRC32C_POLYNOMIAL = 0x82F63B78


def read_proxy_line(data: bytes, mode: ProxyMode) -> tuple[ProxiedPeer, int] | None:
    """The proxied peer and the header's length in bytes, or None when ``data``, a connection's start, is too short yet.

    Raises ProtocolError (400) as soon as ``data`` cannot become a valid header.
    """
    if not data:
        return None
    if mode is not ProxyMode.V2 and data.startswith(_V1_START[:1]):
        return _read_line(data)
    if mode is not ProxyMode.V1 and data.startswith(_V2_SIGNATURE[:1]):
        return _read_block(data)
    raise ProtocolError(400, "the connection does not begin with the PROXY protocol")


def may_begin(data: bytes) -> bool:
    """Whether a connection that begins with ``data`` may begin with a header of either version.

    Where a header is optional, trust in the peer decides whether there is one: a client whose proxy adds none could
    send one itself.
    """
    return any(data[: len(start)] == start[: len(data)] for start in (_V1_START, _V2_SIGNATURE))


def _read_line(data: bytes) -> tuple[ProxiedPeer, int] | None:
    """Version 1 (section 2.1): one line of text."""
    if not data.startswith(_V1_START[: len(data)]):
        raise ProtocolError(400, "the connection does not begin with the PROXY protocol")
    raw, cr, rest = data[:LINE_BYTES].partition(b"\r")
    if b"\n" in raw or rest[:1] not in (b"", b"\n"):
        raise ProtocolError(400, "the PROXY line is not ended by CRLF")
    if len(raw) > LINE_BYTES - len(b"\r\n"):
        raise ProtocolError(400, "the PROXY line is too long")
    words = raw.decode("latin-1").split(" ")[1:]
    if not cr:
        _check_partial(words)
        return None
    peer = _read_words(words)
    return (peer, len(raw) + len(b"\r\n")) if rest else None


def _read_words(words: list[str]) -> ProxiedPeer:
    """The peer that the words after ``PROXY`` name; after ``UNKNOWN`` anything may follow."""
    if words[0] == "UNKNOWN":
        return NO_PEER
    if words[0] not in _V1_FAMILIES:
        raise ProtocolError(400, "the PROXY line names no known protocol")
    if len(words) != 5:
        raise ProtocolError(400, "the PROXY line is not six words with one space between them")
    family, source, destination, source_port, destination_port = words
    return ProxiedPeer(
        (_read_host(family, source), _read_port(source_port)),
        (_read_host(family, destination), _read_port(destination_port)),
    )


def _check_partial(words: list[str]) -> None:
    """Refuse the words after ``PROXY`` when they cannot become a line; the last one may be unfinished."""
    if not words:
        return
    *finished, last = words
    if not finished:
        if not any(family.startswith(last) for family in _V1_FAMILIES):
            raise ProtocolError(400, "the PROXY line names no known protocol")
        return
    family, *finished = finished
    if family == "UNKNOWN":
        return
    if family not in _V1_FAMILIES:
        raise ProtocolError(400, "the PROXY line names no known protocol")
    if len(finished) > 3:
        raise ProtocolError(400, "the PROXY line is not six words with one space between them")
    for host in finished[:2]:
        _read_host(family, host)
    for port in finished[2:]:
        _read_port(port)
    if len(finished) < 2:
        if not _pattern_of(family).fullmatch(last):
            raise ProtocolError(400, f"the PROXY line has an invalid {family} address")
    elif last:
        # Each prefix of a port is a port itself.
        _read_port(last)


def _pattern_of(family: str) -> re.Pattern[str]:
    return _V1_IPV4 if family == "TCP4" else _V1_IPV6


def _read_host(family: str, text: str) -> str:
    # The pattern excludes what `ipaddress` accepts beyond an address: a zone.
    if _pattern_of(family).fullmatch(text):
        try:
            return str(ipaddress.IPv4Address(text)) if family == "TCP4" else _ipv6_text(ipaddress.IPv6Address(text))
        except ValueError:
            pass  # refused below, like an address with an extra character
    raise ProtocolError(400, f"the PROXY line has an invalid {family} address")


def _read_port(text: str) -> int:
    if not _V1_PORT.fullmatch(text) or int(text) > 0xFFFF:
        raise ProtocolError(400, "the PROXY line has an invalid port")
    return int(text)


def _ipv6_text(address: ipaddress.IPv6Address) -> str:
    # Python up to 3.12 writes ::ffff:1.2.3.4 without dots, which getpeername() and newer ones do not.
    mapped = address.ipv4_mapped
    return str(address) if mapped is None else f"::ffff:{mapped}"


def _read_block(data: bytes) -> tuple[ProxiedPeer, int] | None:
    """Version 2 (section 2.2): a binary block."""
    if not data.startswith(_V2_SIGNATURE[: len(data)]):
        raise ProtocolError(400, "the connection does not begin with the PROXY protocol")
    if len(data) > 12 and data[12] not in (_V2_LOCAL, _V2_PROXY):
        raise ProtocolError(400, "the PROXY block has an unknown version or command")
    if len(data) > 13:
        _check_family(data[12], data[13])
    if len(data) < _V2_HEADER_BYTES:
        return None
    command, family = data[12], data[13]
    size = int.from_bytes(data[14:16], "big")
    if size > BLOCK_BYTES:
        raise ProtocolError(400, "the PROXY block is too long")
    end = _V2_HEADER_BYTES + size
    # Where the addresses of an unknown family end is not known, and the block of LOCAL is
    # discarded whatever it contains: only its length is used.
    opaque = command == _V2_LOCAL or family in _V2_UNSPEC
    if not opaque and size < _V2_ADDRESS_BYTES[family]:
        raise ProtocolError(400, "the PROXY block is too short for its addresses")
    if len(data) < end:
        return None
    if opaque:
        return NO_PEER, end
    block = data[:end]
    _check_extras(block, _V2_HEADER_BYTES + _V2_ADDRESS_BYTES[family])
    return _read_addresses(block, family), end


def _check_family(command: int, family: int) -> None:
    # For LOCAL the family is ignored. A datagram is refused although a receiver may treat it as UNSPEC:
    # this connection is a stream, so the proxy contradicts itself.
    if command != _V2_LOCAL and family not in _V2_UNSPEC and family not in _V2_ADDRESS_BYTES:
        raise ProtocolError(400, "the PROXY block has an unknown family or is not of a stream")


def _read_addresses(block: bytes, family: int) -> ProxiedPeer:
    end = _V2_HEADER_BYTES + _V2_ADDRESS_BYTES[family]
    raw = block[_V2_HEADER_BYTES:end]
    if family == _V2_UNIX:
        return ProxiedPeer(_unix_path(raw[:108]), _unix_path(raw[108:]))
    size = (len(raw) - 4) // 2
    source, destination = _host_text(raw[:size]), _host_text(raw[size : 2 * size])
    source_port, destination_port = int.from_bytes(raw[-4:-2], "big"), int.from_bytes(raw[-2:], "big")
    return ProxiedPeer((source, source_port), (destination, destination_port))


def _host_text(packed: bytes) -> str:
    return str(ipaddress.IPv4Address(packed)) if len(packed) == 4 else _ipv6_text(ipaddress.IPv6Address(packed))


def _unix_path(raw: bytes) -> str:
    # Padded with NUL. An abstract name begins with one, and its length is given nowhere.
    path = raw.rstrip(b"\x00") if raw.startswith(b"\x00") else raw.partition(b"\x00")[0]
    return path.decode("utf-8", "surrogateescape")


def _check_extras(block: bytes, start: int) -> None:
    """Read the TLVs of ``block`` from ``start`` on (section 2.2.x); only the checksum is used."""
    checked = False
    while start < len(block):
        value = start + _TLV_HEADER_BYTES
        end = value + int.from_bytes(block[start + 1 : value], "big")
        if value > len(block) or end > len(block):
            raise ProtocolError(400, "a TLV of the PROXY block is longer than the block")
        if block[start] == _TLV_CRC32C:
            if checked or end - value != 4:
                raise ProtocolError(400, "the PROXY block's checksum is malformed")
            # Section 2.2.3: of the whole header, with zeros in place of the checksum.
            blank = block[:value] + bytes(4) + block[end:]
            if crc32c(blank) != int.from_bytes(block[value:end], "big"):
                raise ProtocolError(400, "the PROXY block's checksum is wrong")
            checked = True
        start = end


def crc32c(data: bytes) -> int:
    """The checksum of RFC 9260, appendix A, of ``data``: 32 bits."""
    table = _crc32c_table()
    value = 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


@functools.cache
def _crc32c_table() -> tuple[int, ...]:
    # Computed when first needed: hardly any proxy sends a checksum.
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_CRC32C_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)
