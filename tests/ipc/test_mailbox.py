"""Mailboxes: what a child gets of them, and what it learns when they come and go."""

import os
import socket
from collections.abc import Iterator

import pytest

from wsgicluster.ipc.handoff import Handed, hand_over, take_over
from wsgicluster.ipc.mailbox import Mailboxes, MailboxRegistry, Posted, post, reply_pair
from wsgicluster.ipc.messages import MOST_DESCRIPTORS, Channel, MailboxesChanged

pytestmark = pytest.mark.usefixtures("no_collection")


@pytest.fixture
def registry() -> Iterator[MailboxRegistry]:
    made = MailboxRegistry()
    before = count()
    yield made
    for name in list(made.known()):
        made.close_one(name)
    assert count() == before
    made.close()


def count() -> int:
    return len(os.listdir("/proc/self/fd"))


def own_copy(registry: MailboxRegistry, name: int | str) -> Mailboxes:
    """As in another process, to which the descriptors were sent."""
    names, descriptors = registry.share(name).packed()
    return Mailboxes.unpacked(names, [os.dup(number) for number in descriptors])


def test_each_child_reads_its_own_and_writes_to_all(registry: MailboxRegistry) -> None:
    registry.keep_slots([1, 2])
    registry.open("steward")
    first, second, steward = (own_copy(registry, name) for name in (1, 2, "steward"))
    assert first.messages.keys() == {1, 2, "steward"}
    assert first.connections.keys() == {1, 2}
    assert steward.connections_inbox is None
    for name, reader in ((1, first), (2, second), ("steward", steward)):
        assert post(first.messages[name], b"to %r" % str(name).encode()) is Posted.QUEUED
        assert reader.messages_inbox.recv(100) == b"to %r" % str(name).encode()
    for each in (first, second, steward):
        each.close()
        each.close()


def test_what_lies_in_a_mailbox_outlives_its_reader(registry: MailboxRegistry) -> None:
    first, reader = own_copy(registry, 1), own_copy(registry, 2)
    registry_sender = registry.share(1).messages[2]
    assert post(registry_sender, b"for the next one") is Posted.QUEUED
    reader.close()
    successor = own_copy(registry, 2)
    assert successor.messages_inbox.recv(100) == b"for the next one"
    first.close()
    successor.close()


def test_a_full_mailbox_is_an_answer_and_a_closed_one_too(registry: MailboxRegistry) -> None:
    """(Node 95)"""
    registry.open(1)
    mine = registry.share(1)
    taken = 0
    while post(mine.messages[1], b"x" * 1000) is Posted.QUEUED:
        taken += 1
    assert taken > 10
    assert post(mine.messages[1], b"x") is Posted.FULL
    receive, send = reply_pair()
    receive.close()
    assert post(send, b"x") is Posted.GONE
    send.close()
    assert post(send, b"x") is Posted.GONE


def test_connections_travel_as_those_of_the_common_hand_off(registry: MailboxRegistry) -> None:
    mine = own_copy(registry, 1)
    client, server = socket.socketpair()
    with client:
        assert hand_over(mine.connections[1], Handed(server, 7, kept=True, rest=b"GET"))
        server.close()
        assert mine.connections_inbox is not None
        handed = take_over(mine.connections_inbox)
        assert isinstance(handed, Handed)
        assert (handed.listener, handed.kept, handed.rest) == (7, True, b"GET")
        handed.sock.close()
    mine.close()


def test_a_child_is_told_of_changes_over_its_channel(registry: MailboxRegistry) -> None:
    registry.keep_slots([1, 2])
    mine, known = own_copy(registry, 1), registry.known()
    ours, theirs = Channel.pair()
    assert registry.changes(known) == []
    registry.keep_slots([1, 3])
    registry.open("jobs")
    before = count()
    for change in registry.changes(known):
        assert ours.send(change)
        received = theirs.receive()
        assert isinstance(received, MailboxesChanged)
        assert mine.apply(received) == []
    assert mine.messages.keys() == {1, 3, "jobs"}
    assert mine.connections.keys() == {1, 3}
    assert count() == before - 2 + 3, "those of slot 2 are closed, those of slot 3 and the jobs worker are open"
    assert post(mine.messages["jobs"], b"x") is Posted.QUEUED
    for channel in (ours, theirs):
        channel.close()
    mine.close()


def test_a_slot_that_comes_back_has_new_mailboxes(registry: MailboxRegistry) -> None:
    registry.keep_slots([1, 2])
    known = registry.known()
    registry.keep_slots([1])
    registry.keep_slots([1, 2])
    (change,) = registry.changes(known)
    assert change.opened == [2]
    assert len(change.descriptors) == 2


def test_a_mold_takes_over_what_is_made_after_its_fork(registry: MailboxRegistry) -> None:
    registry.keep_slots([1, 2])
    opened, closed, descriptors = registry.news({})
    mold = MailboxRegistry()
    mold.adopt(opened, closed, [os.dup(number) for number in descriptors])
    known = registry.known()
    registry.keep_slots([2, 3])
    registry.open("jobs")
    opened, closed, descriptors = registry.news(known)
    assert (opened, closed, len(descriptors)) == ([3, "jobs"], [1], 4 + 2)
    mold.adopt(opened, closed, [os.dup(number) for number in descriptors])
    assert mold.known().keys() == {2, 3, "jobs"}
    assert post(registry.share(2).messages[3], b"to the worker of a mold") is Posted.QUEUED
    assert mold.share(3).messages_inbox.recv(100) == b"to the worker of a mold"
    assert registry.news(registry.known()) == ([], [], [])
    mold.close()


def test_many_slots_are_told_in_several_messages(registry: MailboxRegistry) -> None:
    registry.keep_slots(range(1, 151))
    changes = registry.changes({})
    assert [slot for change in changes for slot in change.opened] == list(range(1, 151))
    assert all(len(change.descriptors) <= MOST_DESCRIPTORS for change in changes)


def test_lost_descriptors_are_noticed_and_none_stays_open(registry: MailboxRegistry) -> None:
    registry.keep_slots([1, 2, 3])
    mine = own_copy(registry, 1)
    before = count()
    copies = [os.dup(mine.messages_inbox.fileno()) for _ in range(3)]
    assert mine.apply(MailboxesChanged([4, 5, "jobs"], [], copies)) == [5, "jobs"]
    assert count() == before + 2
    mine.close()


def test_the_arbiter_takes_no_descriptors_from_its_children() -> None:
    ours, theirs = Channel.pair()
    before = count()
    assert theirs.send(MailboxesChanged([1], [], [0, 1]))
    received = ours.receive()
    assert isinstance(received, MailboxesChanged)
    assert received.descriptors == []
    assert count() == before
    ours.close()
    theirs.close()


def test_the_limit_on_open_files_is_raised_for_many_slots() -> None:
    """More mailboxes than the usual soft limit leaves room for; in a process of its own, which it concerns."""
    import subprocess
    import sys

    text = (
        "import resource; from wsgicluster.ipc.mailbox import MailboxRegistry\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 400))\n"
        "made = MailboxRegistry(); made.keep_slots(range(1, 41)); print(len(made.known()))\n"
        "try: made.keep_slots(range(1, 200))\n"
        "except OSError as error: print(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["40", "24"], done.stderr
