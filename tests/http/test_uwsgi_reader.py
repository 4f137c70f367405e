"""The reader of a gateway's connection: one request out of bytes, however they are cut."""

import io
from typing import Any, BinaryIO

import pytest

from tests.uwsgi_packets import nginx, packet, plain
from wsgicluster.errors import ProtocolError
from wsgicluster.http.head import KEEP_ALIVE
from wsgicluster.http.limits import HeadLimits
from wsgicluster.http.uwsgi import UwsgiReader, read_uwsgi

TEMPLATE: dict[str, Any] = {
    "SCRIPT_NAME": "",
    "SERVER_NAME": "here",
    "SERVER_PORT": "8000",
    "REMOTE_ADDR": "",
    "REMOTE_PORT": "",
    "wsgi.url_scheme": "http",
}


class Kept(io.BytesIO):
    """A body in memory."""

    gone = 0

    def finish(self) -> BinaryIO:
        self.seek(0)
        return self

    def discard(self) -> None:
        type(self).gone += 1


def reader(limits: HeadLimits | None = None, rest: bytes = b"") -> UwsgiReader:
    return UwsgiReader(TEMPLATE, limits or HeadLimits(), lambda _length: Kept(), rest)


REQUEST = packet(nginx()) + b"hello"


@pytest.mark.parametrize("size", [1, 2, 3, 50, 1000])
def test_a_reader_takes_a_request_in_pieces(size: int) -> None:
    subject = reader()
    told: list[str] = []
    subject.on_head = lambda environ: told.append(environ["RAW_URI"])
    pieces = [REQUEST[at : at + size] for at in range(0, len(REQUEST), size)]
    assert subject.idle
    assert [subject.receive(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert subject.body is not None
    assert subject.body.read() == b"hello"
    assert subject.line == b"POST /caf%C3%A9?a=%20b HTTP/2.0"
    assert told == ["/caf%C3%A9?a=%20b"]
    assert subject.idle
    assert not subject.rest
    assert not subject.flags & KEEP_ALIVE


def test_a_reader_continues_with_what_another_has_read() -> None:
    subject = reader(rest=REQUEST[:30])
    assert not subject.resume()
    assert subject.receive(REQUEST[30:])


def test_a_reader_without_a_body() -> None:
    subject = reader()
    assert subject.receive(packet(plain()) + b"tail")
    assert subject.body is None
    assert subject.rest == b"tail"


def test_a_reader_counts_its_body() -> None:
    subject = reader()
    assert not subject.receive(REQUEST[:-2])
    assert not subject.idle
    assert not subject.awaits_continue
    assert subject.body_received == 3
    before = Kept.gone
    subject.on_head = print
    subject.close()
    assert subject.on_head is None
    assert Kept.gone == before + 1


def test_a_reader_refuses_at_once() -> None:
    with pytest.raises(ProtocolError) as caught:
        reader().receive(b"GET / HTTP/1.1\r\n\r\n")
    assert caught.value.status == 400
    with pytest.raises(ProtocolError) as caught:
        reader(HeadLimits(body_bytes=1000)).receive(packet(plain(CONTENT_LENGTH="1001")))
    assert caught.value.status == 413


def test_the_port_is_that_of_the_address() -> None:
    template = {**TEMPLATE, "REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "99"}
    for told, port in (
        ({}, "99"),
        ({"REMOTE_ADDR": "192.0.2.1"}, ""),
        ({"REMOTE_ADDR": "::1", "REMOTE_PORT": "7"}, "7"),
    ):
        found = read_uwsgi(packet(plain(**told)), 0, template, HeadLimits())
        assert found is not None
        assert found[0]["REMOTE_PORT"] == port
