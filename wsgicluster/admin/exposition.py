"""The metrics as text, by prometheus_client: in its own format, or as OpenMetrics where the client takes that."""

import gzip
from collections.abc import Iterator
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from wsgicluster.admin.metrics import METRICS, OWN_METRICS, PREFIX, MetricKind, Status

_Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily
GZIP_LEVEL = 1
"""Lines of metrics are so alike that more effort saves little."""


def _family(kind: MetricKind, name: str, text: str, labels: tuple[str, ...] = ()) -> _Family:
    if kind is MetricKind.COUNTER:
        return CounterMetricFamily(name.removesuffix("_total"), text, labels=labels)
    return GaugeMetricFamily(name, text, labels=labels)


class StatusCollector(Collector):
    """The metrics of one status."""

    def __init__(self, status: Status, own: dict[str, float]) -> None:
        self._status = status
        self._own = own

    def collect(self) -> Iterator[Metric]:
        """All families, those without a sample included."""
        for row in METRICS:
            family = _family(row.kind, row.full_name, row.help, row.labels)
            for labels, value in row.read(self._status):
                family.add_metric(labels, value)
            yield family
        for name, kind, text in OWN_METRICS:
            family = _family(kind, PREFIX + name, text)
            family.add_metric((), self._own[name])
            yield family


def expose(status: Status, own: dict[str, float], accept: str, encoding: str) -> tuple[str, bytes, bool]:
    """Content type, body, and whether that is compressed, for the fields Accept and Accept-Encoding of a client."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status, own))
    encode, content_type = choose_encoder(accept)
    body = encode(registry)
    if not takes_gzip(encoding):
        return content_type, body, False
    return content_type, gzip.compress(body, GZIP_LEVEL), True


def takes_gzip(encoding: str) -> bool:
    """Whether a field Accept-Encoding allows it (RFC 9110, section 12.5.3)."""
    for part in encoding.lower().split(","):
        name, _, parameters = part.strip().partition(";")
        if name.strip() == "gzip":
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
