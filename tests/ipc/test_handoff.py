"""A connection passes from one process to another with its unused bytes."""

import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from wsgicluster.ipc.handoff import (
    PACKET_BYTES,
    Handed,
    Lost,
    Nudge,
    hand_over,
    nudge,
    take_over,
    unread_packet,
)
from wsgicluster.ipc.mailbox import Posted, post
from wsgicluster.worker.intake.descriptors import Descriptors

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


def test_a_connection_that_is_passed_on_unread_is_fresh(channel: Pair) -> None:
    receive, send = channel
    client, server = socket.socketpair()
    with client, server:
        assert post(send, unread_packet(3), (server.fileno(),)) is Posted.QUEUED
        taken = take_over(receive)
        assert isinstance(taken, Handed)
        with taken.sock:
            assert (taken.listener, taken.kept, taken.rest, taken.fresh, taken.placed) == (3, False, b"", True, False)


def test_the_proxy_header_arrives(channel: Pair) -> None:
    receive, send = channel
    client, server = socket.socketpair()
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
    with client, server:
        assert hand_over(send, Handed(server, 3, True, b"GET / HT", header))
        taken = take_over(receive)
        assert isinstance(taken, Handed)
        with taken.sock:
            assert (taken.proxy_header, taken.rest) == (header, b"GET / HT")


def test_nothing_there_is_none(channel: Pair) -> None:
    assert take_over(channel[0]) is None


def test_a_nudge_carries_nothing(channel: Pair) -> None:
    receive, send = channel
    nudge(send)
    assert isinstance(take_over(receive), Nudge)
    receive.close()
    nudge(send)


def test_no_reader_and_a_full_queue_are_reported(channel: Pair) -> None:
    """(Node 58)"""
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


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """This process gets no further descriptor; one that it closes it may have again."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_what_the_application_executes_does_not_inherit_a_connection(channel: Pair) -> None:
    receive, send = channel
    client, server = socket.socketpair()
    with client, server:
        assert hand_over(send, Handed(server, 3, False, b""))
        taken = take_over(receive)
        assert isinstance(taken, Handed)
        with taken.sock:
            assert not taken.sock.get_inheritable()


def test_a_connection_without_its_descriptor_is_not_taken_for_nothing(channel: Pair) -> None:
    receive, send = channel
    client, server = socket.socketpair()
    with client, server:
        assert hand_over(send, Handed(server, 3, False, b""))
        with no_descriptor_left():
            assert isinstance(take_over(receive), Lost)
        assert hand_over(send, Handed(server, 3, False, b""))
        again = take_over(receive)
        assert isinstance(again, Handed)
        again.sock.close()


def test_the_spare_descriptor_is_that_of_a_connection_that_arrives(channel: Pair) -> None:
    receive, send = channel
    client, server = socket.socketpair()
    with client, server:
        assert hand_over(send, Handed(server, 3, False, b""))
        spare = Descriptors()
        assert spare.keep_spare()
        with no_descriptor_left():
            assert spare.excess() >= 0
            spare.free_spare()
            taken = take_over(receive)
            assert isinstance(taken, Handed)
            assert not spare.keep_spare()
            taken.sock.close()
            assert spare.keep_spare()
        spare.free_spare()
        assert spare.excess() < 0, "the limit is checked again"
