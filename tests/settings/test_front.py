"""Settings for TLS and for proxies in front."""

import pathlib
import ssl

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import Settings, load
from wsgicluster.settings.types.proxy import ALL_TRUSTED


def settings(folder: pathlib.Path, *arguments: str, source: str = "") -> Settings:
    (folder / "wsgicluster.conf.py").write_text(source)
    return load(["app", *arguments], {}, str(folder)).settings


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [
        ([], "off"),
        (["--proxy-protocol"], "auto"),
        (["--proxy-protocol", "v2"], "v2"),
        (["--proxy-protocol=off"], "off"),
    ],
)
def test_proxy_protocol(tmp_path: pathlib.Path, arguments: list[str], mode: str) -> None:
    assert settings(tmp_path, *arguments).proxy_protocol == mode


@pytest.mark.parametrize(("written", "mode"), [("True", "auto"), ("False", "off"), ("'V1'", "v1")])
def test_proxy_protocol_in_a_file(tmp_path: pathlib.Path, written: str, mode: str) -> None:
    assert settings(tmp_path, source=f"proxy_protocol = {written}").proxy_protocol == mode


@pytest.mark.parametrize(
    ("written", "demand"),
    [("0", "none"), ("ssl.CERT_REQUIRED", "required"), ("'CERT_OPTIONAL'", "optional"), ("'optional'", "optional")],
)
def test_demands_on_clients(tmp_path: pathlib.Path, written: str, demand: str) -> None:
    source = f"import ssl\ncert_reqs = {written}\nssl_context = lambda config, factory: factory()\n"
    found = settings(tmp_path, source=source)
    assert found.cert_reqs == demand
    assert found.has_tls


def test_hops(tmp_path: pathlib.Path) -> None:
    assert settings(tmp_path).forwarded_hops == 0
    assert settings(tmp_path, "--forwarded-hops", "2").forwarded_hops == 2
    assert settings(tmp_path, "--forwarded-hops", "auto").forwarded_hops == ALL_TRUSTED
    with pytest.raises(UsageError, match="expected a number: with \\* in forwarded_allow_ips"):
        settings(tmp_path, "--forwarded-hops", "auto", "--forwarded-allow-ips", "*")
    with pytest.raises(UsageError, match="expected a whole number from 0, or auto"):
        settings(tmp_path, "--forwarded-hops", "-1")


def test_fields(tmp_path: pathlib.Path) -> None:
    found = settings(tmp_path, "--forwarded-fields", "Forwarded, X-Forwarded-Host")
    assert found.forwarded_fields == ("forwarded", "x-forwarded-host")
    with pytest.raises(UsageError, match="forwarded_fields: 'x-real-ip'; expected x-forwarded-for"):
        settings(tmp_path, "--forwarded-fields", "X-Real-IP")


def test_protocol(tmp_path: pathlib.Path) -> None:
    assert (settings(tmp_path).protocol, settings(tmp_path).scheme) == ("http", "http")
    found = settings(tmp_path, "--protocol", "UWSGI")
    assert (found.protocol, found.scheme) == ("uwsgi", "uwsgi")
    assert found.uwsgi_allow_ips == ("127.0.0.1", "::1")
    assert settings(tmp_path, "--uwsgi-allow-from", "10.1.2.3/8, ::1").uwsgi_allow_ips == ("10.0.0.0/8", "::1")
    with pytest.raises(UsageError, match=r"^command line --protocol: protocol: 'fastcgi'; expected http or uwsgi"):
        settings(tmp_path, "--protocol", "fastcgi")
    with pytest.raises(UsageError, match="uwsgi_allow_ips: 'nginx'; expected addresses and networks"):
        settings(tmp_path, "--uwsgi-allow-from", "nginx")


@pytest.mark.parametrize(
    ("arguments", "source", "other"),
    [
        (["--certfile", "server.pem"], "", "certfile: gateways use uwsgi without TLS"),
        ([], "ssl_context = lambda config, factory: None", "ssl_context: gateways use uwsgi without TLS"),
        (["--proxy-protocol"], "", "proxy_protocol: gateways send the client's address with each request"),
    ],
)
def test_uwsgi_excludes_tls_and_the_proxy_protocol(
    tmp_path: pathlib.Path, arguments: list[str], source: str, other: str
) -> None:
    message = f"^command line --protocol: protocol: 'uwsgi'; expected http together with {other}$"
    with pytest.raises(UsageError, match=message):
        settings(tmp_path, "--protocol", "uwsgi", *arguments, source=source)
    if "server.pem" not in arguments:
        assert settings(tmp_path, *arguments, source=source).protocol == "http"


