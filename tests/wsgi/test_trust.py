"""Whose forwarded fields are trusted."""

import time

import pytest

from wsgicluster.errors import ProtocolError
from wsgicluster.wsgi.trust import ALL_TRUSTED, Forwarding, Trust

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


FOR = ("x-forwarded-for",)
BOTH = ("x-forwarded-for", "forwarded")
PLACE = ("x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix")


def forwarded(hops: int, fields: tuple[str, ...], **sent: str) -> dict[str, str]:
    """What becomes of an environ with these fields, from a proxy with 10.0.0.1."""
    environ = {"wsgi.url_scheme": "http", "REMOTE_ADDR": "10.0.0.1", "REMOTE_PORT": "1", "HTTP_HOST": "inside:8000"}
    environ.update({f"HTTP_{name}": value for name, value in sent.items()})
    Trust(["10.0.0.0/8"], HEADERS, Forwarding(hops, fields)).set_scheme(environ)
    return environ


@pytest.mark.parametrize(
    ("hops", "sent", "address", "port"),
    [
        (0, "192.0.2.1", "10.0.0.1", "1"),
        (1, "192.0.2.1", "192.0.2.1", ""),
        (1, "198.51.100.1, 192.0.2.1:4711", "192.0.2.1", "4711"),
        (2, "198.51.100.1,192.0.2.1 ,, 10.0.0.2", "192.0.2.1", ""),
        (2, "192.0.2.1", "192.0.2.1", ""),
        (1, "2001:DB8::1", "2001:db8::1", ""),
        (1, "[2001:db8::1]:443", "2001:db8::1", "443"),
        (1, "::ffff:192.0.2.1", "192.0.2.1", ""),
        (1, "192.0.2.1, unknown", "", ""),
        (ALL_TRUSTED, "192.0.2.9, 192.0.2.1, 10.0.0.3, 10.0.0.2", "192.0.2.1", ""),
        (ALL_TRUSTED, "10.0.0.4, 10.0.0.3", "10.0.0.4", ""),
        (ALL_TRUSTED, "192.0.2.9, _hidden, 10.0.0.3", "", ""),
        (1, "", "10.0.0.1", "1"),
    ],
)
def test_client(hops: int, sent: str, address: str, port: str) -> None:
    environ = forwarded(hops, FOR, X_FORWARDED_FOR=sent)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == (address, port)


@pytest.mark.parametrize(
    ("hops", "sent", "address", "scheme", "host"),
    [
        (1, "for=192.0.2.1;proto=https;host=shop.test", "192.0.2.1", "https", "shop.test"),
        (1, 'For="[2001:db8::1]:4711" ; Proto="HTTPS"', "2001:db8::1", "https", "inside:8000"),
        (2, 'for=192.0.2.1;host="a\\.test", for=10.0.0.2;host=b.test', "192.0.2.1", "http", "a.test"),
        (ALL_TRUSTED, 'for=192.0.2.9, for="192.0.2.1:80", for=10.0.0.2', "192.0.2.1", "http", "inside:8000"),
        (1, "by=10.0.0.1", "", "http", "inside:8000"),
    ],
)
def test_standard_field(hops: int, sent: str, address: str, scheme: str, host: str) -> None:
    environ = forwarded(hops, ("forwarded",), FORWARDED=sent)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_HOST"]) == (address, scheme, host)


def test_each_proxy_may_add_its_scheme() -> None:
    environ = forwarded(2, FOR, X_FORWARDED_FOR="192.0.2.1, 10.0.0.2", X_FORWARDED_PROTO="https, http")
    assert environ["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize(
    ("sent", "host", "port", "script"),
    [
        ({"X_FORWARDED_HOST": "shop.test"}, "shop.test", None, None),
        ({"X_FORWARDED_HOST": "evil.test, shop.test", "X_FORWARDED_PORT": "8443"}, "shop.test:8443", "8443", None),
        ({"X_FORWARDED_HOST": "[::1]", "X_FORWARDED_PORT": "80"}, "[::1]", "80", None),
        ({"X_FORWARDED_PORT": "443", "X_FORWARDED_PROTO": "https"}, "inside", "443", None),
        ({"X_FORWARDED_PREFIX": "/caf%C3%A9/"}, "inside:8000", None, "/caf\xc3\xa9"),
        ({"X_FORWARDED_PREFIX": "/caf\xc3\xa9/"}, "inside:8000", None, "/caf\xc3\xa9"),
    ],
)
def test_place(sent: dict[str, str], host: str, port: str | None, script: str | None) -> None:
    environ = forwarded(1, PLACE, **sent)
    assert (environ["HTTP_HOST"], environ.get("SERVER_PORT"), environ.get("SCRIPT_NAME")) == (host, port, script)


