"""A kind of worker of one's own: each request runs under a profiler, and slow ones say in the log what took long.

wsgicluster --chdir examples hello -k profiling_worker.ProfilingWorker -e PROFILE_ABOVE_MS=100
"""

import cProfile
import io
import os
import pstats
import time
from collections.abc import Callable, Iterable
from typing import Any

from wsgicluster.worker import SyncWorker

SHOWN = 10


class ProfilingWorker(SyncWorker):
    """A sync worker: with threads, several requests would meet in one profiler."""

    above_s: float

    def begin(self) -> None:
        """Read what the environment says, once."""
        self.above_s = float(os.environ.get("PROFILE_ABOVE_MS", "100")) / 1000
        self.log.info("worker %d: requests above %g s are explained", self.slot, self.above_s)

    def call_application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Call the application, and iterate over its response, under the profiler."""
        profile = cProfile.Profile()
        began = time.perf_counter()
        body = profile.runcall(self.respond, environ, start_response)
        taken_s = time.perf_counter() - began
        if taken_s >= self.above_s:
            self.explain(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}", taken_s, profile)
        return body

    def respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """The whole body: what is given piece by piece is made while it is iterated over."""
        response = self.application(environ, start_response)
        try:
            return list(response)
        finally:
            if hasattr(response, "close"):
                response.close()

    def explain(self, request: str, taken_s: float, profile: cProfile.Profile) -> None:
        """Log the functions in which most time was spent."""
        text = io.StringIO()
        pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(SHOWN)
        self.log.warning("worker %d: %s took %.3f s:\n%s", self.slot, request, taken_s, text.getvalue().strip())
