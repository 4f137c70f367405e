"""The reader: whole requests out of bytes, however they are cut."""

import io
from typing import BinaryIO

import pytest

from wsgicluster.errors import ProtocolError
from wsgicluster.http.connection import EMPTY_LINES, RequestReader
from wsgicluster.http.limits import HeadLimits


class Store:
    """Keeps a body in memory and counts what became of it."""

    opened = 0
    discarded = 0

    def __init__(self, _length: int) -> None:
        type(self).opened += 1
        self.data = bytearray()

    def write(self, piece: memoryview) -> None:
        self.data += piece

    def finish(self) -> BinaryIO:
        return io.BytesIO(self.data)

    def discard(self) -> None:
        type(self).discarded += 1


def reader(limits: HeadLimits | None = None, rest: bytes = b"") -> RequestReader:
    return RequestReader({}, limits or HeadLimits(), Store, rest)


def requests(subject: RequestReader, pieces: list[bytes]) -> list[tuple[str, bytes | None]]:
    """Path and body of each request that the pieces complete."""
    found = []
    for piece in pieces:
        complete = subject.receive(piece)
        while complete:
            body = subject.body
            found.append((subject.environ["PATH_INFO"], None if body is None else body.read()))
            complete = subject.resume()
    return found


GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED += b"3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: v\r\n\r\n"
ALL = GET + POST + b"\r\n" + CHUNKED + GET
WANTED = [("/a", None), ("/b", b"hello"), ("/c", b"hello"), ("/a", None)]


def test_pipelined_requests_whole() -> None:
    assert requests(reader(), [ALL]) == WANTED


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_pipelined_requests_in_pieces(size: int) -> None:
    assert requests(reader(), [ALL[i : i + size] for i in range(0, len(ALL), size)]) == WANTED


def test_pipelined_requests_cut_anywhere() -> None:
    for cut in range(1, len(ALL)):
        assert requests(reader(), [ALL[:cut], ALL[cut:]]) == WANTED, cut


def test_a_request_line_is_kept_as_sent() -> None:
    subject = reader()
    assert subject.receive(b"\r\n" + GET)
    assert subject.line == b"GET /a HTTP/1.1"


def test_bytes_of_another_process_are_parsed() -> None:
    subject = reader(rest=GET[:20])
    assert not subject.resume()
    assert subject.receive(GET[20:])
    assert subject.environ["PATH_INFO"] == "/a"


def test_a_decoded_body_has_a_length_and_is_not_chunked_any_more() -> None:
    subject = reader()
    assert subject.receive(CHUNKED)
    assert subject.environ["CONTENT_LENGTH"] == "5"
    assert "HTTP_TRANSFER_ENCODING" not in subject.environ


def test_continue_is_awaited_until_a_byte_of_the_body_came() -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    subject = reader()
    assert not subject.receive(head)
    assert subject.awaits_continue
    assert not subject.receive(b"he")
    assert not subject.awaits_continue
    assert subject.receive(b"llo")
    assert not subject.awaits_continue


def test_a_body_that_came_along_needs_no_continue() -> None:
    subject = reader()
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    assert subject.receive(head + b"hello")
    assert not subject.awaits_continue


def test_idle_means_between_requests() -> None:
    subject = reader()
    assert subject.idle
    subject.receive(GET[:9])
    assert subject.idle
    assert subject.rest == GET[:9]
    subject.receive(GET[9:] + POST[:-2])
    subject.resume()
    assert not subject.idle
    assert subject.body_received == 3


def test_an_unfinished_body_is_discarded() -> None:
    subject = reader()
    subject.receive(POST[:-2])
    before = Store.discarded
    subject.close()
    subject.close()
    assert Store.discarded == before + 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET /" + b"a" * 9000, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000, 431),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n", 413),
    ],
)
def test_refused_before_more_is_read(data: bytes, status: int) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        with pytest.raises(ProtocolError) as caught:
            requests(reader(HeadLimits(body_bytes=1000)), pieces)
        assert caught.value.status == status


def test_only_a_few_empty_lines_are_ignored() -> None:
    assert requests(reader(), [b"\r\n" * EMPTY_LINES + GET]) == [("/a", None)]
    with pytest.raises(ProtocolError):
        reader().receive(b"\r\n" * (EMPTY_LINES + 1) + GET)


def test_an_endless_head_is_refused_within_its_limit() -> None:
    subject = reader()
    subject.receive(b"GET / HTTP/1.1\r\n")
    sent = 0
    with pytest.raises(ProtocolError) as caught:
        while sent < 1 << 20:
            sent += 1000
            subject.receive(b"X-%06d: %s\r\n" % (sent, b"v" * 990))
    assert caught.value.status == 431
    assert sent < 100_000
