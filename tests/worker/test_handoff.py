"""A connection passes from one process to another with its unused bytes."""

import socket
from collections.abc import Iterator

import pytest

from wsgicluster.worker.handoff import PACKET_BYTES, Handed, Nudge, hand_over, nudge, take_over

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    receive, send = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    receive.setblocking(False)
    send.setblocking(False)
    with receive, send:
        yield receive, send


def test_the_descriptor_and_the_bytes_arrive(channel: Pair) -> None:
    receive, send = channel
    client, server = socket.socketpair()
    with client, server:
        client.sendall(b"not read yet")
        assert hand_over(send, Handed(server, 3, True, b"GET / HT"))
        server.close()
        taken = take_over(receive)
        assert isinstance(taken, Handed)
        with taken.sock:
            assert (taken.listener, taken.kept, taken.rest) == (3, True, b"GET / HT")
            assert taken.sock.recv(100) == b"not read yet"
            assert taken.sock.gettimeout() == 0.0


def test_what_a_proxy_said_arrives(channel: Pair) -> None:
    receive, send = channel
    client, server = socket.socketpair()
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
    with client, server:
        assert hand_over(send, Handed(server, 3, True, b"GET / HT", header))
        taken = take_over(receive)
        assert isinstance(taken, Handed)
        with taken.sock:
            assert (taken.introduction, taken.rest) == (header, b"GET / HT")


def test_nothing_there_is_none(channel: Pair) -> None:
    assert take_over(channel[0]) is None


def test_a_nudge_carries_nothing(channel: Pair) -> None:
    receive, send = channel
    nudge(send)
    assert isinstance(take_over(receive), Nudge)
    receive.close()
    nudge(send)


def test_nobody_there_and_a_full_queue_are_told(channel: Pair) -> None:
    receive, send = channel
    client, server = socket.socketpair()
    with client, server:
        handed = Handed(server, 0, False, b"x" * 32768)
        sent = 0
        while hand_over(send, handed):
            sent += 1
            assert sent < 1000
        assert sent > 0
        receive.close()
        assert not hand_over(send, handed)


def test_more_unused_bytes_than_a_packet_holds_stay(channel: Pair) -> None:
    client, server = socket.socketpair()
    with client, server:
        assert not hand_over(channel[1], Handed(server, 0, False, b"x" * PACKET_BYTES))
