"""The metrics as text, by prometheus_client: in its own format, or as OpenMetrics where the client takes that."""

import gzip
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from wsgicluster.admin.metrics import METRICS, OWN_METRICS, PREFIX, Distribution, MetricKind, Status

_Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
GZIP_LEVEL = 1
"""Lines of metrics are so alike that more effort saves little."""


def _family(kind: MetricKind, name: str, text: str, labels: tuple[str, ...] = ()) -> _Family:
    if kind is MetricKind.COUNTER:
        return CounterMetricFamily(name.removesuffix("_total"), text, labels=labels)
    if kind is MetricKind.HISTOGRAM:
        return HistogramMetricFamily(name, text, labels=labels)
    return GaugeMetricFamily(name, text, labels=labels)


def _add(family: _Family, labels: Sequence[str], value: float | Distribution) -> None:
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(value, Distribution), "what a row of this kind gives"
        buckets = [
            (floatToGoString(bound), float(count))  # type: ignore[no-untyped-call]
            for bound, count in value.cumulative()
        ]
        family.add_metric(labels, buckets, value.sum)
        return
    assert not isinstance(value, Distribution), "what a row of this kind gives"
    family.add_metric(labels, value)


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
                _add(family, labels, value)
            yield family
        for name, kind, text in OWN_METRICS:
            family = _family(kind, PREFIX + name, text)
            _add(family, (), self._own[name])
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
