"""start_response, framing and the decision whether the connection is kept."""

import sys

import pytest

from wsgicluster.http.head import HTTP_11, IS_HEAD, KEEP_ALIVE
from wsgicluster.wsgi.files import FileRegion
from wsgicluster.wsgi.response import JOIN_BYTES, Framing, Response, Stamp

KEPT = HTTP_11 | KEEP_ALIVE
STAMP = Stamp(0.0)
DATE = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"


class Wire:
    """A transport that writes down what it is given."""

    def __init__(self, keeps: bool = True) -> None:
        self.data = b""
        self.calls = 0
        self.keeps = keeps
        self.regions: list[FileRegion] = []
        self.resets = False

    def send(self, data: bytes) -> None:
        self.data += data
        self.calls += 1

    def send_last(self, data: bytes) -> None:
        self.send(data)

    def send_pair(self, head: bytes, body: bytes) -> None:
        self.send(head + body)

    def send_file(self, head: bytes, region: FileRegion) -> None:
        self.send(head)
        self.regions.append(region)

    def reset_if_cut(self) -> None:
        assert not self.calls, "a response that has begun may be cut at once"
        self.resets = True

    def may_keep(self) -> bool:
        return self.keeps

    def lost_client(self) -> bool:
        return False

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0] + b"\r\n"

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_a_whole_body_goes_out_in_one_send_with_its_length(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [("Content-Type", "text/plain")])
    response.send_whole(b"hello")
    assert wire.calls == 1
    assert wire.head == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: wsgicluster\r\n" + DATE + b"Content-Length: 5\r\n"
    )
    assert wire.body == b"hello"
    assert response.keep
    assert response.complete


def test_blocks_without_a_length_are_chunked_and_sent_one_by_one(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [])
    response.write(b"")
    assert wire.calls == 0
    response.write(b"one")
    assert wire.body == b"3\r\none\r\n"
    response.write(b"")
    response.write(b"x" * 16)
    response.finish()
    assert b"\r\nTransfer-Encoding: chunked\r\n" in wire.head
    assert wire.body == b"3\r\none\r\n10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"
    assert response.keep
    assert response.sent_bytes == 19


def test_http_10_is_never_chunked(wire: Wire) -> None:
    response = Response(wire, KEEP_ALIVE, STAMP)
    response.start_response("200 OK", [])
    response.write(b"one")
    response.finish()
    assert response.framing is Framing.UNTIL_CLOSE
    assert not response.keep
    assert wire.resets
    assert b"Connection: close\r\n" in wire.head
    assert wire.body == b"one"


def test_http_10_gets_keep_alive(wire: Wire) -> None:
    response = Response(wire, KEEP_ALIVE, STAMP)
    response.start_response("200 OK", [])
    response.send_whole(b"one")
    assert response.keep
    assert b"Connection: keep-alive\r\n" in wire.head


@pytest.mark.parametrize("flags", [HTTP_11, 0])
def test_a_client_that_wants_to_close_gets_close(wire: Wire, flags: int) -> None:
    response = Response(wire, flags, STAMP)
    response.start_response("200 OK", [])
    response.send_whole(b"")
    assert not response.keep
    assert b"Connection: close\r\n" in wire.head


def test_the_transport_decides_when_the_head_is_written(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [])
    wire.keeps = False
    response.send_whole(b"")
    assert b"Connection: close\r\n" in wire.head


def test_an_application_may_close(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [("Connection", "close")])
    response.send_whole(b"")
    assert wire.head.count(b"Connection:") == 1
    assert not response.keep


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_no_body_where_none_may_be(wire: Wire, status: str) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response(status, [])
    response.write(b"not to be sent")
    response.finish()
    assert wire.body == b""
    assert b"Transfer-Encoding" not in wire.head
    assert b"Content-Length" not in wire.head
    assert response.keep
    assert response.complete


def test_head_gets_the_fields_and_no_body(wire: Wire) -> None:
    response = Response(wire, KEPT | IS_HEAD, STAMP)
    response.start_response("200 OK", [("Content-Length", "5")])
    response.send_whole(b"hello")
    assert b"Content-Length: 5\r\n" in wire.head
    assert wire.body == b""
    assert response.keep


