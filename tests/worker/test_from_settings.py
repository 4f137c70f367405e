"""What the settings become for the layers below."""

from wsgicluster.http.connection import RequestReader
from wsgicluster.http.limits import Underscores
from wsgicluster.http.uwsgi import UwsgiReader
from wsgicluster.settings import Settings
from wsgicluster.worker.from_settings import head_limits, reader_class


def test_header_map() -> None:
    assert [each.underscores for each in head_limits(Settings())] == [Underscores.DROP] * 2
    limits = head_limits(Settings(header_map="dangerous", forwarder_headers=("X_A", "X-B", "*")))
    assert [each.underscores for each in limits] == [Underscores.DANGEROUS] * 2
    assert [each.forwarder_names for each in limits] == [frozenset(), {"X_A", "*"}], "for those who are trusted alone"


def test_protocol() -> None:
    assert reader_class(Settings()) is RequestReader
    assert reader_class(Settings(protocol="uwsgi")) is UwsgiReader
