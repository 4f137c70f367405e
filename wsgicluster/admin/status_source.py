"""What the arbiter says of the server, asked for at most once at a time.

Many may ask at once: all wait for the same answer, and none longer than the arbiter is given for it.
"""

import concurrent.futures
import threading
from collections.abc import Callable, Mapping
from typing import Any

from wsgicluster.clock import Clock
from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.control.status import complete
from wsgicluster.system.usage import Usage, usage_of

ANSWER_S = 1.0
"""How long the arbiter may take, which has it in memory."""
FRESH_S = 0.2
"""How old an answer may be that is given again."""
SHARE_S = 10.0
"""How old the proportional memory of a process may be; to read it costs milliseconds."""


class UsageReader:
    """What processes use, with the memory that is dear to read taken from before where that is recent."""

    def __init__(self, clock: Clock, read: Callable[..., Usage] = usage_of) -> None:
        self._clock = clock
        self._read = read
        self._shares: dict[int, tuple[float, int | None]] = {}

    def __call__(self, pid: int) -> Usage:
        """That of a process now."""
        now = self._clock.monotonic()
        read_at, share = self._shares.get(pid, (-SHARE_S, None))
        if now - read_at >= SHARE_S:
            found = self._read(pid)
            self._shares[pid] = now, found.pss_bytes
            return found
        found = self._read(pid, with_share=False)
        return Usage(found.cpu_seconds, found.rss_bytes, share, found.open_fds, found.threads)

    def forget(self, present: set[int]) -> None:
        """Forget all processes but these."""
        for pid in self._shares.keys() - present:
            del self._shares[pid]


class StatusSource:
    """Gives statuses; ``ask`` sends the command ``status`` and raises ControlError."""

    def __init__(self, ask: Callable[[float], Mapping[str, Any]], clock: Clock, usage: UsageReader) -> None:
        self._ask = ask
        self._clock = clock
        self._usage = usage
        self._lock = threading.Lock()
        self._asked: concurrent.futures.Future[dict[str, Any]] | None = None
        self._answered_at = 0.0

    def status(self) -> dict[str, Any]:
        """As ``ctl list --json`` has it, at most `FRESH_S` old. Raises ControlError within a little over `ANSWER_S`."""
        with self._lock:
            asked = self._asked
            is_recent = asked is not None and self._clock.monotonic() - self._answered_at < FRESH_S
            mine = asked is None or (asked.done() and not is_recent)
            if mine or asked is None:
                self._asked = asked = concurrent.futures.Future()
        if mine:
            self._answer(asked)
        try:
            return asked.result(timeout=2 * ANSWER_S)
        except concurrent.futures.TimeoutError:
            raise ControlError(ErrorCode.TIMED_OUT, "the system is too slow to say how the server is") from None

    def _answer(self, asked: "concurrent.futures.Future[dict[str, Any]]") -> None:
        try:
            found = complete(self._ask(ANSWER_S), self._usage)
            pids = (each.get("pid") for each in (found["server"], *found["workers"], *found["others"]))
            self._usage.forget({pid for pid in pids if pid})
        except BaseException as error:  # noqa: BLE001
            # All threads that wait for it get it, this one among them.
            self._answered_at = self._clock.monotonic()
            asked.set_exception(error)
            return
        self._answered_at = self._clock.monotonic()
        asked.set_result(found)
