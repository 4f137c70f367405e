"""An upgrade as the old server sees it: the new one is a real process that says what a test wants."""

import json
import logging
import os
import pathlib
import signal
import socket
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import wait_until
from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.arbiter.postmortem.diagnosis import Exit
from wsgicluster.arbiter.service.launch import HandOff, Origin, Passed, Predecessor
from wsgicluster.arbiter.upgrade.channel import UpgradeChannel, UpgradeMessage
from wsgicluster.arbiter.upgrade.upgrade import Happened, Upgrade, report_failure
from wsgicluster.errors import ServerError
from wsgicluster.ipc.shared_files import SharedFilesOwner

SPEAKER = """
import json, os, socket, sys
given = json.loads(os.environ["WSGICLUSTER_UPGRADE"])
channel = socket.socket(fileno=given["predecessor"]["bond"])
for packet in json.loads(sys.argv[1]):
    channel.send(json.dumps(packet).encode())
while channel.recv(65536):
    pass
"""
PASSED = (Passed(0, "127.0.0.1:80", number=1), Passed(0, "127.0.0.1:81", number=2))


class Old:
    """The old server's side, and all that it has logged."""

    def __init__(self, folder: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
        self.folder, self.caplog = folder, caplog
        self.inbox = Inbox({})
        self.log = logging.getLogger("tests.upgrade")
        self.log.setLevel(logging.INFO)
        self.upgrade = Upgrade(Origin(), self.inbox, self.log)
        self.pid = 0
        self.ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.shared_files = SharedFilesOwner.create(str(folder))

    def start(self, *packets: dict[str, object], command: tuple[str, ...] = ()) -> int | None:
        """Start a new server that sends these packets."""
        origin = Origin(
            command=command or (sys.executable, "-c", SPEAKER, json.dumps(packets)),
            directory=str(self.folder),
            environ=dict(os.environ),
        )
        self.upgrade = Upgrade(origin, self.inbox, self.log)
        self.pid = self.start_by(self.upgrade) or 0
        return self.pid or None

    def start_by(self, upgrade: Upgrade) -> int | None:
        """Have a new server started on the listeners, hand-off socket and shared files of this one."""
        hand_off = HandOff(self.ends[0].fileno(), self.ends[1].fileno(), "kind")
        with self.shared_files.passed() as shared_files:
            return upgrade.start(PASSED, hand_off, shared_files, "SIGUSR2")

    def happened(self, expected: Happened) -> bool:
        self.inbox.wait(0.1)
        self.inbox.handle()
        return expected in self.upgrade.happened

    def end(self) -> None:
        """End the new server, and take in that it has exited."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0
        self.upgrade.ended(Exit(0, signal.SIGKILL, 0))

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self.upgrade.peer is not None:
            self.inbox.unwatch(self.upgrade.peer.channel)
            self.upgrade.peer.channel.close()
        self.inbox.close()
        self.shared_files.close()
        for end in self.ends:
            end.close()


@pytest.fixture
def old(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> Iterator[Old]:
    caplog.set_level(logging.INFO)
    made = Old(tmp_path, caplog)
    yield made
    made.close()


def until_serving(old: Old) -> None:
    def serves() -> bool:
        old.inbox.wait(0.1)
        old.inbox.handle()
        return old.upgrade.serves_elsewhere

    wait_until(serves, 20, "the new server serves")


def test_a_new_server_that_serves(old: Old) -> None:
    pid = old.start({"kept": [1]}, {"hand_off": True}, {"serving": True, "surprise": 1})
    assert old.upgrade.successor == pid
    assert old.upgrade.predecessor is None
    assert old.upgrade.shared == {1, 2}, "as long as it has said nothing, it may have all"
    until_serving(old)
    assert old.upgrade.takes_connections
    assert old.upgrade.shared == {1}
    assert old.upgrade.is_shared(PASSED[0])
    assert not old.upgrade.is_shared(PASSED[1])
    assert f"The new server (pid {pid}) serves: TERM to this one (pid {os.getpid()})" in old.caplog.text
    old.upgrade.hand_over()
    old.upgrade.still_keep({2})
    assert old.upgrade.shared == set()
    old.upgrade.tell_serving(False)
    assert old.upgrade.pidfile("/run/x.pid") == "/run/x.pid"


def test_only_one_at_a_time(old: Old) -> None:
    pid = old.start({"serving": True})
    assert old.start_by(old.upgrade) is None
    assert f"an upgrade is under way (pid {pid})" in old.caplog.text


def test_a_new_server_that_has_served_and_ends(old: Old) -> None:
    pid = old.start({"serving": True}, {"leaving": True})
    until_serving(old)
    wait_until(lambda: old.happened(Happened.LEAVING), 20)
    old.end()
    assert Happened.LOST in old.upgrade.happened
    assert f"The new server (pid {pid}) has exited (signal SIGKILL); this one keeps serving" in old.caplog.text
    assert old.upgrade.successor is None
    old.upgrade.ended(Exit(0, 0, 0))  # of which nothing is known any more


def test_a_new_server_that_cannot_start(old: Old) -> None:
    pid = old.start({"error": "bind: port in use"})
    wait_until(lambda: old.happened(Happened.LOST) or _has_error(old), 20)
    old.end()
    assert f"The new server (pid {pid}) cannot start (signal SIGKILL: bind: port in use); this one" in old.caplog.text


def _has_error(old: Old) -> bool:
    return old.upgrade.peer is not None and bool(old.upgrade.peer.error)


def test_a_command_that_cannot_be_executed(old: Old) -> None:
    pid = old.start(command=("/no/such/program",))
    assert pid is not None
    _, status = os.waitpid(pid, 0)
    old.pid = 0
    old.upgrade.ended(Exit(os.waitstatus_to_exitcode(status), 0, 0))
    assert "cannot start (exit code 126: cannot execute /no/such/program in" in old.caplog.text


def test_a_command_that_is_not_known(old: Old) -> None:
    assert old.start_by(old.upgrade) is None
    assert "the command that has started this one is not known" in old.caplog.text


@pytest.fixture
def new(old: Old) -> Iterator[tuple[Upgrade, UpgradeChannel]]:
    """The side of a new server, and the old server's end of the channel."""
    ours, theirs = UpgradeChannel.pair()
    ends = HandOff(os.dup(old.ends[0].fileno()), os.dup(old.ends[1].fileno()), "kind")
    before = Predecessor(4711, os.dup(ours.fileno()), ends)
    ours.close()
    upgrade = Upgrade(Origin(passed=PASSED, predecessor=before), old.inbox, old.log)
    yield upgrade, theirs
    theirs.close()
    upgrade.read()


@pytest.mark.parametrize(("kind", "shares"), [("kind", True), ("another", False)])
def test_what_a_new_server_keeps(new: tuple[Upgrade, UpgradeChannel], kind: str, shares: bool) -> None:
    upgrade, other = new
    assert upgrade.pidfile("x") == "x.2"
    ends = upgrade.keep(PASSED, kind)
    assert (ends is not None) is shares
    for end in ends or ():
        end.close()
    assert other.receive() == UpgradeMessage(kept=(1, 2), hand_off=shares)


def test_a_new_server_that_is_to_stop_waits_for_the_old_one(new: tuple[Upgrade, UpgradeChannel]) -> None:
    upgrade, other = new
    for end in upgrade.keep(PASSED, "kind") or ():
        end.close()
    assert not upgrade.call_back(), "the old one serves"
    other.send(UpgradeMessage(serving=False))
    upgrade.read()
    assert upgrade.call_back()
    other.receive()
    assert other.receive() == UpgradeMessage(leaving=True)
    other.send(UpgradeMessage(serving=True))
    other.send(UpgradeMessage(main=True))
    upgrade.read()
    other.close()
    upgrade.read()
    assert list(upgrade.happened) == [Happened.REPLACED, Happened.MAIN, Happened.ALONE, Happened.REPLACED]
    assert upgrade.former == 4711
    assert upgrade.keep(PASSED, "kind") is None


def test_no_old_server_can_be_reached(old: Old) -> None:
    lost = Origin(predecessor=Predecessor(4711, 900, HandOff(0, 1, "kind")))
    with pytest.raises(ServerError, match="the server before this one cannot be reached"):
        Upgrade(lost, old.inbox, old.log)
    report_failure(lost, ServerError("x"))
    report_failure(Origin(), ServerError("x"))


def test_why_a_new_server_cannot_start_is_reported() -> None:
    ours, theirs = UpgradeChannel.pair()
    report_failure(Origin(predecessor=Predecessor(1, os.dup(ours.fileno()), HandOff(0, 1, ""))), ServerError("no bind"))
    assert theirs.receive() == UpgradeMessage(error="no bind")
    ours.close()
    theirs.close()
