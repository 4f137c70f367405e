"""Connections to a Redis server, and what our URLs say besides the server."""

import urllib.parse
from typing import Any

import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from wsgicluster.cluster.redis.sentinels import connect_through
from wsgicluster.errors import UsageError
from wsgicluster.settings.types.redis_url import sentinels

TIMEOUT_S = 2.0
"""How long a command may take."""

DEFAULT_PREFIX = "wsgicluster"
PREFIX_PARAMETER = "prefix"
"""Parameter of the URL: what our keys begin with, so that servers that share a Redis need not share their state."""


def split_url(url: str) -> tuple[str, str]:
    """The URL as the library takes it, and the prefix of our keys."""
    address, mark, query = url.partition("?")
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    prefix = dict(pairs).get(PREFIX_PARAMETER, DEFAULT_PREFIX)
    rest = urllib.parse.urlencode([pair for pair in pairs if pair[0] != PREFIX_PARAMETER])
    return address + mark + rest, prefix


def connect(url: str, timeout_s: float = TIMEOUT_S, **options: Any) -> redis.Redis:
    """A client whose commands are tried once: what has not been acknowledged may have been done. Raises ValueError.

    ``timeout_s`` is how long a command may take, ``options`` are more of the library's.
    """
    options = {
        **options, "socket_timeout": timeout_s, "socket_connect_timeout": TIMEOUT_S, "retry": Retry(NoBackoff(), 0),
    }  # fmt: skip
    asked = sentinels(url)
    client: redis.Redis = redis.Redis.from_url(url, **options) if asked is None else connect_through(asked, options)
    return client


def takes_no_writes(error: Exception) -> bool:
    """Whether a server responded that does not take writes now: it has become a replica, loads, or lacks its replicas.

    What it is asked for was not done. See "Redis replication" in the documentation of Redis.
    """
    if isinstance(error, redis.exceptions.ReadOnlyError | redis.exceptions.MasterDownError):
        return True
    # Of these the library does not know the first words.
    return str(error).startswith(("LOADING", "NOREPLICAS", "UNBLOCKED"))


def leave_server(client: redis.Redis) -> None:
    """Have the next commands connect anew: its address may lead to another server, which has taken over the writes.

    Connections on which other threads wait stay; those threads find out by themselves.
    """
    client.connection_pool.disconnect(inuse_connections=False)


def check_url(url: str, shown: str) -> None:
    """See whether a Redis server responds there. Raises UsageError; ``shown`` is the URL without its password."""
    try:
        client = connect(split_url(url)[0])
        try:
            client.ping()
        finally:
            client.close()
    except (redis.exceptions.RedisError, OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"store: no Redis server responds at {shown}: {error}; start it, or leave store empty for the built-in one"
        ) from error
