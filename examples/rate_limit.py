"""A rate limiter: so many requests for each client in a minute, counted by all workers together.

Start it in the repository with:

wsgicluster --chdir examples rate_limit:application -w 4 -e REQUESTS_A_MINUTE=100

A limiter that counts in each worker's own memory lets through as many times the limit as there are workers. Here
``store.add`` returns the new count, and the time to live begins with a client's first request: a client that never
pauses is let in again when its minute is over.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

from wsgicluster import cluster

WINDOW_S = 60

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class RateLimit:
    """Responds with 429 to clients that have made more than ``limit`` requests within `WINDOW_S` seconds."""

    def __init__(self, application: Application, limit: int) -> None:
        self._application = application
        self._limit = limit

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            count = cluster.store.add(f"rate:{environ['REMOTE_ADDR']}", ttl=WINDOW_S)
        except (cluster.StoreFull, cluster.BusDown):
            count = 0  # no client is refused because of the limiter itself
        if count > self._limit:
            headers = [("Content-Type", "text/plain"), ("Retry-After", str(WINDOW_S))]
            start_response("429 Too Many Requests", headers)
            return [b"Too many requests. Please slow down.\n"]
        return self._application(environ, start_response)


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The application that is protected."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello, world!\n"]


application = RateLimit(hello, int(os.environ.get("REQUESTS_A_MINUTE", "100")))
