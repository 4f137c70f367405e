"""Where the memory of a running worker was allocated: traced on request, and nothing is paid for it before.

Knows neither the channel that a request comes on nor who has made it.
"""

import time
from typing import TYPE_CHECKING

from wsgicluster.ipc.messages import MemoryTraced, TraceMemory

if TYPE_CHECKING:
    import tracemalloc

_SHOWN_CHARACTERS = 96


class MemoryTrace:
    """What one worker traces, and what it had found when it was asked last."""

    def __init__(self) -> None:
        self._began: float | None = None
        """On the monotonic clock; None while nothing is traced on our request."""
        self._sizes: dict[tuple[str, int], int] = {}

    def answer(self, wanted: TraceMemory) -> MemoryTraced:
        """Do what is wanted, and say what was found."""
        # Late: only a process that traces spends memory on it.
        import tracemalloc

        if wanted.action == "start":
            if tracemalloc.is_tracing() and self._began is None:
                return MemoryTraced(wanted.ticket, refused="the application traces its memory itself")
            if self._began is None:
                tracemalloc.start()
                self._began, self._sizes = time.monotonic(), {}
            return MemoryTraced(wanted.ticket)
        if self._began is None or not tracemalloc.is_tracing():
            self._began = None
            return MemoryTraced(wanted.ticket, refused="it does not trace its memory; begin with --start")
        found = self._look(wanted, tracemalloc.take_snapshot()) if wanted.top else MemoryTraced(wanted.ticket)
        if wanted.action == "stop":
            tracemalloc.stop()
            self._began, self._sizes = None, {}
        return found

    def _look(self, wanted: TraceMemory, snapshot: "tracemalloc.Snapshot") -> MemoryTraced:
        import tracemalloc

        assert self._began is not None, "it is traced"
        traced, peak = tracemalloc.get_traced_memory()
        found: dict[tuple[str, int], tuple[int, int]] = {}
        for each in snapshot.statistics("lineno"):
            frame = each.traceback[0]
            if frame.filename != tracemalloc.__file__:
                found[frame.filename, frame.lineno] = each.size, each.count
        lines = [
            (file[-_SHOWN_CHARACTERS:], number, size, count, size - self._sizes.get((file, number), 0))
            for (file, number), (size, count) in found.items()
        ]
        self._sizes = {place: size for place, (size, _) in found.items()}
        grown = sorted((line for line in lines if line[4] > 0), key=lambda line: -line[4])
        return MemoryTraced(
            wanted.ticket,
            traced_bytes=traced,
            peak_bytes=peak,
            seconds=time.monotonic() - self._began,
            largest=sorted(lines, key=lambda line: -line[2])[: wanted.top],
            grown=grown[: wanted.top],
        )
