"""What a message looks like under way: a head, then the value, or the descriptor of a file with the value beside it.

Bytes in, values out; nothing here sends or receives. A change of the format is one more in `FORMAT`: what is retained
outlives an upgrade, and two machines on a bus may have different versions.
"""

import enum
import struct
from typing import TypeAlias

from wsgicluster.cluster.values.payload import IS_BYTES, IS_JSON
from wsgicluster.dataclass import dataclass

FORMAT = 1
INLINE_BYTES = 64 * 1024
"""Larger values travel in a file of their own: a packet has to fit a socket's buffer, 208 KiB as a rule."""
PACKET_BYTES = INLINE_BYTES + 64 * 1024 + 1024
TOPIC_BYTES = 512

_HEAD = struct.Struct("=BBBBQQHH")

Address: TypeAlias = int | str
"""Who has sent a message: a slot, ``"steward"``, ``"jobs"``; on a bus the node's name and a slash in front."""


class Kind(enum.IntEnum):
    """What a packet is."""

    SEND = 0
    BROADCAST = 1
    REQUEST = 2
    REPLY = 3
    FAILED = 4
    """A reply: the handler raised; the value is a text that says what."""
    NO_HANDLER = 5
    """A reply: there is no handler."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One message. ``in_file`` says that the value is in a file, then ``content`` is empty.

    ``correlation`` is a request's number, its reply has the same. ``version`` is that of a ``retained`` value, and of
    any other message that of the newest value which its sender has retained before: the reader takes that in first.
    """

    kind: int
    form: int
    content: bytes
    topic: str = ""
    sender: Address = 0
    correlation: int = 0
    version: int = 0
    in_file: bool = False
    retained: bool = False


_IN_FILE, _RETAINED = 1, 2


def encode_packet(packet: Packet) -> bytes:
    """The bytes of a packet; raises ValueError for a topic that is too long."""
    topic, sender = packet.topic.encode(), str(packet.sender).encode()
    if len(topic) > TOPIC_BYTES:
        raise ValueError(f"the topic takes {len(topic)} bytes, at most {TOPIC_BYTES} are allowed")
    flags = packet.in_file * _IN_FILE | packet.retained * _RETAINED
    head = _HEAD.pack(
        FORMAT, packet.kind, packet.form, flags, packet.correlation, packet.version, len(topic), len(sender)
    )
    return b"".join((head, topic, sender, packet.content))


def decode_packet(data: bytes) -> Packet:
    """What `encode_packet` was given; raises ValueError for anything else."""
    try:
        form_at, kind, form, flags, correlation, version, topic_bytes, sender_bytes = _HEAD.unpack_from(data)
    except struct.error as error:
        raise ValueError("too short for a message") from error
    topic_end = _HEAD.size + topic_bytes
    end = topic_end + sender_bytes
    if form_at != FORMAT or kind > Kind.NO_HANDLER or form not in (IS_BYTES, IS_JSON) or end > len(data):
        raise ValueError("not a message")
    topic, sender = data[_HEAD.size : topic_end].decode(), data[topic_end:end].decode()
    address: Address = int(sender) if sender.isdecimal() else sender
    in_file, retained = bool(flags & _IN_FILE), bool(flags & _RETAINED)
    return Packet(kind, form, data[end:], topic, address, correlation, version, in_file, retained)
