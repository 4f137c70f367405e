"""When the arbiter sends its gauges."""

import math

from wsgicluster.arbiter.server_metrics import BACKLOG_PERIOD_S, ServerMetrics


def test_gauges() -> None:
    sent: list[tuple[str, int, str]] = []
    metrics = ServerMetrics(lambda _text, name, value, kind: sent.append((name, value, kind)), lambda: 7)
    metrics.update(0, False, 10.0)
    metrics.update(2, False, 10.1)
    metrics.update(2, False, 10.2)
    assert sent == [("gunicorn.workers", 0, "gauge"), ("gunicorn.workers", 2, "gauge")]
    assert metrics.next_due() == math.inf
    sent.clear()
    for now in (20.0, 20.0 + BACKLOG_PERIOD_S / 2, 20.0 + BACKLOG_PERIOD_S):
        metrics.update(2, True, now)
    assert sent == [("gunicorn.backlog", 7, "histogram")] * 2
    assert metrics.next_due() == 20.0 + 2 * BACKLOG_PERIOD_S
    metrics.update(2, False, 30.0)
    assert metrics.next_due() == math.inf
