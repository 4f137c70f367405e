"""Which requests the access log has: paths that are skipped, and a sample of what went well."""

import fnmatch
import random
import re
from collections.abc import Callable, Sequence

from wsgicluster.logs.access_log import Headers, RequestLog

_FIRST_ERROR = "4"


def is_skipped(patterns: Sequence[str]) -> Callable[[str], object]:
    """A function that tells whether a path matches one of the patterns, in which ``*`` stands for any text."""
    return re.compile("|".join(fnmatch.translate(pattern.replace("[", "[[]")) for pattern in patterns)).match


class SelectedRequests:
    """Passes on to ``inner`` what is to be logged: errors always, except those of skipped paths.

    ``draw`` returns a number from 0 to 1; a request is logged where that is below ``portion``.
    """

    def __init__(
        self,
        inner: RequestLog,
        skipped: Sequence[str],
        portion: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._is_skipped = is_skipped(skipped) if skipped else None
        self._portion = portion
        self._draw = draw

    def record(
        self, environ: dict[str, object], status: str, headers: Headers, sent_bytes: int, duration_s: float, now: float
    ) -> None:
        """Log one request, unless it is skipped."""
        if status < _FIRST_ERROR and self._portion < 1.0 and self._draw() >= self._portion:
            return
        if self._is_skipped is not None and self._is_skipped(str(environ.get("PATH_INFO", ""))):
            return
        self._inner.record(environ, status, headers, sent_bytes, duration_s, now)

    def record_refused(self, environ: dict[str, object], status: str, sent_bytes: int, duration_s: float) -> None:
        """Log one that was refused: an error, whatever its path would have been."""
        self._inner.record_refused(environ, status, sent_bytes, duration_s)

    def flush(self) -> None:
        """Write what has been collected."""
        self._inner.flush()
