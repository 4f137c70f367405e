"""Samples the stacks of one worker: sends it the signal on which it writes them, and reads what it writes.

The arbiter has no part in it but to keep the file small. The worker runs no code for it but ``faulthandler``'s handler.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

from wsgicluster.control.client import ControlConnection
from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.ctl.profiling.samples import StackSamples

INTERVAL_S = 0.01
PATIENCE_S = 0.25
"""A process that has written nothing for so long is asked again."""
_MOST_READ_BYTES = 8 << 20


class Profiler:
    """One profile of one worker; ``facts`` are the item of the command ``profile``. To be closed by its owner.

    Raises ControlError where the worker's process or its file is out of reach.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.samples = StackSamples()
        self._signal = int(facts["signal"])
        self._position = 0
        self._asked_again_at = 0.0
        self._patience_s = PATIENCE_S
        self._owned = contextlib.ExitStack()
        try:
            # A descriptor of the process: its number may be another process's once it has exited.
            self._process = os.pidfd_open(facts["pid"])
            self._owned.callback(os.close, self._process)
            path = f"/proc/{facts['arbiter']}/fd/{facts['descriptor']}"
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._owned.callback(os.close, self._file)
        except (OSError, AttributeError) as error:
            self._owned.close()
            reason = getattr(error, "strerror", None) or "this system cannot do it"
            message = (
                f"the stacks of pid {facts['pid']} cannot be read: {reason}; profile needs Linux, and to be run by the "
                "server's user or root in the same container"
            )
            raise ControlError(ErrorCode.FAILED, message) from error

    def close(self) -> None:
        """Close the descriptors."""
        self._owned.close()

    def sample(self, now: float) -> bool:
        """Ask for stacks, if the last ones have come; False when the process has exited.

        Signals that a process cannot take now wait for it, one by one: it is asked ever less often.
        """
        if self._read():
            self._asked_again_at, self._patience_s = 0.0, PATIENCE_S
        if now >= self._asked_again_at:
            self._asked_again_at = now + self._patience_s
            self._patience_s *= 2
            try:
                signal.pidfd_send_signal(self._process, self._signal)
            except ProcessLookupError:
                return False
            except PermissionError as error:
                message = "the worker runs as another user: run wsgiclusterctl as root"
                raise ControlError(ErrorCode.FAILED, message) from error
        return True

    def _read(self) -> bool:
        """Take in what was written since; True if there was something, or may have been.

        The file begins anew when the arbiter has emptied it, perhaps of what was not read.
        """
        size = os.fstat(self._file).st_size
        is_new = size < self._position
        if is_new:
            self._position = 0
        data = os.pread(self._file, min(size - self._position, _MOST_READ_BYTES), self._position)
        self._position += len(data)
        self.samples.feed(data.decode("utf-8", "replace"))
        return is_new or bool(data)

    def finish(self) -> None:
        """Take in the rest."""
        self._read()
        self.samples.finish()


def _moments(seconds: float) -> Iterator[float]:
    """So often as a worker is to be looked at in this time; what was missed is not made up for."""
    begin = now = time.monotonic()
    while now < begin + seconds:
        yield now
        after = time.monotonic()
        # Whole intervals from the beginning: the time that a sample takes makes the next one no later.
        due = begin + (int((after - begin) / INTERVAL_S) + 1) * INTERVAL_S
        time.sleep(max(0.0, due - after))
        now = time.monotonic()


def profile(connection: ControlConnection, slot: int, seconds: float) -> tuple[Mapping[str, Any], StackSamples, str]:
    """Profile the worker of a slot for this time: its facts, the samples, and why it ended before its time, or nothing.

    Raises ControlError. An interrupt ends it earlier, with what there is.
    """
    replies = connection.items("profile", {"slot": slot, "seconds": seconds})
    facts = next(replies)
    profiler, ended = Profiler(facts), ""
    with contextlib.closing(profiler):
        try:
            for now in _moments(seconds):
                if connection.is_readable() or not profiler.sample(now):
                    ended = _reason(replies)
                    break
        except KeyboardInterrupt:
            pass  # that is how an operator ends it
        profiler.finish()
    return facts, profiler.samples, ended


def _reason(replies: Iterator[Any]) -> str:
    try:
        next(replies)
    except ControlError as error:
        return str(error)
    except StopIteration:
        pass
    return "the server has ended the profile"
