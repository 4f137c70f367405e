"""The first exception of a worker's application, for the arbiter: it says why a reload was called off."""

import contextlib
import traceback
from collections.abc import Callable

from wsgicluster.ipc.messages import ChannelClosed, Message, RequestFailed


class FirstFailure:
    """Sends one message and then nothing more; ``send`` never blocks and may be called in any thread.

    Two requests that fail at the same moment in two threads may both be sent, of which the arbiter keeps the first.
    """

    def __init__(self, send: Callable[[Message], object]) -> None:
        self._send: Callable[[Message], object] | None = send

    def note(self, line: bytes, error: BaseException) -> None:
        """The application has raised this in the request with this line."""
        send, self._send = self._send, None
        if send is None:
            return
        exception = traceback.format_exception_only(error)[-1].strip()
        summary = f"{line[:512].decode('latin-1')}: {exception}"
        # The worker finds out by itself that the arbiter has exited.
        with contextlib.suppress(ChannelClosed):
            send(RequestFailed(summary, "".join(traceback.format_exception(error))))
