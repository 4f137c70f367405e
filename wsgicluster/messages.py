"""What arbiter and workers say to each other, and the channel they say it on.

A channel is one ``SOCK_SEQPACKET`` pair for each child, made before the fork: a
packet is one message, a message is one JSON object whose ``"type"`` names its
class. The end of the stream is a message too: the other process is gone.
This module knows neither what an arbiter nor what a worker does.
"""

import bisect
import dataclasses
import json
import socket
from typing import Any, TypeAlias

from wsgicluster.errors import ServerError

PACKET_BYTES = 128 * 1024
"""Largest packet; longer texts are cut by who sends them (the kernel's default buffer takes 208 KiB)."""

TEXT_BYTES = 48 * 1024
"""Longest text inside a message, as it is encoded, so that two of them fit; the end is kept, which names the error."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """A worker has booted its application and listens; ``boot_s`` is how long that took."""

    boot_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class BootFailed:
    """A worker could not boot: ``exit_code`` as in `wsgicluster.errors`, one line, and the application's traceback."""

    exit_code: int
    summary: str
    trace: str


@dataclasses.dataclass(frozen=True, slots=True)
class Broken:
    """A worker ends because of a fault of the server's own code: the exception in one line, and its traceback."""

    summary: str
    trace: str


@dataclasses.dataclass(frozen=True, slots=True)
class RecycleWanted:
    """A worker asks to be replaced; ``reason`` is ``"memory"``, ``"requests"``, ``"hang"`` or
    ``"source"`` (a file changed).
    """

    reason: str
    detail: str


@dataclasses.dataclass(frozen=True, slots=True)
class Forked:
    """A mold has forked the worker with this ``ticket``; ``pid`` as the arbiter sees it."""

    ticket: int
    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class ListenersEnd:
    """To a worker: of its listeners those with these numbers are nobody's any more once its like have left."""

    numbers: list[int]


Message: TypeAlias = Ready | BootFailed | Broken | RecycleWanted | Forked | ListenersEnd

_CLASSES: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Ready, BootFailed, Broken, RecycleWanted, Forked, ListenersEnd)
}


def encode(message: Message) -> bytes:
    """The packet of one message."""
    fields: dict[str, Any] = {"type": type(message).__name__}
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        fields[field.name] = _cut(value) if isinstance(value, str) else value
    return json.dumps(fields).encode()


def _cut(text: str) -> str:
    """The longest end of a text that takes no more than `TEXT_BYTES`: one character may take twelve."""
    text = text[-TEXT_BYTES:]
    start = bisect.bisect_left(
        range(len(text)), True, key=lambda first: len(json.dumps(text[first:])) <= TEXT_BYTES
    )  # fmt: skip
    return text[start:]


def decode(packet: bytes) -> Message:
    """The message in one packet; raises ValueError for anything else."""
    fields = json.loads(packet)
    if not isinstance(fields, dict) or fields.get("type") not in _CLASSES:
        raise ValueError(f"not a message: {packet[:80]!r}")
    kind = _CLASSES[fields.pop("type")]
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"not a {kind.__name__}: {error}") from error


class ChannelClosed(ServerError):
    """The process at the other end of a channel is gone."""


class Channel:
    """One end of the pair between the arbiter and a child; never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    @classmethod
    def pair(cls) -> "tuple[Channel, Channel]":
        """Two connected ends: the arbiter's and the child's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        """The descriptor to wait on; -1 once closed."""
        return self._sock.fileno()

    def send(self, message: Message) -> bool:
        """Send one message; False when the other end reads too slowly to take it now.

        Raises ChannelClosed when there is no other end any more.
        """
        try:
            self._sock.send(encode(message))
        except BlockingIOError:
            return False
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        return True

    def receive(self) -> Message | None:
        """The next message, or None when there is none now.

        Raises ChannelClosed at the end of the stream.
        """
        try:
            packet = self._sock.recv(PACKET_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if not packet:
            raise ChannelClosed("end of stream")
        return decode(packet)

    def close(self) -> None:
        """Give the descriptor back; harmless when repeated."""
        self._sock.close()
