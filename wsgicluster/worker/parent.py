"""The worker's side of its channel to the arbiter."""

from collections.abc import Callable

from wsgicluster.messages import Channel, ChannelClosed, Message


class Parent:
    """Tells the arbiter what it must know, and notices when it is gone."""

    def __init__(self, channel: Channel, gone: Callable[[], object]) -> None:
        self._channel = channel
        self._gone = gone

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._channel.fileno()

    def say(self, message: Message) -> bool:
        """Send one message; False when it could not be sent and should be tried again later."""
        try:
            return self._channel.send(message)
        except ChannelClosed:
            self._gone()
            return True

    def close(self) -> None:
        """Leave the channel, in a process that has no business on it."""
        self._channel.close()

    def on_event(self, _events: int) -> None:
        """Something came from the arbiter: today only the end of the stream."""
        try:
            while self._channel.receive() is not None:
                pass
        except ChannelClosed:
            self._gone()