@pytest.mark.parametrize(
    ("arguments", "source", "reason"),
    [
        (["--certfile", "server.pem"], "", "certfile: the application would read encrypted bytes; let a proxy"),
        ([], "ssl_context = lambda config, factory: None", "ssl_context: the application would read encrypted bytes"),
        (["--protocol", "uwsgi"], "", "protocol = uwsgi: gateways do not forward upgrades"),
    ],
)
def test_raw_sockets_need_http_without_tls(
    tmp_path: pathlib.Path, arguments: list[str], source: str, reason: str
) -> None:
    assert settings(tmp_path).raw_socket is False
    assert settings(tmp_path, "--raw-socket").raw_socket is True
    message = f"^command line --raw-socket: raw_socket: true; expected false together with {reason}"
    with pytest.raises(UsageError, match=message):
        settings(tmp_path, "--raw-socket", *arguments, source=source)


def test_the_scheme_of_tls(tmp_path: pathlib.Path) -> None:
    assert settings(tmp_path, source="ssl_context = lambda config, factory: None").scheme == "https"


def test_header_map(tmp_path: pathlib.Path) -> None:
    found = settings(tmp_path)
    assert (found.header_map, found.forwarder_headers) == ("drop", ("SCRIPT_NAME", "PATH_INFO"))
    found = settings(tmp_path, "--header-map", "Refuse", "--forwarder-headers", "script_name, Remote-User,X_A")
    assert (found.header_map, found.forwarder_headers) == ("refuse", ("SCRIPT_NAME", "REMOTE-USER", "X_A"))
    assert settings(tmp_path, source="forwarder_headers = '*'").forwarder_headers == ("*",)
    assert settings(tmp_path, source="forwarder_headers = ['X_A', 'X_B']").forwarder_headers == ("X_A", "X_B")
    assert settings(tmp_path, "--forwarder-headers", "").forwarder_headers == ()
    with pytest.raises(UsageError, match="header_map: 'keep'; expected drop, refuse or dangerous"):
        settings(tmp_path, "--header-map", "keep")
    with pytest.raises(UsageError, match="forwarder_headers: 'X USER'; expected names of header fields"):
        settings(tmp_path, "--forwarder-headers", "X USER")


def test_contexts_are_safe() -> None:
    from wsgicluster.settings.tls_context import default_context

    context = default_context(Settings())
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert default_context(Settings(tls_minimum="1.3")).minimum_version is ssl.TLSVersion.TLSv1_3


def test_names_of_requests(tmp_path: pathlib.Path) -> None:
    found = settings(tmp_path)
    assert (found.request_id, found.request_id_header) == ("off", "X-Request-ID")
    found = settings(tmp_path, "--request-id", "make", "--request-id-header", "X-Trace")
    assert (found.request_id, found.request_id_header) == ("make", "X-Trace")
    with pytest.raises(UsageError, match="request_id: 'on'; expected off, accept or make"):
        settings(tmp_path, source="request_id = 'on'")
    for name in ("X Trace", "X_Trace", "", "Content-Length", "X:"):
        with pytest.raises(UsageError, match=r"request_id_header: .*; expected the name of a header field"):
            settings(tmp_path, source=f"request_id_header = {name!r}")


def test_traces(tmp_path: pathlib.Path) -> None:
    found = settings(tmp_path)
    assert (found.trace, found.trace_header) == ("off", None)
    assert settings(tmp_path, "--trace").trace == "accept"
    found = settings(tmp_path, "--trace", "make", "--trace-header", "Trace-ID")
    assert (found.trace, found.trace_header) == ("make", "Trace-ID")
    with pytest.raises(UsageError, match="trace: 'on'; expected off, accept or make"):
        settings(tmp_path, source="trace = 'on'")
    with pytest.raises(UsageError, match=r"trace_header: .*; expected the name of a header field"):
        settings(tmp_path, source="trace_header = 'a b'")
