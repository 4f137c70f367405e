"""Whose forwarded headers are believed."""

import pytest

from wsgicluster.errors import ProtocolError
from wsgicluster.wsgi.trust import Trust

HEADERS = {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}


@pytest.mark.parametrize(
    ("allowed", "address", "trusted"),
    [
        (["127.0.0.1", "::1"], "127.0.0.1", True),
        (["127.0.0.1", "::1"], "::1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", False),
        (["10.0.0.0/8"], "::ffff", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["*"], "203.0.113.9", True),
        ([], "127.0.0.1", False),
        ([], "", True),
    ],
)
def test_trusts(allowed: list[str], address: str, trusted: bool) -> None:
    assert Trust(allowed, HEADERS).trusts(address) is trusted


@pytest.mark.parametrize(
    ("sent", "scheme"),
    [
        ({}, "http"),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, "https"),
        ({"HTTP_X_FORWARDED_PROTO": "http"}, "http"),
        ({"HTTP_X_FORWARDED_PROTO": "HTTPS2"}, "http"),
        ({"HTTP_X_FORWARDED_SSL": "on", "HTTP_X_FORWARDED_PROTOCOL": "ssl"}, "https"),
    ],
)
def test_scheme(sent: dict[str, str], scheme: str) -> None:
    environ = {"wsgi.url_scheme": "http", **sent}
    Trust(["*"], HEADERS).set_scheme(environ)
    assert environ["wsgi.url_scheme"] == scheme


def test_contradicting_headers_are_refused() -> None:
    with pytest.raises(ProtocolError) as caught:
        Trust(["*"], HEADERS).set_scheme({"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_SSL": "off"})
    assert caught.value.status == 400
