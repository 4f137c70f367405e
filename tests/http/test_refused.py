"""The description of bytes that are not a request."""

import ssl
import struct

import pytest

from tests.uwsgi_packets import packet
from wsgicluster.errors import ProtocolError
from wsgicluster.http.refused import LINE_BYTES, line_variables, named, request_line


def hello() -> bytes:
    """What a TLS client says first."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


FOREIGN = {
    "a TLS hello (https)": [hello(), b"\x16", b"\x16\x03\x01"],
    "the preface of HTTP/2 (h2)": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/2.0\r\n"],
    "a header of the PROXY protocol": [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11",
        b"\x00\r\nQUIT\n\x21\x11",
    ],
    "SSH": [b"SSH-2.0-OpenSSH_9.2\r\n"],
    "a uwsgi packet": [packet({"REQUEST_METHOD": "GET"})],
    "SOCKS": [b"\x05\x01\x00", b"\x04\x01\x00\x50"],
    "RDP": [b"\x03\x00\x00\x13"],
}


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, all_data in FOREIGN.items() for data in all_data])
def test_protocols_that_are_named(name: str, data: bytes) -> None:
    found = named(ProtocolError(400, "the method is not a token"), data, "HTTP/1.1")
    assert (found.status, found.detail.startswith(f"received {name}, expected HTTP/1.1")) == (400, True)


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"PRINT / HTTP/1.1\r\n", b"PROXY\r\n", b"\x00", b"\x16\x02", b"SSH", b"\x05\xff"],
)
def test_what_is_only_wrong_keeps_its_reason(data: bytes) -> None:
    error = ProtocolError(400, "Host is missing")
    assert named(error, data, "HTTP/1.1") is error


def test_http_where_a_gateway_is_expected() -> None:
    error = ProtocolError(400, "the uwsgi packet has modifier1 71, of which only 0 (WSGI) is supported")
    assert named(error, b"GET / HTTP/1.1\r\n", "uwsgi").detail == "received HTTP, expected uwsgi (see protocol)"
    assert named(error, struct.pack("<BHB", 5, 0, 0), "uwsgi") is error


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", ""),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n", "GET / HTTP/1.1"),
        (b"GET /sl", "GET /sl"),
        (b"GET /\r", "GET /"),
        (b"a\nb", "a"),
        (b"\x16\x03\xff", "\x16\x03\xff"),
        (b"x" * 2000, "x" * LINE_BYTES),
    ],
)
def test_the_line_as_far_as_it_is_known(data: bytes, line: str) -> None:
    assert request_line(data) == line


def test_variables_of_a_line() -> None:
    assert line_variables("GET /a%20b?c=d HTTP/2.0") == {
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/a%20b?c=d",
        "PATH_INFO": "/a b",
        "QUERY_STRING": "c=d",
        "SERVER_PROTOCOL": "HTTP/2.0",
    }
    assert line_variables("GET /") == line_variables("a b c d") == line_variables("G\x00 / HTTP/1.1") == {}