def test_fields_that_no_proxy_sets_are_left_alone() -> None:
    sent = {"X_FORWARDED_HOST": "evil.test", "X_FORWARDED_PREFIX": "/x", "FORWARDED": "for=192.0.2.9;host=evil.test"}
    environ = forwarded(1, FOR, X_FORWARDED_FOR="192.0.2.1", **sent)
    assert (environ["REMOTE_ADDR"], environ["HTTP_HOST"]) == ("192.0.2.1", "inside:8000")
    assert "SCRIPT_NAME" not in environ


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        (FOR, {"X_FORWARDED_FOR": "unnamed"}),
        (FOR, {"X_FORWARDED_FOR": "192.0.2.1:99999"}),
        (FOR, {"X_FORWARDED_FOR": "fe80::1%eth0"}),
        (BOTH, {"X_FORWARDED_FOR": "192.0.2.1", "FORWARDED": "for=192.0.2.2"}),
        (("forwarded",), {"FORWARDED": "for=192.0.2.1;proto=https", "X_FORWARDED_PROTO": "http"}),
        (("forwarded",), {"FORWARDED": "for=192.0.2.1;proto=gopher"}),
        (("forwarded",), {"FORWARDED": "for=192.0.2.1;for=192.0.2.2"}),
        (("forwarded",), {"FORWARDED": "for=192.0.2.1 by=192.0.2.2"}),
        (("forwarded",), {"FORWARDED": 'for="192.0.2.1'}),
        (("forwarded",), {"FORWARDED": "for="}),
        (("forwarded", *PLACE), {"FORWARDED": "for=192.0.2.1;host=a", "X_FORWARDED_HOST": "b"}),
        (PLACE, {"X_FORWARDED_HOST": "a b"}),
        (PLACE, {"X_FORWARDED_PORT": "0"}),
        (PLACE, {"X_FORWARDED_PORT": "00443"}),
        (PLACE, {"X_FORWARDED_PORT": "0000190000"}),
        (PLACE, {"X_FORWARDED_PREFIX": "//evil.test"}),
        (PLACE, {"X_FORWARDED_PREFIX": "/%2Fevil.test"}),
        (FOR, {"X_FORWARDED_PROTO": "https", "X_FORWARDED_SSL": "off"}),
    ],
)
def test_what_contradicts_or_cannot_be_read_is_refused(fields: tuple[str, ...], sent: dict[str, str]) -> None:
    with pytest.raises(ProtocolError) as caught:
        forwarded(1, fields, **sent)
    assert caught.value.status == 400


@pytest.mark.parametrize("value", ["for=192.0.2.1,{},", "for=192.0.2.1{}", "{}for=192.0.2.1", "for=192.0.2.1;{};"])
def test_spaces_cost_linear_time(value: str) -> None:
    began = time.process_time()
    assert forwarded(1, ("forwarded",), FORWARDED=value.format(" " * 60_000))["REMOTE_ADDR"] == "192.0.2.1"
    assert time.process_time() - began < 2


def test_a_client_without_tls_behind_a_proxy_with_it() -> None:
    environ = {"wsgi.url_scheme": "https", "HTTPS": "on", "HTTP_X_FORWARDED_PROTO": "http"}
    Trust(["*"], HEADERS).set_scheme(environ)
    assert environ["wsgi.url_scheme"] == "http"
    assert "HTTPS" not in environ
