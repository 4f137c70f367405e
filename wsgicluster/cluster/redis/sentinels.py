"""Connections to the server that takes the writes, as Sentinels name it when a connection is made.

Sentinels watch a primary and its replicas, and have a replica take its part when it fails. See "Guidelines for Redis
clients with support for Sentinel" in the documentation of Redis.
"""

from collections.abc import Mapping
from typing import Any

import redis
import redis.exceptions
from redis.connection import parse_url
from redis.sentinel import SentinelConnectionPool

from wsgicluster.settings.types.redis_url import Sentinels

TIMEOUT_S = 0.5
"""How long one Sentinel may take: the others are asked after it, and callers wait for all that."""
_PREFIX = "sentinel_"
"""What parameters of the URL begin with that are for Sentinels: ``sentinel_username``, ``sentinel_password``."""


class PrimaryFinder:
    """Asks one Sentinel after another which server is the primary; the last one that knew it is asked first."""

    def __init__(self, addresses: tuple[tuple[str, int], ...], options: Mapping[str, Any]) -> None:
        self._addresses = addresses
        self._options = options

    def discover_master(self, service: str) -> tuple[str, int]:
        """Address of the primary; the name is the library's. Raises the library's ConnectionError in one line."""
        failures = []
        for address in self._addresses:
            try:
                found = self._ask(address, service)
            except (redis.exceptions.RedisError, OSError) as error:
                failures.append(f"{address[0]}:{address[1]}: {error}")
                continue
            self._addresses = (address, *(each for each in self._addresses if each != address))
            return found
        raise redis.exceptions.ConnectionError(f"no Sentinel names a primary {service} ({'; '.join(failures)})")

    def _ask(self, address: tuple[str, int], service: str) -> tuple[str, int]:
        # Connections are not kept: a fork would inherit them, and one is needed about once in the life of a process.
        client = redis.Redis(host=address[0], port=address[1], **self._options)
        try:
            # As two words, for which no release of the library changes the response.
            words: list[bytes] = client.execute_command("SENTINEL", "MASTER", service)  # type: ignore[no-untyped-call]
        finally:
            client.close()
        known = dict(zip(words[::2], words[1::2], strict=True))
        flags = known[b"flags"].decode().split(",")
        if "s_down" in flags or "o_down" in flags or "master" not in flags:
            raise redis.exceptions.ConnectionError("it is down, and no replica has taken its part")
        return known[b"ip"].decode(), int(known[b"port"])


def connect_through(asked: Sentinels, options: Mapping[str, Any]) -> redis.Redis:
    """A client of the primary, with the library's options. Raises ValueError for a URL that says what is unknown."""
    given = {**options, **parse_url(asked.server)}  # type: ignore[no-untyped-call]
    del given["host"]
    if given.pop("connection_class", None) is not None:
        given["ssl"] = True
    own = {name.removeprefix(_PREFIX): given.pop(name) for name in list(given) if name.startswith(_PREFIX)}
    own |= {name: value for name, value in given.items() if name.startswith("ssl") or name == "retry"}
    own |= {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S, "protocol": 2}
    is_single = given.pop("single_connection_client", False)
    finder = PrimaryFinder(asked.addresses, own)
    pool = SentinelConnectionPool(asked.service, finder, **given)  # type: ignore[no-untyped-call]
    client = redis.Redis(connection_pool=pool, single_connection_client=is_single)
    client.auto_close_connection_pool = True
    return client
