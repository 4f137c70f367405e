"""The messages between arbiter and workers, and the channel that carries them.

A channel is one ``SOCK_SEQPACKET`` pair for each child, made before the fork: a
packet is one message, a message is one JSON object whose ``"type"`` names its
class. The end of the stream is a message too: the other process has exited.
This module knows neither what an arbiter nor what a worker does.
"""

import bisect
import dataclasses
import errno
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import ServerError
from wsgicluster.system.network import descriptor_passing

PACKET_BYTES = 128 * 1024
"""Largest packet; longer texts are cut by the sender (the kernel's default buffer takes 208 KiB)."""

TEXT_BYTES = 48 * 1024
"""Longest text inside a message, encoded, so that two of them fit; the end is kept, since it names the error."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has booted its application and serves; ``boot_s`` is how long that took.

    ``resident_bytes`` is its resident memory then, 0 if that is not known.
    """

    boot_s: float
    resident_bytes: int = 0


@dataclass(frozen=True, slots=True)
class BootFailed:
    """A worker could not boot: ``exit_code`` as in `wsgicluster.errors`, one line, and the application's traceback."""

    exit_code: int
    summary: str
    trace: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A worker exits because of a fault in the server's own code: the exception in one line, and its traceback."""

    summary: str
    trace: str


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """From a worker on probation, once: the first exception of its application, in one line, and its traceback."""

    summary: str
    trace: str


@dataclass(frozen=True, slots=True)
class RecycleWanted:
    """A worker asks to be replaced; ``reason`` is ``"memory"``, ``"requests"``, ``"hang"`` or
    ``"source"`` (a file changed). ``early`` says that it has been too large since its first requests.
    """

    reason: str
    detail: str
    early: bool = False


@dataclass(frozen=True, slots=True)
class Forked:
    """The child with this ``ticket`` was forked, by a mold or as a mold; ``pid`` as the arbiter sees it."""

    ticket: int
    pid: int


@dataclass(frozen=True, slots=True)
class ListenersEnd:
    """To a worker: its listeners with these numbers end, and the last worker that has one empties its queue."""

    numbers: list[int]


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """To a worker: the resident memory above which it asks to be replaced."""

    limit_bytes: int


@dataclass(frozen=True, slots=True)
class ShareConnections:
    """To a worker: give so many (``count``) of the connections that clients keep to the worker on probation in a slot.

    One that has the same slot leaves to it for a moment what comes by mail. ``slot`` is 0 once there is none any more.
    """

    count: int
    slot: int


@dataclass(frozen=True, slots=True)
class TraceMemory:
    """To a worker: ``action`` is ``"start"`` or ``"stop"`` for tracing its memory, or ``"top"``.

    The answer has the same ``ticket``, and ``top`` lines at most; 0 for none.
    """

    ticket: int
    action: str
    top: int


@dataclass(frozen=True, slots=True)
class MemoryTraced:
    """From a worker: what it was asked with `TraceMemory` is done, or ``refused`` says why not.

    A line is a file, the number of the line, bytes and blocks allocated there, and the growth in bytes since the last
    answer. ``seconds`` is for how long it has traced.
    """

    ticket: int
    refused: str = ""
    seconds: float = 0.0
    traced_bytes: int = 0
    peak_bytes: int = 0
    largest: Sequence[Sequence[Any]] = ()
    grown: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True, slots=True)
class SchedulingChanged:
    """To a worker: there is another scheduling policy on the server's page."""


@dataclass(frozen=True, slots=True)
class MailPosted:
    """From a worker: a connection lies in a slot's mailbox, and the arbiter did not look at those by itself."""


@dataclass(frozen=True, slots=True)
class Online:
    """From a child: it is about to import the application, or to run what it is for."""


@dataclass(frozen=True, slots=True)
class OperationWanted:
    """From the steward: carry out ``operation``: ``scale``, ``reload``, ``restart``, ``drain`` or ``set_scheduling``.

    ``number`` is how many workers are wanted, or a slot; 0 where there is neither. ``settings`` are values as text.
    """

    operation: str
    number: int = 0
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PromotionWanted:
    """To a worker: say whether a mold can be forked from it."""


@dataclass(frozen=True, slots=True)
class PromotionAnswered:
    """From a worker: a mold can be forked from it, or ``refused`` says why not."""

    refused: str = ""


