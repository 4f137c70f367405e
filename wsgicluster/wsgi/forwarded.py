"""The syntax of the fields in which proxies record a request's path: X-Forwarded-* and Forwarded (RFC 7239).

Pure: which proxies are trusted is not known here. An invalid value is refused, since only a trusted proxy can have
written it.
"""

import ipaddress
import re
from typing import NamedTuple

from wsgicluster.errors import ProtocolError
from wsgicluster.http.grammar import TOKEN

# Not with the spaces before it: where no pair follows, the search would start again at each of them.
_PAIR = re.compile(r'([^=;," \t]+)=(?:"((?:[^"\\]|\\.)*)"|([^=;," \t]*))[ \t]*')
_QUOTED_PAIR = re.compile(r"\\(.)")
_HIDDEN = re.compile(r"_[A-Za-z0-9._-]+")
_PORT = re.compile(r"[0-9]{1,5}")
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?")


class Node(NamedTuple):
    """A sender of the request: an address, or ``""`` where the proxy hides it; and a port, or ``""``."""

    address: str
    port: str


UNKNOWN = Node("", "")


def list_of(value: str) -> list[str]:
    """The elements of a plain list; empty ones do not count (RFC 9110, section 5.6.1)."""
    return [element for part in value.split(",") if (element := part.strip(" \t"))]


def read_node(text: str) -> Node:
    """An element of X-Forwarded-For, or the ``for`` of Forwarded (RFC 7239, section 6). Raises ProtocolError (400)."""
    if text.lower() == "unknown" or _HIDDEN.fullmatch(text):
        return UNKNOWN
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed:
        return Node(_address(bracketed[1]), _port(bracketed[2]))
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        # RFC 7239, section 6: the address may be hidden while the port is given.
        known = host.lower() != "unknown" and not _HIDDEN.fullmatch(host)
        return Node(_address(host), _port(port)) if known else UNKNOWN
    return Node(_address(text), "")


def _address(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ProtocolError(400, "invalid address in a forwarded field") from None
    # The same client has one address, whatever kind of socket a proxy listens on.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _port(text: str | None) -> str:
    if text is None or _HIDDEN.fullmatch(text):
        return ""
    if not _PORT.fullmatch(text) or int(text) > 0xFFFF:
        raise ProtocolError(400, "invalid port in a forwarded field")
    return str(int(text))


def read_forwarded(value: str) -> list[dict[str, str]]:
    """The elements of Forwarded, the client's first: parameter in lower case -> value (RFC 7239, section 4).

    Raises ProtocolError (400).
    """
    elements: list[dict[str, str]] = []
    pairs: dict[str, str] = {}
    place = 0
    while place < len(value):
        found = _PAIR.match(value, place)
        if found:
            name = found[1].lower()
            said = found[3] if found[2] is None else _QUOTED_PAIR.sub(r"\1", found[2])
            if not TOKEN.fullmatch(name) or name in pairs or (found[2] is None and not said):
                raise ProtocolError(400, "Forwarded is malformed")
            pairs[name] = said
            place = found.end()
        elif value[place] in " \t":
            place += 1
            continue
        if place == len(value):
            break
        if value[place] == "," and pairs:
            elements.append(pairs)
            pairs = {}
        elif value[place] not in ",;":
            raise ProtocolError(400, "Forwarded is malformed")
        place += 1
    if pairs:
        elements.append(pairs)
    return elements
