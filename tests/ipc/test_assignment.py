"""What a child gets at the fork makes it a member of the cluster, with the settings that members need."""

import os
import socket
from collections.abc import Iterator

import pytest

from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.mailbox import MailboxRegistry
from wsgicluster.ipc.membership import Role
from wsgicluster.ipc.messages import Channel
from wsgicluster.ipc.scoreboard import Scoreboard
from wsgicluster.ipc.shared_files import SharedFiles
from wsgicluster.settings import Settings


@pytest.fixture
def assignment() -> Iterator[Assignment]:
    registry, board = MailboxRegistry(), Scoreboard(None)
    registry.keep_slots({2})
    receive, send = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, theirs = Channel.pair()
    files = SharedFiles(-1, -1, "", "")
    yield Assignment(
        2, 3, board.take(2, 3), board, theirs, (), receive, send, -1, mailboxes=registry.share(2), shared_files=files
    )
    for end in (receive, send, ours, theirs, registry, board):
        end.close()


@pytest.mark.parametrize(("role", "elsewhere"), [("worker", True), ("jobs", False)])
def test_a_member_has_what_it_was_assigned_and_the_settings(
    assignment: Assignment, role: Role, elsewhere: bool
) -> None:
    settings = Settings(bus="redis://b", store="redis://s", node_name="n", timeout=7, jobs_worker=True)
    member = assignment.membership(role, settings)
    assert (member.role, member.slot, member.generation, member.pid) == (role, 2, 3, os.getpid())
    assert (member.page, member.board, member.channel) == (assignment.page, assignment.board, assignment.channel)
    assert member.seat == assignment.page.index
    assert (member.bus, member.store, member.node_name, member.timeout_s) == ("redis://b", "redis://s", "n", 7)
    assert member.store_size == settings.store_size
    assert member.jobs_elsewhere is elsewhere
