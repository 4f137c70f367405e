"""The link to a child that has exited: what is sent to it raises nothing out of the loop.

(Node 94: v0.x issue 8792)
"""

import contextlib
import os
import pathlib
import signal
import socket
from collections.abc import Iterator

import pytest

from wsgicluster.arbiter.children import mold
from wsgicluster.arbiter.children.event_outbox import EventOutbox
from wsgicluster.arbiter.children.link import ChildLink
from wsgicluster.arbiter.plan.child import Child
from wsgicluster.arbiter.upgrade.channel import UpgradeChannel, UpgradeChannelClosed, UpgradeMessage
from wsgicluster.ipc.events import ForkEvent
from wsgicluster.ipc.mailbox import MailboxRegistry
from wsgicluster.ipc.messages import Channel, ListenersEnd, Ready
from wsgicluster.ipc.nudge import nudge
from wsgicluster.ipc.scoreboard import Scoreboard
from wsgicluster.logs.logs import LogOptions, Logs


@pytest.fixture
def registry() -> Iterator[MailboxRegistry]:
    made = MailboxRegistry()
    made.keep_slots((1,))
    yield made
    made.keep_slots(())
    os.close(made.retained_fd)
    os.close(made.turns_fd)


@pytest.fixture(params=["it has read all", "it has not", "it has reset"])
def link(request: pytest.FixtureRequest, tmp_path: pathlib.Path, registry: MailboxRegistry) -> Iterator[ChildLink]:
    """One whose other end is closed; with what lay in it unread, the next call gets ECONNRESET and not EPIPE."""
    board = Scoreboard(str(tmp_path))
    ours, theirs = Channel.pair()
    child = Child(1, 1, 1, 0.0, pid=os.posix_spawn("/bin/true", ["/bin/true"], {}))
    made = ChildLink(child, board.take(1, 1), ours, os.memfd_create("stacks"))
    made.note_mailboxes(registry)
    made.listeners = {1, 2, 3}
    if request.param == "it has reset":
        theirs.send(Ready(1.0))
    if request.param != "it has read all":
        made.raise_memory_limit(1)
    theirs.close()
    os.waitpid(child.pid, 0)
    yield made
    made.close()
    board.close()


def test_what_is_sent_to_it(link: ChildLink, registry: MailboxRegistry) -> None:
    """(Node 94)"""
    for _ in range(2):  # also when it is known already
        link.raise_memory_limit(7)
        link.end_listeners({1})
        link.end_listeners(())
        registry.keep_slots((1, 2, 3))
        link.update_mailboxes(registry)
        registry.keep_slots((1,))
        link.update_mailboxes(registry)
        link.signal(signal.SIGTERM)
        assert all(isinstance(message, Ready) for message in link.messages())
        assert link.is_closed


def test_orders_to_a_mold(link: ChildLink, registry: MailboxRegistry) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    link.orders = ours
    registry.keep_slots((2,))
    link.update_mailboxes(registry)
    with pytest.raises(OSError, match="Broken pipe"):  # of which the supervisor makes a worker that is not started
        mold.send_closed(ours, [1])


def test_the_channel_to_a_new_server() -> None:
    ours, theirs = UpgradeChannel.pair()
    theirs.send(UpgradeMessage(serving=True))
    theirs.close()
    assert not ours.send(UpgradeMessage(main=True))
    with contextlib.suppress(UpgradeChannelClosed):
        assert ours.receive() == UpgradeMessage(serving=True)
    with pytest.raises(UpgradeChannelClosed):
        ours.receive()
    assert not ours.send(UpgradeMessage(main=True))
    ours.close()


def test_events_and_nudges_without_a_reader(tmp_path: pathlib.Path) -> None:
    """(Node 94)"""
    logs = Logs(LogOptions(errorlog=str(tmp_path / "log")))
    outbox = EventOutbox(logs.error)
    outbox.open()
    outbox.receive_end.close()
    outbox.add(ForkEvent(at=0.0, role="worker", slot=1, generation=1, pid=1))
    outbox.send()
    outbox.close()
    receive, send = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    receive.close()
    nudge(send)
    send.close()
    logs.error.handlers.clear()


def test_listeners_end_for_a_child_that_does_not_read_once_it_does(tmp_path: pathlib.Path) -> None:
    board = Scoreboard(str(tmp_path))
    ours, theirs = Channel.pair()
    link = ChildLink(Child(1, 1, 1, 0.0), board.take(1, 1), ours, os.memfd_create("stacks"))
    link.listeners = {1, 2}
    sent = 0
    while ours.send(Ready(1.0)):
        sent += 1
    for _ in range(2):
        link.end_listeners({1})
        assert link.listeners == {1, 2}
    assert [theirs.receive() for _ in range(sent)] == [Ready(1.0)] * sent
    for _ in range(2):
        link.end_listeners({1})
    assert (theirs.receive(), theirs.receive(), link.listeners) == (ListenersEnd([2]), None, {1})
    theirs.close()
    link.close()
    board.close()


def test_of_long_stacks_the_end_is_read_and_they_are_forgotten_when_they_are_too_long(tmp_path: pathlib.Path) -> None:
    board = Scoreboard(str(tmp_path))
    ours, theirs = Channel.pair()
    link = ChildLink(Child(1, 1, 1, 0.0), board.take(1, 1), ours, os.memfd_create("stacks"))
    os.write(link.stacks_fd, b"a" * 300_000 + b"\0\0the end")
    assert link.stacks().endswith("aathe end")
    assert len(link.stacks()) < 300_000
    link.limit_stacks(400_000)
    assert link.stacks().endswith("the end")
    link.limit_stacks(1000)
    os.write(link.stacks_fd, b"anew")
    assert link.stacks() == "anew"
    os.write(link.stacks_fd, b"a" * 1000 + b"\nFatal Python error: Segmentation fault\n")
    link.limit_stacks(1000)
    assert "Segmentation fault" in link.stacks(), "the record of the crash is still to be made"
    theirs.close()
    link.close()
    board.close()
