"""URLs of a Redis server, and of Sentinels, which say what server takes the writes now."""

import re
import urllib.parse

from wsgicluster.dataclass import dataclass
from wsgicluster.pattern import pattern
from wsgicluster.settings.types.general import read_text

EXPECTED = "a URL such as redis://localhost:6379/0 or redis+sentinel://host1,host2/NAME/0"

_SCHEMES = ("redis", "rediss", "unix")
"""As ``redis.from_url`` has them: over TCP, over TLS, and over a Unix socket."""
_SENTINELS = pattern(r"(rediss?)\+sentinel://([^/?#\s]*@)?([^@/?#\s]+)/([\w.-]+)(/\d+)?(\?\S*)?", re.ASCII)
_SPACE = pattern(r"\s")
_SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Where Sentinels are, by what name they know the server, and how to use that: a URL whose host means nothing."""

    addresses: tuple[tuple[str, int], ...]
    service: str
    server: str


def sentinels(url: str) -> Sentinels | None:
    """What a URL of Sentinels says, or None for one of a server. Raises ValueError."""
    if not url.partition("://")[0].endswith("+sentinel"):
        return None
    match = _SENTINELS.fullmatch(url)
    if match is None:
        raise ValueError(url)
    scheme, user, hosts, service, database, query = match.groups(default="")
    addresses = []
    for host in hosts.split(","):
        parts = urllib.parse.urlsplit(f"//{host}")  # ValueError for an address in brackets that is none
        if not parts.hostname:
            raise ValueError(url)
        _check_host(parts.hostname)
        addresses.append((parts.hostname, parts.port or _SENTINEL_PORT))
    return Sentinels(tuple(addresses), service, f"{scheme}://{user}localhost{database}{query}")


def _check_host(name: str) -> None:
    """Raise ValueError for a name that no host can have: nothing that connects expects such an error."""
    name.encode("idna")


def read(value: object) -> str | None:
    """The URL, or None for no value. Raises ValueError for anything else."""
    if value is None or value == "":
        return None
    text = read_text(value)
    if sentinels(text) is not None:
        return text
    parts = urllib.parse.urlsplit(text)  # as above
    # The library takes this machine where there is no host; more likely a variable in the URL is empty.
    place = parts.path if parts.scheme == "unix" else parts.hostname
    if not place or parts.scheme not in _SCHEMES or _SPACE.search(text):
        raise ValueError(text)
    _check_host(parts.hostname or "")
    _ = parts.port  # ValueError for one that is not a port
    return text
