"""The access log by way of Python's logging: a record for each request, whose arguments are the atoms.

For an access log that users have configured: their formatters and filters read the atoms by name, as with Gunicorn.
"""

import logging
import time
from typing import Any

from wsgicluster.logs.access_log import Atoms, Headers


class AccessRecords:
    """Collects requests; `flush` has ``access`` handle a record of each, and says in ``error`` what failed."""

    def __init__(self, line_format: str, access: logging.Logger, error: logging.Logger) -> None:
        self._format = line_format
        self._access = access
        self._error = error
        self._waiting: list[Atoms] = []
        self._complained = False

    def record(
        self, environ: dict[str, object], status: str, headers: Headers, sent_bytes: int, duration_s: float, now: float
    ) -> None:
        """Add one request and its response; ``now`` is seconds since the epoch."""
        self._waiting.append(Atoms(environ, status, headers, sent_bytes, duration_s, now))

    def record_refused(self, environ: dict[str, Any], status: str, sent_bytes: int, duration_s: float) -> None:
        """Add a request that was refused before the application ran; ``environ`` may be partial."""
        self._waiting.append(Atoms(environ, status, (), sent_bytes, duration_s, time.time()))

    def flush(self) -> None:
        """Log what has been collected."""
        waiting = self._waiting
        count = len(waiting)
        if not count:
            return
        # A thread may add another one meanwhile: only those that are logged are removed.
        for atoms in waiting[:count]:
            try:
                self._access.info(self._format, atoms)
            except Exception:  # noqa: BLE001
                # A filter or a handler of the user's has raised; the same one would raise for each request.
                if not self._complained:
                    self._complained = True
                    self._error.exception("A request could not be logged, nor may others; this is said once")
        del waiting[:count]
