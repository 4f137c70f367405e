"""Clients that cheat, vanish or crowd: what they get, and that nobody else pays for it."""

import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.conftest import LiveServer, SharedServers, StartServer, has_at_most, steady_descriptors, wait_until
from tests.live.client import Connection, ask_at_once, fetch

pytestmark = pytest.mark.live

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def live(shared_servers: SharedServers) -> Iterator[LiveServer]:
    """One worker with the plain application."""
    with shared_servers.lend("tests.apps.basic") as lent:
        yield lent


class TestSmuggling:
    """What two servers could frame differently is refused, or framed in the one strict way."""

    @pytest.mark.parametrize(
        "request_bytes",
        [
            POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc",
            POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            POST + b"Content-Length:\r\n\r\n",
            POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
            POST + b"Content-Length: 3, 3\r\n\r\nabc",
            CHUNKED + b"1_0\r\n",
            CHUNKED + b"-1\r\n",
            CHUNKED + b"0x1\r\n",
            CHUNKED + b"1;\nx\r\n",
            CHUNKED + b"1;a\rb\r\n",
            CHUNKED + b"1\r\nabc\r\n",
            b"GET / HTTP/1.1\rHost: x\r\r",
            b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rTransfer-Encoding: chunked\r\n\r\n",
            b"GET http://u:p@h/ HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET http://h/ HTTP/1.1\r\n\r\n",
        ],
    )
    def test_refused(self, live: LiveServer, request_bytes: bytes) -> None:
        with Connection(live.port) as connection:
            connection.send(request_bytes + GET)
            response = connection.response()
            assert response.status == 400
            assert response.closes
            # What stands behind it is never taken for a request.
            assert b"HTTP/1.1" not in connection.rest()

    def test_trailers_frame_nothing(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.send(CHUNKED + b"3\r\nabc\r\n0\r\nContent-Length: 50\r\nHost: y\r\n\r\n" + GET)
            assert connection.response().body == b"abc"
            assert connection.response().status == 200

    def test_dropped_name_frames_nothing(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.send(POST + b"Content_Length: 3\r\n\r\n" + GET)
            assert connection.response().body == b""
            assert connection.response().status == 200

    def test_upgrade_is_ignored(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            extra = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
            assert connection.exchange(extra=extra).status == 200
            assert connection.exchange().status == 200

    @pytest.mark.parametrize(
        "fields", [b"Connection: keep-alive, CLOSE\r\n", b"Connection: keep-alive\r\nConnection: close\r\n"]
    )
    def test_close_stands_anywhere_in_the_list(self, live: LiveServer, fields: bytes) -> None:
        with Connection(live.port) as connection:
            connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n" + GET)
            assert connection.response().closes
            assert connection.rest() == b""

    def test_expectation_of_a_body_that_is_too_large(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.send(POST + b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n")
            assert connection.response().status == 413

    def test_no_interim_response_in_http_1_0(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.send(b"POST /echo HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            assert fetch(live.port).status == 200
            connection.send(b"abc")
            assert connection.response().body == b"abc"


class TestCrowding:
    """Much of what is small."""

    def test_thousands_of_requests_in_one_segment(self, live: LiveServer) -> None:
        answers = ask_at_once(lambda: Connection(live.port), [GET] * 2000)
        assert {answer.status for answer in answers} == {200}

    def test_tiny_chunks(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.send(CHUNKED + b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n" + GET)
            assert connection.response().body == b"a" * 20_000
            assert connection.response().status == 200

    def test_empty_lines_are_no_way_to_stay(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.send(b"\r\n" * 1000)
            assert connection.response().status == 400


class TestVanishing:
    """Clients that end one direction or both."""

    @pytest.mark.parametrize("count", [1, 3])
    def test_half_closed_behind_requests(self, live: LiveServer, count: int) -> None:
        with Connection(live.port) as connection:
            connection.send(GET * count)
            connection.sock.shutdown(socket.SHUT_WR)
            assert [connection.response().status for _ in range(count)] == [200] * count
            assert connection.rest() == b""

    def test_half_closed_before_a_long_response(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.ask("/blocks/100")
            connection.sock.shutdown(socket.SHUT_WR)
            assert len(connection.response().body) == 100 * 65536

    @pytest.mark.parametrize(
        "begun", [b"GET / HTTP/1.1\r\nHo", POST + b"Content-Length: 9\r\n\r\nabc", CHUNKED + b"3\r\na"]
    )
    def test_half_closed_within_a_request(self, live: LiveServer, begun: bytes) -> None:
        with Connection(live.port) as connection:
            connection.send(begun)
            connection.sock.shutdown(socket.SHUT_WR)
            assert b" 200 " not in connection.rest()

    def test_resets_leave_nothing_open(self, live: LiveServer) -> None:
        # A connection that ends with its response, so that none is still closing when the count begins.
        with Connection(live.port) as connection:
            assert connection.exchange(extra="Connection: close\r\n").closes
            assert connection.rest() == b""
        worker = live.children()[0]
        before = steady_descriptors(worker)
        stages = [
            b"", GET, GET[:9], GET * 500, b"BAD\r\n\r\n", CHUNKED + b"3\r\na",
            b"GET /blocks/200 HTTP/1.1\r\nHost: x\r\n\r\n", POST + b"Content-Length: 900000\r\n\r\nabc",
        ]  # fmt: skip
        for data in stages * 3:
            with Connection(live.port) as connection:
                connection.send(data)
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(lambda: has_at_most(worker, before), 10, "all descriptors are given back")
        assert live.children() == [worker]
        assert fetch(live.port).status == 200


def test_reload_at_every_stage_of_a_request(server: StartServer) -> None:
    """What was begun is answered, by whichever worker has it then."""
    live = server("tests.apps.basic", "-w", "2")
    before = set(live.wait_workers(2))
    stages = {
        "kept": (GET, GET), "kept, within a head": (GET + GET[:12], GET[12:]), "within a head": (GET[:9], GET[9:]),
        "silent": (b"", GET), "pipelined": (GET * 3 + GET[:9], GET[9:]),
        "within a body": (POST + b"Content-Length: 6\r\n\r\nabc", b"def"),
        "within chunks": (CHUNKED + b"3\r\nabc\r\n", b"0\r\n\r\n"),
    }  # fmt: skip
    opened = {name: Connection(live.port) for name in stages}
    for name, (begun, _) in stages.items():
        opened[name].send(begun)
        for _ in range(begun.count(GET)):
            assert opened[name].response().status == 200
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete")
    for name, (_, rest) in stages.items():
        opened[name].send(rest)
        assert opened[name].response().status == 200, name
        opened[name].close()
    wait_until(lambda: not before & set(live.children()), 10, "the old workers have gone")
