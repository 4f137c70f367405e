"""Metrics for StatsD and DogStatsD under Gunicorn's names: of requests, of records of the error log, and of records
that carry a metric themselves.

Those of requests are collected, and sent in a few datagrams when the access log is written.
"""

import logging
import re
from collections.abc import Mapping

from wsgicluster.dataclass import dataclass
from wsgicluster.logs.access_log import Headers, RequestLog
from wsgicluster.logs.lossy_socket import LossySocket, Target

MOST_BYTES = 1400
"""Of one datagram: what every network takes whole."""

_LETTERS = {"gauge": "g", "counter": "c", "histogram": "h", "timer": "ms"}


@dataclass(frozen=True)
class StatsdOptions:
    """``prefix`` comes before each name, with a dot in between; ``tags`` are those of DogStatsD."""

    target: Target
    prefix: str = ""
    tags: str = ""


class StatsdClient:
    """Metrics of one process, for one server of StatsD."""

    def __init__(self, options: StatsdOptions, sender: LossySocket) -> None:
        self._sender = sender
        self._prefix = re.sub(r"\.+$", "", options.prefix) + "." if options.prefix.strip(".") else ""
        self._tags = f"|#{options.tags}" if options.tags else ""
        self._waiting: list[str] = []

    def line(self, name: str, value: object, kind: str) -> str:
        """One metric as it is sent; ``kind`` is gauge, counter, histogram or timer."""
        rate = "|@1.0" if kind == "counter" else ""
        return f"{self._prefix}{name}:{value}|{_LETTERS[kind]}{rate}{self._tags}"

    def send(self, name: str, value: object, kind: str) -> None:
        """Send one metric at once."""
        self._sender.send(self.line(name, value, kind).encode("utf-8", "replace"))

    def add_request(self, status: str, duration_s: float) -> None:
        """Count a request; `flush` sends it."""
        self._waiting += (
            self.line("gunicorn.request.duration", f"{duration_s * 1000:.3f}", "timer"),
            self.line("gunicorn.requests", 1, "counter"),
            self.line(f"gunicorn.request.status.{status[:3]}", 1, "counter"),
        )

    def flush(self) -> None:
        """Send what has been collected."""
        waiting = self._waiting
        count = len(waiting)
        # A thread may add more meanwhile: only those that are sent are removed.
        for datagram in packed(waiting[:count]):
            self._sender.send(datagram)
        del waiting[:count]


def packed(lines: list[str]) -> list[bytes]:
    """The lines in datagrams of at most `MOST_BYTES`, unless one line alone is longer."""
    found: list[bytes] = []
    for line in lines:
        data = line.encode("utf-8", "replace")
        if found and len(found[-1]) + 1 + len(data) <= MOST_BYTES:
            found[-1] += b"\n" + data
        else:
            found.append(data)
    return found


class MeasuredRequests:
    """Counts each request, and has ``inner`` log it where there is an access log."""

    def __init__(self, statsd: StatsdClient, inner: RequestLog | None) -> None:
        self._statsd = statsd
        self._inner = inner

    def record(
        self, environ: dict[str, object], status: str, headers: Headers, sent_bytes: int, duration_s: float, now: float
    ) -> None:
        """Count and log one request."""
        self._statsd.add_request(status, duration_s)
        if self._inner is not None:
            self._inner.record(environ, status, headers, sent_bytes, duration_s, now)

    def record_refused(self, environ: dict[str, object], status: str, sent_bytes: int, duration_s: float) -> None:
        """Count and log one that was refused."""
        self._statsd.add_request(status, duration_s)
        if self._inner is not None:
            self._inner.record_refused(environ, status, sent_bytes, duration_s)

    def flush(self) -> None:
        """Send and write what has been collected."""
        self._statsd.flush()
        if self._inner is not None:
            self._inner.flush()


class RecordMetrics(logging.Filter):
    """A filter of the error log that counts its records by level, and sends the metrics that records carry."""

    def __init__(self, statsd: StatsdClient) -> None:
        super().__init__()
        self._statsd = statsd

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether there is something to log besides the metric."""
        if record.levelno >= logging.WARNING:
            self._statsd.send(f"gunicorn.log.{_counter_of(record)}", 1, "counter")
        self.send_metric(vars(record))
        return bool(record.msg)

    def send_metric(self, extra: Mapping[str, object]) -> None:
        """Send ``metric``, ``value`` and ``mtype`` if all are there, as in the argument ``extra`` of a record."""
        name, value, kind = extra.get("metric"), extra.get("value"), extra.get("mtype")
        if name and value is not None and kind in _LETTERS:
            self._statsd.send(str(name), value, str(kind))


def _counter_of(record: logging.LogRecord) -> str:
    if record.levelno >= logging.CRITICAL:
        return "critical"
    if record.levelno >= logging.ERROR:
        return "exception" if record.exc_info else "error"
    return "warning"
