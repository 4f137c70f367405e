"""The channel between two servers of which one is to take over from the other, and the messages on it.

One ``SOCK_SEQPACKET`` pair; a packet is one JSON object. The two may be of different
versions, so that fields that one does not know are ignored. The end of the stream
says that the other server has exited.
"""

import dataclasses
import json
import socket

from wsgicluster.dataclass import dataclass

PACKET_BYTES = 64 * 1024
_ERROR_CHARACTERS = 2000


class UpgradeChannelClosed(Exception):
    """The other server has exited."""


@dataclass(frozen=True, slots=True)
class UpgradeMessage:
    """One message; a field that is None says nothing."""

    serving: bool | None = None
    """Workers take connections, those that are handed over included."""
    kept: tuple[int, ...] | None = None
    """Of the listeners that were passed on, the sender has those with these numbers, and no others."""
    hand_off: bool | None = None
    """The new server uses the hand-off socket of the old one."""
    main: bool | None = None
    """The service manager has been notified that the receiver is the main process from now on."""
    leaving: bool | None = None
    """The new server is to stop, and does as soon as workers of the old one take its connections."""
    error: str | None = None
    """Why the new server cannot start."""


def encode(message: UpgradeMessage) -> bytes:
    """The packet of a message."""
    fields = {name: value for name, value in dataclasses.asdict(message).items() if value is not None}
    if message.error is not None:
        fields["error"] = message.error[:_ERROR_CHARACTERS]
    return json.dumps(fields).encode()


def decode(packet: bytes) -> UpgradeMessage:
    """The message in a packet; raises ValueError for anything else."""
    fields = json.loads(packet)
    if not isinstance(fields, dict):
        raise ValueError(f"not a message: {packet[:80]!r}")
    kept, error = fields.get("kept"), fields.get("error")
    if kept is not None and not (isinstance(kept, list) and all(isinstance(each, int) for each in kept)):
        raise ValueError(f"not a message: {packet[:80]!r}")
    return UpgradeMessage(
        serving=_switch(fields.get("serving")),
        kept=None if kept is None else tuple(kept),
        hand_off=_switch(fields.get("hand_off")),
        main=_switch(fields.get("main")),
        leaving=_switch(fields.get("leaving")),
        error=None if error is None else str(error),
    )


def _switch(value: object) -> bool | None:
    return None if value is None else value is True


class UpgradeChannel:
    """One end; never blocks. It is not closed while its process lives: its end is what the other one waits for."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.set_inheritable(False)
        self._sock = sock

    @classmethod
    def pair(cls) -> "tuple[UpgradeChannel, UpgradeChannel]":
        """Two connected ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    @classmethod
    def inherited(cls, descriptor: int) -> "UpgradeChannel":
        """The end that was passed under this number; raises OSError where there is no socket."""
        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        """The descriptor to wait on; -1 once closed."""
        return self._sock.fileno()

    def send(self, message: UpgradeMessage) -> bool:
        """Send a message; False when the other server has exited, or reads too slowly to receive it now."""
        try:
            self._sock.send(encode(message))
        except OSError:
            return False
        return True

    def receive(self) -> UpgradeMessage | None:
        """The next message, None when there is none now.

        Raises UpgradeChannelClosed at the end of the stream and ValueError for an invalid message.
        """
        try:
            packet = self._sock.recv(PACKET_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise UpgradeChannelClosed from error
        if not packet:
            raise UpgradeChannelClosed
        return decode(packet)

    def close(self) -> None:
        """Close the descriptor; harmless when repeated."""
        self._sock.close()
