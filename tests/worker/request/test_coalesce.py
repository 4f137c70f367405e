"""Blocks that wait to be sent together, of many responses at a time."""

import contextlib
import math
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from wsgicluster.errors import ClientGone
from wsgicluster.http import core
from wsgicluster.http.head import HTTP_11, KEEP_ALIVE
from wsgicluster.ipc.scoreboard import Page, Scoreboard
from wsgicluster.worker.request.leaves import coalescer
from wsgicluster.wsgi.response import Response, Stamp

pytestmark = pytest.mark.skipif(not core.compiled, reason="in plain Python each block is sent by itself")

MEGABYTE = 1024 * 1024

TOO_MANY = 300
"""More streams than can gather at a time."""


class Client:
    """Both ends of a connection, as far as a response needs it.

    What the client does not take is in ``stored``, or waits until it does if ``waits``.
    """

    waits = False

    def __init__(self) -> None:
        self.sock, self.other = socket.socketpair()
        self.other.settimeout(20)
        self.descriptor = self.sock.fileno()
        self.transport = SimpleNamespace(record_bytes=0)
        self.sends_later = False
        self.stored = b""

    def may_keep(self) -> bool:
        return True

    def send(self, data: bytes) -> None:
        sent = 0
        if not self.sends_later:
            try:
                sent = self.sock.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except BrokenPipeError as error:
                raise ClientGone(str(error)) from error
        if sent < len(data):
            self.store(data[sent:])

    send_last = send

    def send_pair(self, head: bytes, body: bytes) -> None:
        self.send(head + body)

    def makes_room(self) -> bool:
        if self.waits:
            select.select([], [self.sock], [], 20)
        return self.waits

    def store(self, data: bytes) -> None:
        if self.waits:
            self.sock.sendall(data)
        else:
            self.sends_later = True
            self.stored += data

    def receive_until(self, end: bytes) -> bytes:
        """What comes until and with ``end``."""
        got = b""
        while not got.endswith(end):
            received = self.other.recv(65536)
            assert received, got
            got += received
        return got

    def close(self) -> None:
        self.sock.close()
        self.other.close()


class Stream:
    """One response, and what sends its blocks."""

    def __init__(self, page: Page) -> None:
        self.client = Client()
        self.coalescer: Any = coalescer(page)
        self.response: Response

    def send(self, blocks: Iterator[bytes]) -> None:
        """Send a response in chunks."""
        client: Any = self.client
        self.response = Response(client, HTTP_11 | KEEP_ALIVE, Stamp(0.0))
        self.response.start_response("200 OK", [])
        self.coalescer.send(self.response, client, blocks)


MakeStream = Callable[[], Stream]


@pytest.fixture
def stream() -> Iterator[MakeStream]:
    """Makes streams of one worker."""
    board = Scoreboard(None)
    page = board.take(slot=1, generation=1)
    made: list[Stream] = []

    def make() -> Stream:
        made.append(Stream(page))
        return made[-1]

    yield make
    for each in made:
        each.client.close()
    board.close()


def numbered(first: int, end: int) -> Iterator[bytes]:
    yield from (b"<%d>" % number for number in range(first, end))


@pytest.mark.parametrize("again", [1, 2])
def test_however_many_gather_at_a_time_no_block_of_any_waits_for_its_next(stream: MakeStream, again: int) -> None:
    streams = [stream() for _ in range(TOO_MANY)]
    sys.setrecursionlimit(20 * TOO_MANY)

    def blocks(index: int) -> Iterator[bytes]:
        yield from numbered(0, 4)
        if index + 1 < TOO_MANY:
            # In the middle of this one; another greenlet would run in the same way.
            streams[index + 1].send(blocks(index + 1))
        else:
            for each in streams:
                each.client.receive_until(b"<3>\r\n")
        yield from numbered(4, 8)

    for _ in range(again):
        streams[0].send(blocks(0))
        for each in streams:
            assert each.client.receive_until(b"0\r\n\r\n").endswith(b"3\r\n<7>\r\n0\r\n\r\n")
            assert each.response.complete
            assert (each.response.blocks, each.response.sent_bytes) == (8, 24)


