"""Connections that lie in a slot's mailbox and are given to others: none is lost, and none is held open here."""

import dataclasses
import os
import socket

import pytest

from wsgicluster.ipc.handoff import Handed, give_back, hand_over, take_over
from wsgicluster.ipc.mailbox import MailboxRegistry
from wsgicluster.ipc.turns import Turns

pytestmark = pytest.mark.usefixtures("no_collection")


def pair() -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def count_open() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_lies_in_a_mailbox_goes_to_the_first_with_room_as_it_is() -> None:
    mailbox, hand_off, (client, server) = pair(), pair(), socket.socketpair()
    before = count_open()
    given = Handed(server, 7, True, b"GET / HT", b"PROXY ...", fresh=True)
    for _ in range(3):
        assert hand_over(mailbox[1], given)
    assert give_back(mailbox, hand_off[1], 2) == 2
    assert give_back(mailbox, hand_off[1]) == 1
    assert give_back(mailbox, hand_off[1]) == 0
    for _ in range(3):
        found = take_over(hand_off[0])
        assert isinstance(found, Handed)
        assert (found.listener, found.kept, found.rest, found.proxy_header) == (7, True, b"GET / HT", b"PROXY ...")
        assert found.fresh
        assert found.placed, "it is not given to the same slot again"
        found.sock.close()
    assert hand_over(mailbox[1], dataclasses.replace(given, placed=True))
    assert give_back(mailbox, hand_off[1], placed=False) == 1
    found = take_over(hand_off[0])
    assert isinstance(found, Handed)
    assert not found.placed, "the workers of another server ask their own policy"
    found.sock.close()
    assert count_open() == before
    for sock in (*mailbox, *hand_off, client, server):
        sock.close()


def test_what_finds_no_room_stays_in_the_mailbox() -> None:
    mailbox, hand_off, (client, server) = pair(), pair(), socket.socketpair()
    while hand_over(hand_off[1], Handed(server, 0, False, b"x" * 32768)):
        pass
    before = count_open()
    assert hand_over(mailbox[1], Handed(server, 5, False, b"y" * 32768))
    assert give_back(mailbox, hand_off[1]) == 0
    found = take_over(mailbox[0])
    assert isinstance(found, Handed)
    assert (found.listener, found.placed) == (5, False)
    found.sock.close()
    assert count_open() == before
    for sock in (*mailbox, *hand_off, client, server):
        sock.close()


def test_all_who_have_the_file_of_turns_share_secrets_and_turns() -> None:
    first, stranger = Turns.new(), Turns.new()
    other = Turns(os.dup(first.descriptor))
    assert first.secrets() == other.secrets()
    assert first.secrets() != stranger.secrets()
    assert [first.next(), other.next(), first.next()] == [0, 1, 2]
    assert len(set(first.secrets())) == 2
    for each in (first, other, stranger):
        each.close()


def test_the_secrets_outlive_an_upgrade() -> None:
    before, after = MailboxRegistry(), MailboxRegistry()
    after.share_turns(os.dup(before.turns_fd))
    assert Turns(after.turns_fd).secrets() == Turns(before.turns_fd).secrets()
    assert not os.get_inheritable(after.turns_fd)
    before.close()
    after.close()
