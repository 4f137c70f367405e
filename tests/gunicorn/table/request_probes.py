"""Probes of settings about requests, proxies and TLS."""

import contextlib
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from tests.certificates import Certificates, make_certificates
from tests.gunicorn.table.comparison import Running, Subject, differ, first_bytes, probe, same
from tests.live.client import Connection
from tests.uwsgi_packets import packet, plain

Observed = Mapping[str, Any]


def head(first: str = "GET /?1 HTTP/1.1", *fields: str) -> bytes:
    """A request that closes its connection."""
    return "\r\n".join([first, "Host: x", "Connection: close", *fields, "", ""]).encode()


@probe(
    limit_request_line=same([200, 414]),
    limit_request_fields=same([200, 431]),
    limit_request_field_size=same([200, 431]),
)
def limits(subject: Subject) -> Observed:
    running = subject.start("limit_request_line = 100\nlimit_request_fields = 4\nlimit_request_field_size = 80\n")
    within, beyond = "a" * 60, "a" * 120
    return {
        "limit_request_line": [running.status(head(f"GET /{part}?1 HTTP/1.1")) for part in (within, beyond)],
        "limit_request_fields": [
            running.status(head("GET /?1 HTTP/1.1", *(f"X-{at}: 1" for at in range(count)))) for count in (2, 3)
        ],
        "limit_request_field_size": [
            running.status(head("GET /?1 HTTP/1.1", f"X: {part}")) for part in (within, beyond)
        ],
    }


@probe(limit_request_line=differ(200, 414))
def line_by_default(subject: Subject) -> Observed:
    return {"limit_request_line": subject.start().status(head(f"GET /{'a' * 5000}?1 HTTP/1.1"))}


SYNTAX = {
    "permit_obsolete_folding": head("GET /?1 HTTP/1.1", "X-Long: a", " b"),
    "strip_header_spaces": head("GET /?1 HTTP/1.1", "X-Space : a"),
    "permit_unconventional_http_method": head("NO /?1 HTTP/1.1"),
    "permit_unconventional_http_version": head("GET /?1 HTTP/3.0"),
}


@probe(casefold_http_method=same("NOTE"), **{name: same([True, True]) for name in SYNTAX})
def syntax(subject: Subject) -> Observed:
    strict = subject.start()
    refused = {name: strict.status(data) >= 400 for name, data in SYNTAX.items()}
    strict.live.stop()
    lax = subject.start("\n".join(f"{name} = True" for name in (*SYNTAX, "casefold_http_method")))
    found: dict[str, Any] = {name: [refused[name], lax.status(data) == 200] for name, data in SYNTAX.items()}
    found["casefold_http_method"] = lax.ask("environ['REQUEST_METHOD']", method="note")
    return found


@probe(
    secure_scheme_headers=same(["https", "http"]), forwarder_headers=same("bob"), header_map=same([None, 400, "1"])
)  # fmt: skip
def trust(subject: Subject) -> Observed:
    running = subject.start('secure_scheme_headers = {"X-MY-TLS": "yes"}\nforwarder_headers = "REMOTE_USER"\n')
    schemes = [running.ask("environ['wsgi.url_scheme']", extra) for extra in ("X-My-TLS: yes\r\n", "")]
    user = running.ask("environ.get('HTTP_REMOTE_USER')", "REMOTE_USER: bob\r\n")
    dropped = running.ask("environ.get('HTTP_X_OWN')", "X_Own: 1\r\n")
    running.live.stop()
    refusing = subject.start('header_map = "refuse"\n')
    refused = refusing.status(head("GET /?1 HTTP/1.1", "X_Own: 1"))
    refusing.live.stop()
    accepted = subject.start('header_map = "dangerous"\n').ask("environ.get('HTTP_X_OWN')", "X_Own: 1\r\n")
    return {
        "secure_scheme_headers": schemes,
        "forwarder_headers": user,
        "header_map": [dropped, refused, accepted],
    }


@probe(forwarded_allow_ips=same(["http", "https"]))
def trusted_addresses(subject: Subject) -> Observed:
    found = []
    for value in ("192.0.2.1", "*"):
        running = subject.start(f'forwarded_allow_ips = "{value}"\n')
        found.append(running.ask("environ['wsgi.url_scheme']", "X-Forwarded-Proto: https\r\n"))
        running.live.stop()
    return {"forwarded_allow_ips": found}


PROXY = b"PROXY TCP4 192.0.2.7 192.0.2.8 50000 80\r\n"


@probe(proxy_protocol=same([200, 200]), proxy_allow_ips=same([True, False]))
def proxies(subject: Subject) -> Observed:
    running = subject.start("proxy_protocol = True\n")
    without, behind = running.status(head()), running.status(PROXY + head())
    running.live.stop()
    foreign = subject.start('proxy_protocol = True\nproxy_allow_ips = "192.0.2.1"\n')
    return {
        "proxy_protocol": [without, behind],
        "proxy_allow_ips": [behind == 200, foreign.status(PROXY + head()) == 200],
    }


