"""The metrics as text, by prometheus_client: in its own format, or as OpenMetrics where the client takes that."""

import gzip
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from wsgicluster.admin.app_metrics import AppMetrics
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
    """The metrics of one status, and of the application behind them."""

    def __init__(self, status: Status, own: dict[str, float], applications: Sequence[Metric] = ()) -> None:
        self._status = status
        self._own = own
        self._applications = applications

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
        yield from self._applications


def expose(
    status: Status, own: dict[str, float], accept: str, encoding: str, app: AppMetrics | None = None
) -> tuple[str, bytes, bool]:
    """Content type, body, and whether that is compressed, for the fields Accept and Accept-Encoding of a client."""
    encode, content_type = choose_encoder(accept)
    families = app.families() if app is not None else []
    try:
        body = encode(_registry(StatusCollector(status, own, families)))
    except Exception as error:
        if app is None or not families:
            raise
        # What an application has named or counted may be more than one of the formats can say.
        app.tell(f"the application's metrics are not shown as {content_type.partition(';')[0]}: {error!r}")
        body = encode(_registry(StatusCollector(status, own)))
    if not takes_gzip(encoding):
        return content_type, body, False
    return content_type, gzip.compress(body, GZIP_LEVEL), True


def _registry(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def takes_gzip(encoding: str) -> bool:
    """Whether a field Accept-Encoding allows it (RFC 9110, section 12.5.3)."""
    for part in encoding.lower().split(","):
        name, _, parameters = part.strip().partition(";")
        if name.strip() == "gzip":
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
