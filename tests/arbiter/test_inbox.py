"""The inbox: real signals to this process, real sockets."""

import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.ipc.messages import Channel, Ready

TAKEN = (signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR1, signal.SIGINT)


class Came:
    """What was handled, by name and in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def note(self, name: str, then: Callable[[], object] = bool) -> Callable[[], None]:
        """A handler that notes this name, and does something ``then``."""

        def handle() -> None:
            self.names.append(name)
            then()

        return handle

    def taken(self) -> list[str]:
        """What came since this was last asked."""
        names, self.names = self.names, []
        return names


@pytest.fixture
def came() -> Came:
    return Came()


@pytest.fixture
def inbox(came: Came) -> Iterator[Inbox]:
    before = {number: signal.getsignal(number) for number in TAKEN}
    wakeup = signal.set_wakeup_fd(-1)
    made = Inbox({number: came.note(number.name) for number in TAKEN})
    yield made
    made.close()
    signal.set_wakeup_fd(wakeup)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_nothing_comes(inbox: Inbox, came: Came) -> None:
    assert inbox.wait(0.0) == 0
    inbox.handle()
    assert came.taken() == []


def test_a_signal_wakes_and_is_handled_once(inbox: Inbox, came: Came) -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    assert inbox.wait(5.0)
    assert came.taken() == [], "not before the loop comes to it"
    inbox.handle()
    assert came.taken() == ["SIGHUP"]
    assert inbox.wait(0.0) == 0


def test_bursts_merge_but_each_step_counts(inbox: Inbox, came: Came) -> None:
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGINT):
        os.kill(os.getpid(), number)
    inbox.wait(5.0)
    inbox.handle()
    assert came.taken() == ["SIGHUP", "SIGTTIN", "SIGUSR1", "SIGTTIN", "SIGINT"]


def test_blocked_signals_are_unblocked(came: Came) -> None:
    wakeup = signal.set_wakeup_fd(-1)
    before = signal.getsignal(signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    inbox = Inbox({signal.SIGUSR1: came.note("USR1")})
    os.kill(os.getpid(), signal.SIGUSR1)
    inbox.wait(5.0)
    inbox.handle()
    assert came.taken() == ["USR1"]
    inbox.close()
    signal.signal(signal.SIGUSR1, before)
    signal.set_wakeup_fd(wakeup)


def test_signals_are_handled_before_what_can_be_read(inbox: Inbox, came: Came) -> None:
    ours, theirs = Channel.pair()
    inbox.watch(ours, came.note("channel", lambda: received.append(ours.receive())))
    received: list[object] = []
    theirs.send(Ready(1.0))
    os.kill(os.getpid(), signal.SIGHUP)
    inbox.wait(5.0)
    inbox.handle()
    assert came.taken() == ["SIGHUP", "channel"]
    assert received == [Ready(1.0)]
    ours.close()
    theirs.close()


def test_a_source_is_handled_until_it_is_unwatched(
    inbox: Inbox, came: Came, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    inbox.watch(ours, came.note("source"))
    for _ in range(2):  # as long as there is something to read
        theirs.send(b"1")
        inbox.wait(5.0)
        inbox.handle()
        assert came.taken() == ["source"]
    inbox.unwatch(ours)
    inbox.unwatch(ours)
    assert inbox.wait(0.0) == 0
    inbox.watch(ours, came.note("another"))
    theirs.close()
    inbox.wait(5.0)
    inbox.handle()
    assert came.taken() == ["another"], "its end can be read, too"


def test_what_a_handler_unwatches_is_not_handled_any_more(inbox: Inbox, came: Came) -> None:
    """Not even if the next source has got the same descriptor meanwhile."""
    pairs = [socket.socketpair() for _ in range(2)]
    (first, first_peer), (second, second_peer) = pairs
    ends = {first: second, second: first}
    new: list[socket.socket] = []

    def replace(own: socket.socket) -> None:
        other = ends[own]
        inbox.unwatch(own)
        inbox.unwatch(other)
        number = other.fileno()
        other.close()
        new.extend(socket.socketpair())
        assert number in [each.fileno() for each in new], "the lowest number that is free"
        inbox.watch(next(each for each in new if each.fileno() == number), came.note("new"))

    for own in ends:
        inbox.watch(own, came.note("old", lambda own=own: replace(own)))  # type: ignore[misc]
    first_peer.send(b"1")
    second_peer.send(b"1")
    assert inbox.wait(5.0) == 2
    inbox.handle()
    assert came.taken() == ["old"]
    for each in (*new, first, first_peer, second, second_peer):
        each.close()


def test_a_handler_that_fails_leaves_the_others_to_the_next_turn(inbox: Inbox, came: Came) -> None:
    pairs = [socket.socketpair() for _ in range(3)]

    def fail() -> None:
        raise LookupError("a fault")

    for ours, theirs in pairs:
        inbox.watch(ours, came.note("failed", fail))
        theirs.send(b"1")
    assert inbox.wait(5.0) == 3
    for _ in pairs:
        with pytest.raises(LookupError):
            inbox.handle()
    inbox.handle()
    assert came.taken() == ["failed"] * 3
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