@probe(proxy_protocol=differ([0, 200], [200, 200]))
def demanded_proxy(subject: Subject) -> Observed:
    running = subject.start('proxy_protocol = "v1"\n')
    return {"proxy_protocol": [running.status(head()), running.status(PROXY + head())]}


@probe(protocol=same(True), uwsgi_allow_ips=same([True, False]))
def gateways(subject: Subject) -> Observed:
    served = []
    for addresses in ("127.0.0.1", "192.0.2.1"):
        running = subject.start(f'protocol = "uwsgi"\nuwsgi_allow_ips = "{addresses}"\n')
        with Connection(running.port) as connection:
            connection.send(packet(plain(QUERY_STRING="1", SERVER_NAME="x", SERVER_PORT="80", HTTP_HOST="x")))
            served.append(b" 200 OK" in first_bytes(connection))
        running.live.stop()
    return {"protocol": served[0], "uwsgi_allow_ips": served}


def shake_hands(running: Running, client: ssl.SSLContext) -> tuple[str, str, int] | None:
    """Version, cipher and status of a request with TLS; None where the server refuses the client."""
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        with socket.create_connection(("127.0.0.1", running.port), 10) as sock:
            with client.wrap_socket(sock, server_hostname="localhost") as secured:
                secured.sendall(head())
                answer = secured.recv(65536)
                cipher = secured.cipher()
                assert cipher is not None
                return (secured.version() or "", cipher[0], int(answer.split()[1])) if answer else None
    return None


def certified(subject: Subject) -> tuple[Certificates, str]:
    """Certificates, and the lines of a file that uses them."""
    made = make_certificates(subject.folder / "certificates")
    return made, f'certfile = "{made.path("server.pem")}"\nkeyfile = "{made.path("server.key")}"\n'


CIPHER = "ECDHE-ECDSA-AES256-GCM-SHA384"


@probe(
    certfile=same(True), keyfile=same(True), ca_certs=same([True, False]), cert_reqs=same([True, False]),
    ciphers=same(CIPHER), ssl_version=same("TLSv1.3"), suppress_ragged_eofs=same(True),
)  # fmt: skip
def encryption(subject: Subject) -> Observed:
    made, lines = certified(subject)
    running = subject.start(f"""{lines}
import ssl
ca_certs = "{made.path("ca.pem")}"
cert_reqs = ssl.CERT_REQUIRED
ciphers = "{CIPHER}"
ssl_version = ssl.PROTOCOL_TLSv1_2
suppress_ragged_eofs = True
""")
    newest = shake_hands(running, made.client("person"))
    older = shake_hands(running, made.client("person", ssl.TLSVersion.TLSv1_2))
    unknown = shake_hands(running, made.client())
    assert newest is not None
    assert older is not None
    with socket.create_connection(("127.0.0.1", running.port), 10) as sock:
        broken = made.client("person").wrap_socket(sock, server_hostname="localhost")
        broken.sendall(b"GET / HTTP/1.1\r\nHost")
        os.close(broken.detach())  # in the midst of TLS
    after = shake_hands(running, made.client("person"))
    return {
        "certfile": newest[2] == 200,
        "keyfile": newest[2] == 200,
        "ca_certs": [newest[2] == 200, unknown is not None],
        "cert_reqs": [newest[2] == 200, unknown is not None],
        "ciphers": older[1],
        "ssl_version": newest[0],
        "suppress_ragged_eofs": after is not None,
    }


@probe(ssl_context=same("TLSv1.2"), do_handshake_on_connect=differ(True, False))
def handshakes(subject: Subject) -> Observed:
    made, lines = certified(subject)
    running = subject.start(f"""{lines}
import ssl
do_handshake_on_connect = True
def ssl_context(config, default_ssl_context_factory):
    context = default_ssl_context_factory()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
""")
    found = shake_hands(running, made.client())
    assert found is not None
    with socket.create_connection(("127.0.0.1", running.port), 10) as silent:
        silent.sendall(b"\x16\x03")
        # Ours has time, for it answers; Gunicorn does not, however long it is given.
        with socket.create_connection(("127.0.0.1", running.port), 20 if subject.is_ours else 2) as sock:
            try:
                made.client().wrap_socket(sock, server_hostname="localhost").close()
                served = True
            except TimeoutError:
                served = False
    return {"ssl_context": found[0], "do_handshake_on_connect": served}


@probe(cert_reqs=differ(False, True))
def demanded_certificates(subject: Subject) -> Observed:
    _, lines = certified(subject)
    return {"cert_reqs": subject.check(f"{lines}cert_reqs = 2\n").returncode == 0}


@probe(ssl_context=differ(400, 200))
def context_alone(subject: Subject) -> Observed:
    running = subject.start(
        "def ssl_context(conf, default_ssl_context_factory): return default_ssl_context_factory()\n"
    )
    return {"ssl_context": running.status(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")}