def test_streams_of_several_threads_do_not_mix(stream: MakeStream) -> None:
    streams = [stream() for _ in range(4)]
    sizes = [1 + number % 5000 for number in range(2000)]
    got: dict[int, bytes] = {}

    def read(index: int) -> None:
        got[index] = b""
        while received := streams[index].client.other.recv(65536):
            got[index] += received

    def write(index: int) -> None:
        streams[index].client.waits = True
        for _ in range(2):
            streams[index].send(b"%d" % index * size for size in sizes)
        streams[index].client.sock.shutdown(socket.SHUT_WR)

    threads = [threading.Thread(target=target, args=(index,)) for index in range(4) for target in (read, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        bodies = [part.partition(b"\r\n\r\n")[2] for part in got[index].split(b"HTTP/1.1 ")[1:]]
        expected = b"".join(b"%x\r\n%b\r\n" % (size, b"%d" % index * size) for size in sizes)
        assert bodies == [expected + b"0\r\n\r\n"] * 2


def test_a_block_that_waits_is_known_to_have_been_given(stream: MakeStream) -> None:
    one = stream()
    seen = []

    def blocks() -> Iterator[bytes]:
        for number in range(50):
            seen.append(one.response.blocks + one.coalescer.gathered_blocks - number)
            yield b"x"

    one.send(blocks())
    assert seen == [0] * 50


def failing() -> Iterator[bytes]:
    yield from numbered(0, 9)
    raise ValueError("the application's")


def left(client: Client) -> Iterator[bytes]:
    yield from numbered(0, 9)
    client.other.close()
    yield from numbered(0, 10_000)


def test_after_each_way_to_end_the_next_response_begins_with_nothing(stream: MakeStream) -> None:
    one = stream()
    with pytest.raises(ValueError, match="the application's"):
        one.send(failing())
    assert one.client.receive_until(b"<8>\r\n").count(b"<") == 9
    assert not one.response.complete
    with pytest.raises(ClientGone):
        one.send(left(one.client))
    one.client.sock.close()
    one.client = Client()
    one.send(numbered(0, 10))
    got = one.client.receive_until(b"0\r\n\r\n")
    assert got.count(b"HTTP/1.1 200 OK") == 1
    assert got.count(b"<") == 10


def test_what_a_slow_client_does_not_take_is_stored_in_order(stream: MakeStream) -> None:
    one = stream()
    size = 40_000
    one.send(iter([b"begin", *(b"%d" % (number % 10) * size for number in range(40))]))
    assert one.client.stored
    one.client.sock.close()
    got = b""
    while received := one.client.other.recv(65536):
        got += received
    got += one.client.stored
    body = got.partition(b"\r\n\r\n5\r\nbegin\r\n")[2]
    assert body == b"".join(b"%x\r\n%b\r\n" % (size, b"%d" % (n % 10) * size) for n in range(40)) + b"0\r\n\r\n"


class Reader(Client):
    """Reads what is there whenever it is waited for, until it has got so much (``most``)."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.other.setblocking(False)
        self.most = most
        self.got = b""
        self.stored_at: list[int] = []
        """How much it had got when something was stored for it."""

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while received := self.other.recv(65536):
                self.got += received

    def makes_room(self) -> bool:
        if len(self.got) >= self.most:
            return False
        self.read()
        return True

    def store(self, data: bytes) -> None:
        self.stored_at.append(len(self.got))
        while data and not self.sends_later and self.makes_room():
            with contextlib.suppress(BlockingIOError):
                data = data[self.sock.send(data, socket.MSG_DONTWAIT) :]
        if data:
            super().store(data)


def read_whole(one: Stream, client: Reader, size: int) -> bool:
    """Whether anything was stored in the middle of a response of 5 MiB, in blocks of ``size``, that must come whole."""
    client.got, client.stored, client.sends_later, client.stored_at = b"", b"", False, []
    body = [b"%d" % (number % 10) * size for number in range(5 * MEGABYTE // size)]
    one.send(iter(body))
    client.read()
    rest = client.stored
    while rest:  # as the loop does later
        with contextlib.suppress(BlockingIOError):
            rest = rest[client.sock.send(rest, socket.MSG_DONTWAIT) :]
        client.read()
    chunks = [b"%x\r\n%b\r\n" % (size, block) for block in body]
    assert client.got.partition(b"\r\n\r\n")[2] == b"".join(chunks) + b"0\r\n\r\n"
    return any(1.1 * MEGABYTE < got < 2.5 * MEGABYTE for got in client.stored_at)


@pytest.mark.parametrize("size", [1000, 4096, 65536])
def test_for_a_client_that_reads_on_nothing_is_stored_once_it_has_taken_a_megabyte(
    stream: MakeStream, size: int
) -> None:
    one = stream()
    one.client.close()
    one.client = client = Reader(math.inf)
    # A block that is late, because others have the processor, is not gathered.
    assert not all(read_whole(one, client, size) for _ in range(200))


@pytest.mark.parametrize("size", [1000, 4096, 65536])
def test_of_a_client_that_stops_to_read_the_rest_is_stored(stream: MakeStream, size: int) -> None:
    one = stream()
    one.client.close()
    one.client = client = Reader(1.5 * MEGABYTE)
    for _ in range(3):
        assert read_whole(one, client, size)
