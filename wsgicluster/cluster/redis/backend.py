"""The shared state of several machines, in a Redis server: the same calls, each of them one command or script.

A call that waits for Redis for too long raises `BusDown`, and never returns a number that was counted here instead.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis.exceptions

from wsgicluster.cluster.errors import BusDown, ClusterError, StoreFull
from wsgicluster.cluster.redis.connection import connect, leave_server, split_url, takes_no_writes
from wsgicluster.cluster.redis.leases import LEASE_S, Lease, Leases
from wsgicluster.cluster.values.stored_values import Stored, same
from wsgicluster.cluster.waiting import poll

_LOCK_POLL_S = 0.02
_TEXT, _BYTES = b"j", b"b"
"""What a value begins with that is not a number, which Redis itself has to be able to add to."""

T = TypeVar("T")

_ADD = """
local new = redis.call('EXISTS', KEYS[1]) == 0
local value = redis.call('INCRBY', KEYS[1], ARGV[1])
if new and ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return value
"""
_SWAP = """
local found = redis.call('GET', KEYS[1])
if ARGV[1] == '' then
    if found then return 0 end
elseif found ~= string.sub(ARGV[1], 2) then return 0 end
if ARGV[3] ~= '' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1
"""
# The mark outlives the lease: one that the next holder finds was left by one that did not release. The fencing number
# is the time in microseconds, or one more than the last: it need not be kept to be higher than all before.
_TAKE = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
local left = redis.call('EXISTS', KEYS[2])
redis.call('SET', KEYS[2], '1', 'EX', 86400)
local time = redis.call('TIME')
local number = math.max(tonumber(redis.call('GET', KEYS[3]) or '0') + 1, time[1] * 1000000 + time[2])
redis.call('SET', KEYS[3], string.format('%d', number), 'EX', 86400)
return {number, left}
"""
_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
"""


class RedisBackend:
    """One process's connections, made by the library when they are needed."""

    def __init__(self, url: str, scope: str) -> None:
        self.scope = scope
        plain, self._prefix = split_url(url)
        self._redis: Any = connect(plain)
        self._leases = Leases(self._call)
        self._add, self._swap, self._take, self._release = (
            self._redis.register_script(text) for text in (_ADD, _SWAP, _TAKE, _RELEASE)
        )
        self._renew = self._redis.register_script(_RENEW)

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}:{kind}:{name}"

    def _call(self, command: Callable[[], T]) -> T:
        try:
            return command()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
            raise BusDown(f"Redis does not respond: {error}") from error
        except redis.exceptions.OutOfMemoryError as error:
            raise StoreFull("Redis has no room for this: remove something, or raise its maxmemory") from error
        except redis.exceptions.RedisError as error:
            if takes_no_writes(error):
                leave_server(self._redis)
                raise BusDown(f"Redis takes no writes: {error}") from error
            raise _meaning(error) from error

    def clock(self) -> float:
        """The time of the Redis server, in seconds since the epoch."""
        seconds, microseconds = self._call(self._redis.time)
        return float(seconds + microseconds / 1e6)

    # Counters

    def counter_cell(self, name: str) -> None:
        """There is none: each addition is a command."""

    def add_to_counter(self, name: str, n: int) -> None:
        """As `CounterBackend`'s."""
        self._call(lambda: self._redis.incrby(self._key("counter", name), n))

    def counter_value(self, name: str) -> int:
        """As `CounterBackend`'s."""
        return int(self._call(lambda: self._redis.get(self._key("counter", name))) or 0)

    # The store

    def get(self, key: str) -> Stored | None:
        """As `StoreBackend`'s."""
        return _unpacked(self._call(lambda: self._redis.get(self._key("store", key))))

    def set(self, key: str, value: Stored, ttl_s: float | None) -> None:
        """As `StoreBackend`'s."""
        self._call(lambda: self._redis.set(self._key("store", key), _packed(value), px=_milliseconds(ttl_s) or None))

    def pop(self, key: str) -> Stored | None:
        """As `StoreBackend`'s."""
        return _unpacked(self._call(lambda: self._redis.getdel(self._key("store", key))))

    def add(self, key: str, n: int, ttl_s: float | None) -> int:
        """As `StoreBackend`'s."""
        return int(self._call(lambda: self._add([self._key("store", key)], [n, _milliseconds(ttl_s) or ""])))

    def compare_and_set(self, key: str, old: Stored | None, new: Stored, ttl_s: float | None) -> bool:
        """As `StoreBackend`'s."""
        name = self._key("store", key)
        while True:
            found = self._call(lambda: self._redis.get(name))
            value = _unpacked(found)
            fits = value is None if old is None else value is not None and same(value, old)
            if not fits:
                return False
            # Compared here as JSON, there as bytes: that is what it still has to be.
            expected = b"" if found is None else b"=" + found
            arguments = [expected, _packed(new), _milliseconds(ttl_s) or ""]
            if self._call(lambda arguments=arguments: self._swap([name], arguments)):  # type: ignore[misc]
                return True

    # Locks

    def take_lock(self, name: str, deadline: float | None) -> Lease | None:
        """As `LockBackend`'s."""
        keys = [self._key("lock", name), self._key("held", name), self._key("token", name)]
        secret = secrets.token_hex(16)
        taken: list[Lease] = []

        def attempt() -> bool:
            asked_at = time.monotonic()
            found = self._call(lambda: self._take(keys, [secret, round(LEASE_S * 1000)]))
            if found:
                lease = Lease(
                    name,
                    asked_at + LEASE_S,
                    (int(found[0]), bool(found[1])),
                    lambda: bool(self._call(lambda: self._renew(keys[:1], [secret, round(LEASE_S * 1000)]))),
                    lambda: self._end(lease, keys, secret),
                )
                taken.append(lease)
            return bool(found)

        if not poll(attempt, deadline, _LOCK_POLL_S):
            return None
        self._leases.renew(taken[0])
        return taken[0]

    def _end(self, lease: Lease, keys: list[str], secret: str) -> bool:
        self._leases.forget(lease)
        return bool(self._call(lambda: self._release(keys[:2], [secret])))

    def is_locked(self, name: str) -> bool:
        """As `LockBackend`'s."""
        return bool(self._call(lambda: self._redis.exists(self._key("lock", name))))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def abandon(self) -> None:
        """The library does not use connections in a process that was forked from the one that made them."""


def _packed(value: Stored) -> bytes | int:
    if isinstance(value, int):
        return value
    return _TEXT + value.encode() if isinstance(value, str) else _BYTES + value


def _unpacked(found: bytes | None) -> Stored | None:
    if found is None:
        return None
    if found[:1] == _TEXT:
        return found[1:].decode()
    return found[1:] if found[:1] == _BYTES else int(found)


def _milliseconds(ttl_s: float | None) -> int:
    """0 for none; Redis takes no shorter time than one."""
    return 0 if ttl_s is None else max(1, round(ttl_s * 1000))


def _meaning(error: Exception) -> Exception:
    text = str(error)
    if "not an integer" in text:
        return TypeError(f"not a whole number of 64 bits: nothing can be added to it ({text})")
    if "overflow" in text:
        return OverflowError(text)
    if "OOM" in text:
        return StoreFull("Redis has no room for this: remove something, or raise its maxmemory")
    return ClusterError(f"Redis: {text}")
