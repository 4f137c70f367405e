"""The worker's side of its channel to the arbiter."""

from collections.abc import Callable

from wsgicluster.messages import Channel, ChannelClosed, Message


class Parent:
    """Tells the arbiter what it must know, and notices when it is gone."""

    def __init__(self, channel: Channel, gone: Callable[[], object], heard: Callable[[Message], object]) -> None:
        self._channel = channel
        self._gone = gone
        self._heard = heard

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
        """Something came from the arbiter: words, or the end of the stream."""
        self.listen()

    def listen(self) -> None:
        """Take in all that the arbiter has said so far."""
        try:
            while (message := self._channel.receive()) is not None:
                self._heard(message)
        except ChannelClosed:
            self._gone()
