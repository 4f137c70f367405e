"""Retained packets: the newest one for each topic, in a file without a name that all processes of a server share.

A log. Each record has a version, one more than the last; a reader takes in what is new since it has last looked, and
the highest version of a topic counts. The file's first bytes say where the log begins and ends; they are written last,
in one piece, so that a writer that is killed leaves the log as it was. When half of what lies there is outdated, the
rest is written to the other of two places, and the first bytes say so.

The lock is a record lock of the kernel, which frees it when its holder dies; closing *any* descriptor of the file in
this process would free it too, so there is only one. What a packet means is not known here.
"""

import dataclasses
import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from wsgicluster.dataclass import dataclass
from wsgicluster.system.anonymous_files import read_at, write_at

_HEADER = struct.Struct("=QQQQ")
"""Version of the newest record, times that the log has moved, where it begins and where it ends."""
_RECORD = struct.Struct("=QQHI")
"""Version, version on the bus, bytes of the topic, bytes of the packet."""
BRIDGE_OFFSET = 1 << 40
"""The byte whose lock the process holds that joins this machine to others; nothing is ever written there."""
LIMIT_BYTES = 16 * 1024 * 1024
"""Of the newest records of all topics together."""
MOVE_BYTES = 64 * 1024
"""A log that is shorter than this does not move, however much of it is outdated."""
_PLACES = (4096, 1 << 32)
LOCK_S = 2.0
"""How long a process is waited for that has stopped while it held the lock; it takes well below a millisecond."""
_RETRY_S = 0.0005


class RetainedFull(Exception):
    """There is no room for another packet, or a process that has stopped holds the lock."""


@dataclass(frozen=True, slots=True)
class Retained:
    """The newest packet of a topic; ``outer_version`` is what the bus between machines calls it, 0 without one."""

    version: int
    outer_version: int
    topic: str
    packet: bytes


@dataclass(frozen=True, slots=True)
class _State:
    version: int = 0
    moves: int = 0
    begin: int = _PLACES[0]
    end: int = _PLACES[0]


class RetainedLog:
    """One process's view of the file; ``number`` is its descriptor, which stays its owner's."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._thread_lock = threading.Lock()
        self._moves = 0
        self._read_to = _PLACES[0]
        self._newest: dict[str, Retained] = {}
        self.added = 0
        """The version of the last packet that this process has added."""

    @property
    def version(self) -> int:
        """The version of the newest record, 0 while there is none; costs one system call and no lock."""
        return self._state().version

    def add(self, topic: str, packet: bytes, outer_version: int = 0) -> int:
        """Retain a packet instead of the one before; returns its version. Raises RetainedFull.

        A packet that is not newer on the bus than that one is not retained, and 0 is returned.
        """
        name = topic.encode()
        record_bytes = _RECORD.size + len(name) + len(packet)
        with self._locked():
            state = self._state()
            self._catch_up(state)
            before = self._newest.get(topic)
            if outer_version and before is not None and before.outer_version >= outer_version:
                return 0
            others = sum(_size(each) for each in self._newest.values() if each.topic != topic)
            if others + record_bytes > LIMIT_BYTES:
                raise RetainedFull(f"retained values would take more than {LIMIT_BYTES} bytes")
            # Each process reads the log from its beginning when it starts.
            if state.end + record_bytes - state.begin > max(MOVE_BYTES, 2 * (others + record_bytes)):
                state = self._move(state)
            version = state.version + 1
            write_at(
                self._number, _RECORD.pack(version, outer_version, len(name), len(packet)) + name + packet, state.end
            )
            self._publish(_State(version, state.moves, state.begin, state.end + record_bytes))
            self.added = version
        return version

    def newest(self) -> dict[str, Retained]:
        """The newest packet of each topic. Raises RetainedFull when a process that has stopped holds the lock."""
        with self._locked():
            self._catch_up(self._state())
            return dict(self._newest)

    def hold_bridge(self) -> bool:
        """Whether this process is the one that joins this machine to others; it stays so to its end."""
        try:
            fcntl.lockf(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, BRIDGE_OFFSET)
        except OSError:
            return False
        return True

    def _state(self) -> _State:
        header = os.pread(self._number, _HEADER.size, 0)
        return _State(*_HEADER.unpack(header)) if len(header) == _HEADER.size else _State()

    def _publish(self, state: _State) -> None:
        os.pwrite(self._number, _HEADER.pack(*dataclasses.astuple(state)), 0)

    def _catch_up(self, state: _State) -> None:
        if state.moves != self._moves:
            self._moves, self._read_to = state.moves, state.begin
        content = read_at(self._number, state.end - self._read_to, self._read_to)
        position = 0
        while position < len(content):
            version, outer, topic_bytes, packet_bytes = _RECORD.unpack_from(content, position)
            begin = position + _RECORD.size
            position = begin + topic_bytes + packet_bytes
            topic = content[begin : begin + topic_bytes].decode()
            self._newest[topic] = Retained(version, outer, topic, content[begin + topic_bytes : position])
        self._read_to = state.end

    def _move(self, state: _State) -> _State:
        """Write what counts to the other place, and have the log begin there."""
        begin = next(place for place in _PLACES if place != state.begin)
        end = begin
        for each in sorted(self._newest.values(), key=lambda found: found.version):
            name = each.topic.encode()
            record = _RECORD.pack(each.version, each.outer_version, len(name), len(each.packet)) + name + each.packet
            write_at(self._number, record, end)
            end += len(record)
        moved = _State(state.version, state.moves + 1, begin, end)
        self._publish(moved)
        self._moves, self._read_to = moved.moves, end
        if begin < state.begin:
            os.ftruncate(self._number, end)
        return moved

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._thread_lock:
            give_up_at = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.lockf(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB, _HEADER.size)
                    break
                except OSError as error:
                    if time.monotonic() > give_up_at:
                        raise RetainedFull("another process holds the lock of the retained values") from error
                    # Not F_SETLKW: it would stop all greenlets of a worker.
                    time.sleep(_RETRY_S)
            try:
                yield
            finally:
                fcntl.lockf(self._number, fcntl.LOCK_UN, _HEADER.size)


def _size(each: Retained) -> int:
    return _RECORD.size + len(each.topic.encode()) + len(each.packet)
