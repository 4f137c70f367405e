"""The bus between machines, in a Redis server: a list for each machine, the retained values, and replies.

Each call is one command or script, so that it is done or not done; none is tried again by itself, which could do it
twice. Knows bytes and names of machines, and no mailbox.
"""

import secrets
from collections.abc import Callable
from typing import Any, TypeVar

import redis
import redis.exceptions

from wsgicluster.cluster.errors import BusDown, QueueFull, WorkerGone
from wsgicluster.cluster.redis.connection import TIMEOUT_S, connect, leave_server, takes_no_writes
from wsgicluster.dataclass import dataclass
from wsgicluster.system import forks

NODE_S = 10
"""How long a machine is sent messages that does not say that it is there."""
REPLY_S = 30
MOST_WAITING = 10_000
"""Messages for one machine that it has not taken."""

_PREFIX = "wsgicluster:bus:"
_NODES, _VERSION, _RETAINED = f"{_PREFIX}nodes", f"{_PREFIX}version", f"{_PREFIX}retained"

# Versions are microseconds, and one more than the last at least: they keep growing after Redis has lost its data.
_NEXT_VERSION = """
local function next_version()
    local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    local last = tonumber(redis.call('GET', KEYS[2]) or '0')
    if now <= last then now = last + 1 end
    redis.call('SET', KEYS[2], string.format('%.0f', now))
    return now
end
"""
_BROADCAST = (
    _NEXT_VERSION
    + """
local version = '0'
if ARGV[5] == '1' then
    version = string.format('%.0f', next_version())
    redis.call('HSET', KEYS[3], ARGV[4], version .. ' ' .. ARGV[2])
end
local queued = 0
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], redis.call('TIME')[1], '+inf')) do
    local mail = ARGV[1] .. node
    if node ~= ARGV[3] and redis.call('LLEN', mail) < tonumber(ARGV[6]) then
        redis.call('RPUSH', mail, 'broadcast ' .. version .. '\\n' .. ARGV[2])
        queued = queued + 1
    end
end
return {version, queued}
"""
)
_SEND = """
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[2])
if not until_ or tonumber(until_) < tonumber(redis.call('TIME')[1]) then return -1 end
local mail = ARGV[1] .. ARGV[2]
if redis.call('LLEN', mail) >= tonumber(ARGV[4]) then return 0 end
redis.call('RPUSH', mail, ARGV[3])
if ARGV[5] ~= '' then redis.call('SET', ARGV[5], '1', 'PX', ARGV[6]) end
return 1
"""
_REPLY = """
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
"""
_RETAIN_NEWER = """
local found = redis.call('HGET', KEYS[1], ARGV[1])
if found and tonumber(string.match(found, '^%d+')) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return 1
"""
_REGISTER = """
redis.call('ZADD', KEYS[1], redis.call('TIME')[1] + ARGV[2], ARGV[1])
return redis.call('GET', KEYS[2]) or '0'
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mail:
    """What came for this machine: a broadcast, or a message for one of its slots or roles.

    ``version`` is that of a retained broadcast, else 0; ``reply_to`` and ``timeout_s`` are a request's.
    """

    packet: bytes
    target: str = ""
    version: int = 0
    reply_to: str = ""
    timeout_s: float = 0.0


class RedisBus:
    """One process's way to the bus; ``node`` is the name of its machine. Any call may raise BusDown."""

    def __init__(self, url: str, node: str) -> None:
        self.node = node
        self._url = url
        self._redis = self._client()
        self._reader: redis.Redis | None = None
        """For `take` alone: one connection, which a forked process can close although it is in use here."""
        forks.on_fork(self.abandon)

    def _client(self, single: bool = False) -> redis.Redis:
        # A second more than `take` and `wait_reply` have Redis wait.
        return connect(self._url, TIMEOUT_S + 1, protocol=2, single_connection_client=single)

    def abandon(self) -> None:
        """In a process that the application has forked: close its copies of the connections."""
        self._redis.connection_pool.reset()
        self._close_reader()

    def _close_reader(self) -> None:
        if self._reader is not None and self._reader.connection is not None:
            self._reader.connection.disconnect()  # type: ignore[no-untyped-call]

    def broadcast(self, topic: str, packet: bytes, retain: bool) -> tuple[int, int]:
        """Queue for all other machines; the version if it is retained, and for how many machines it was queued."""
        arguments = (f"{_PREFIX}mail:", packet, self.node, topic, int(retain), MOST_WAITING)
        version, queued = self._call(lambda: self._redis.eval(_BROADCAST, 3, _NODES, _VERSION, _RETAINED, *arguments))
        return int(version), int(queued)

    def send(self, node: str, target: str, packet: bytes, timeout_s: float = 0.0) -> str:
        """Queue for a slot or role of a machine; the name of the way back, for a request.

        Raises WorkerGone for a machine that is not there, and QueueFull.
        """
        way = secrets.token_hex(8) if timeout_s else ""
        mail = f"send {target} {way or '-'} {timeout_s}\n".encode() + packet
        waiting = f"{_PREFIX}waiting:{way}" if way else ""
        arguments = (f"{_PREFIX}mail:", node, mail, MOST_WAITING, waiting, max(1, int(timeout_s * 1000)))
        result = self._call(lambda: self._redis.eval(_SEND, 1, _NODES, *arguments))
        if result == -1:
            raise WorkerGone(f"there is no machine {node} on the bus, or it has no handlers")
        if result == 0:
            raise QueueFull(f"{node} has {MOST_WAITING} messages that it has not taken")
        return way

    def wait_reply(self, way: str, timeout_s: float) -> bytes | None:
        """The packet of a reply, or None when there is none in time; one that comes later reaches no one."""
        # The socket's own time limit is longer than what Redis is asked to wait at a time.
        found = self._call(lambda: self._redis.blpop([f"{_PREFIX}reply:{way}"], max(0.01, min(timeout_s, TIMEOUT_S))))
        return found[1] if found else None

    def forget_reply(self, way: str) -> None:
        """No process waits for it any more."""
        self._call(lambda: self._redis.delete(f"{_PREFIX}waiting:{way}"))

    def reply(self, way: str, packet: bytes) -> bool:
        """Send a reply; False when no process waits for it any more."""
        keys = (f"{_PREFIX}waiting:{way}", f"{_PREFIX}reply:{way}")
        return bool(self._call(lambda: self._redis.eval(_REPLY, 2, *keys, packet, REPLY_S)))

    def register(self) -> int:
        """Say that this machine is there; the version of the newest retained value."""
        return int(self._call(lambda: self._redis.eval(_REGISTER, 2, _NODES, _VERSION, self.node, NODE_S)))

    def take(self, wait_s: float) -> Mail | None:
        """What came next for this machine, or None when there is nothing in this time."""
        try:
            found = self._call(lambda: self._reading().blpop([f"{_PREFIX}mail:{self.node}"], wait_s))
        except BusDown:
            # Another server may have taken over by now. The connection is used by this thread alone; to connect it anew
            # would lead to the server that Sentinels have named before.
            self._close_reader()
            self._reader = None
            raise
        return _mail(found[1]) if found else None

    def _reading(self) -> redis.Redis:
        if self._reader is None:
            self._reader = self._client(single=True)
        return self._reader

    def retained(self) -> dict[str, tuple[int, bytes]]:
        """The retained packets by topic, with their versions."""
        found: dict[bytes, bytes] = self._call(lambda: self._redis.hgetall(_RETAINED))
        split = {topic.decode(): value.partition(b" ") for topic, value in found.items()}
        return {topic: (int(version), packet) for topic, (version, _, packet) in split.items()}

    def retain(self, topic: str, version: int, packet: bytes) -> None:
        """Retain a packet that this machine knows, unless there is a newer one: Redis may have lost its data."""
        self._call(lambda: self._redis.eval(_RETAIN_NEWER, 1, _RETAINED, topic, version, packet))

    def _call(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except redis.exceptions.RedisError as error:
            if takes_no_writes(error):
                leave_server(self._redis)
            raise BusDown(f"the bus cannot be used: {error}") from error


def _mail(data: bytes) -> Mail:
    """What `broadcast` or `send` of another machine has queued; raises ValueError for anything else."""
    head, _, packet = data.partition(b"\n")
    kind, *words = head.decode().split(" ")
    if kind == "broadcast" and len(words) == 1:
        return Mail(packet, version=int(words[0]))
    if kind == "send" and len(words) == 3:
        return Mail(packet, words[0], reply_to="" if words[1] == "-" else words[1], timeout_s=float(words[2]))
    raise ValueError("not a message")