def test_head_gets_no_invented_framing(wire: Wire) -> None:
    response = Response(wire, KEPT | IS_HEAD, STAMP)
    response.start_response("200 OK", [])
    response.write(b"x")
    response.finish()
    assert b"Content-Length" not in wire.head
    assert b"Transfer-Encoding" not in wire.head


def test_too_few_bytes_at_once_are_refused_before_the_head_is_sent(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [("Content-Length", "10")])
    with pytest.raises(ValueError, match="declared Content-Length 10 but gave only 5"):
        response.send_whole(b"hello")
    assert not response.head_sent
    assert wire.calls == 0


def test_too_few_bytes_in_blocks_end_the_connection(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [("Content-Length", "10")])
    response.write(b"hello")
    with pytest.raises(ValueError, match="gave only 5 bytes"):
        response.finish()
    assert not response.keep
    assert not response.complete


@pytest.mark.parametrize("whole", [True, False])
def test_too_many_bytes_are_cut(wire: Wire, whole: bool) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [("Content-Length", "5")])
    if whole:
        response.send_whole(b"helloEXTRA")
    else:
        for block in (b"hel", b"loEX", b"TRA"):
            response.write(block)
        response.finish()
    assert wire.body == b"hello"
    assert response.overlong


def test_a_large_body_is_not_copied_into_the_head(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [])
    response.send_whole(b"x" * (JOIN_BYTES + 1))
    assert len(wire.body) == JOIN_BYTES + 1


def test_date_and_server_of_the_application_stand_alone(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [("Server", "mine"), ("Date", "Thu, 01 Jan 1970 00:00:01 GMT")])
    response.send_whole(b"")
    assert wire.head.count(b"Server:") == 1
    assert wire.head.count(b"Date:") == 1


def test_a_second_call_needs_exc_info(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [])
    with pytest.raises(AssertionError, match="second time"):
        response.start_response("200 OK", [])


def test_exc_info_replaces_a_head_that_was_not_sent(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [("X-Old", "1")])
    response.write(b"")
    try:
        raise ValueError("application error")
    except ValueError:
        response.start_response("500 Broken", [], sys.exc_info())  # type: ignore[arg-type]
    response.send_whole(b"sorry")
    assert wire.head.startswith(b"HTTP/1.1 500 Broken\r\n")
    assert b"X-Old" not in wire.head


def test_exc_info_is_raised_again_once_the_head_was_sent(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [])
    response.write(b"x")
    with pytest.raises(ValueError, match="application error"):
        try:
            raise ValueError("application error")
        except ValueError:
            response.start_response("500 Broken", [], sys.exc_info())  # type: ignore[arg-type]


def test_the_write_callable_sends_at_once(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    write = response.start_response("200 OK", [])
    write(b"w1")
    assert wire.calls == 1
    response.send_whole(b"r1")
    assert wire.body == b"2\r\nw1\r\n2\r\nr1\r\n0\r\n\r\n"


@pytest.mark.parametrize("block", ["text", bytearray(b"x"), None, 5])
def test_blocks_must_be_bytes(wire: Wire, block: object) -> None:
    for give in (Response.write, Response.send_whole):
        response = Response(wire, KEPT, STAMP)
        response.start_response("200 OK", [])
        with pytest.raises(TypeError, match="expected bytes"):
            give(response, block)  # type: ignore[arg-type]


def test_a_body_before_start_response_is_a_mistake(wire: Wire) -> None:
    with pytest.raises(AssertionError, match="before it called start_response"):
        Response(wire, KEPT, STAMP).send_whole(b"x")


@pytest.mark.parametrize(("declared", "sent"), [(None, 100), ("40", 40), ("100", 100)])
def test_a_file_is_sent_as_far_as_declared(wire: Wire, declared: str | None, sent: int) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [("Content-Length", declared)] if declared else [])
    response.send_file(FileRegion(7, 10, 100))
    response.finish()
    assert wire.regions == [FileRegion(7, 10, sent)]
    assert b"Content-Length: %d\r\n" % sent in wire.head
    assert response.keep


def test_a_file_shorter_than_declared_ends_the_connection(wire: Wire) -> None:
    response = Response(wire, KEPT, STAMP)
    response.start_response("200 OK", [("Content-Length", "200")])
    response.send_file(FileRegion(7, 0, 100))
    with pytest.raises(ValueError, match="declared Content-Length 200"):
        response.finish()
    assert not response.keep