MOST_DESCRIPTORS = 240
"""That go with one message; the kernel passes at most 253 at a time."""


@dataclass(frozen=True, slots=True)
class MailboxesChanged:
    """To a child: mailboxes that were made, and those that are closed, by the names of `wsgicluster.ipc.mailbox`.

    ``descriptors`` travel beside the message: the sending ends of what was made, in the order of ``opened``.
    """

    opened: Sequence[int | str]
    closed: Sequence[int | str]
    descriptors: list[int] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MoldOrdered:
    """To a worker that is about to drain: fork a mold then, with this ``ticket`` and the ``page`` of this number.

    ``descriptors`` travel beside the message: the mold's end of its channel, where it receives orders, and its file for
    stacks. They are closed by a worker that forks no mold, which tells the arbiter.
    """

    ticket: int
    page: int
    descriptors: list[int] = dataclasses.field(default_factory=list)


Message: TypeAlias = (
    Ready
    | BootFailed
    | Broken
    | RequestFailed
    | RecycleWanted
    | Forked
    | ListenersEnd
    | MemoryLimit
    | ShareConnections
    | MailboxesChanged
    | TraceMemory
    | MemoryTraced
    | SchedulingChanged
    | MailPosted
    | Online
    | OperationWanted
    | PromotionWanted
    | PromotionAnswered
    | MoldOrdered
)

_CLASSES: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        Ready,
        BootFailed,
        Broken,
        RequestFailed,
        RecycleWanted,
        Forked,
        ListenersEnd,
        MemoryLimit,
        ShareConnections,
        MailboxesChanged,
        TraceMemory,
        MemoryTraced,
        SchedulingChanged,
        MailPosted,
        Online,
        OperationWanted,
        PromotionWanted,
        PromotionAnswered,
        MoldOrdered,
    )
}
_BESIDE = "descriptors"
"""The field that travels beside the packet."""


def encode(message: Message) -> bytes:
    """The packet of one message."""
    fields: dict[str, Any] = {"type": type(message).__name__}
    for name in message.__slots__:  # those of the class, without the library, which would look at all of it
        if name != _BESIDE:
            value = getattr(message, name)
            fields[name] = _cut(value) if isinstance(value, str) else value
    return json.dumps(fields).encode()


def _cut(text: str) -> str:
    """The longest end of a text of at most `TEXT_BYTES` when encoded: one character may take twelve."""
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
    """The process at the other end of a channel has closed it, or has exited."""


class Channel:
    """One end of the pair between the arbiter and a child; never blocks.

    ``is_childs`` says which: a child takes descriptors from the arbiter, which takes none from anything it supervises.
    """

    def __init__(self, sock: socket.socket, is_childs: bool = False) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._most = MOST_DESCRIPTORS if is_childs else 0

    @classmethod
    def pair(cls) -> "tuple[Channel, Channel]":
        """Two connected ends: the arbiter's and the child's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), cls(theirs, is_childs=True)

    def fileno(self) -> int:
        """The descriptor to wait on; -1 once closed."""
        return self._sock.fileno()

    def send(self, message: Message) -> bool:
        """Send one message; False when the queue of the other end is full.

        Raises ChannelClosed when the other end is closed.
        """
        try:
            if isinstance(message, MailboxesChanged | MoldOrdered) and message.descriptors:
                socket.send_fds(self._sock, [encode(message)], message.descriptors)
            else:
                self._sock.send(encode(message))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:  # children have not read yet what was sent to them
                return False
            raise ChannelClosed(str(error)) from error
        return True

    def receive(self) -> Message | None:
        """The next message, or None when none has arrived.

        Raises ChannelClosed at the end of the stream.
        """
        try:
            packet, descriptors, _ = descriptor_passing.receive_descriptors(self._sock, PACKET_BYTES, self._most)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if not packet:
            raise ChannelClosed("end of stream")
        if not descriptors:
            return decode(packet)
        try:
            message = decode(packet)
            if isinstance(message, MailboxesChanged | MoldOrdered):
                message.descriptors.extend(descriptors)
                descriptors = []
            return message
        finally:
            for number in descriptors:
                os.close(number)

    def close(self) -> None:
        """Close the descriptor; may be repeated."""
        self._sock.close()
