"""A child of the test's own process, for code that ends the process it runs in."""

import atexit
import gc
import os
import signal
import traceback
import warnings
from collections.abc import Callable

from tests.conftest import wait_until

RETURNED, RAISED = 98, 99
"""The exit codes of a child whose call has returned, or raised, though it was to end the process."""


class Forked:
    """One child, which calls something; ended at the latest when the context ends."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._status: int | None = None
        with warnings.catch_warnings():
            # The child goes on with the thread that has forked it, and with nothing that another one may hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if not self.pid:
            self._run(call)

    @staticmethod
    def _run(call: Callable[[], object]) -> None:
        code = RAISED
        try:
            # What pytest and its plugins do at their end is none of the child's.
            atexit._clear()
            # Neither are its filters: what the suite has imported by now would have gevent's patches warn.
            warnings.simplefilter("default")
            # Nor are its objects: gevent's patches look at all there are, and some that tests leave raise at that.
            gc.freeze()
            call()
            code = RETURNED
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._has_ended():
            self.send(signal.SIGKILL)
            self.code()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def code(self) -> int:
        """Wait for its end: its exit code, or the number of a signal as a negative number."""
        wait_until(self._has_ended, 20, "the child ends")
        assert self._status is not None
        return os.waitstatus_to_exitcode(self._status)

    def _has_ended(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None
