"""The inbox: real signals to this process, real channels."""

import os
import signal
from collections.abc import Iterator

import pytest

from wsgicluster.arbiter.inbox import Inbox, Readable, Signalled
from wsgicluster.messages import Channel, Ready

TAKEN = (signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR1, signal.SIGINT)


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    before = {number: signal.getsignal(number) for number in TAKEN}
    wakeup = signal.set_wakeup_fd(-1)
    made = Inbox(TAKEN)
    yield made
    made.close()
    signal.set_wakeup_fd(wakeup)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_nothing_comes(inbox: Inbox) -> None:
    assert inbox.wait(0.0) == []


def test_a_signal_wakes(inbox: Inbox) -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    assert inbox.wait(5.0) == [Signalled(signal.SIGHUP)]
    assert inbox.wait(0.0) == []


def test_bursts_merge_but_each_step_counts(inbox: Inbox) -> None:
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGINT):
        os.kill(os.getpid(), number)
    came = inbox.wait(5.0)
    assert came.count(Signalled(signal.SIGHUP)) == 1
    assert came.count(Signalled(signal.SIGTTIN)) == 2
    assert came.count(Signalled(signal.SIGUSR1)) == 1
    assert came.count(Signalled(signal.SIGINT)) == 1


def test_blocked_signals_are_unblocked() -> None:
    wakeup = signal.set_wakeup_fd(-1)
    before = signal.getsignal(signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    inbox = Inbox([signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    assert inbox.wait(5.0) == [Signalled(signal.SIGUSR1)]
    inbox.close()
    signal.signal(signal.SIGUSR1, before)
    signal.set_wakeup_fd(wakeup)


def test_channels(inbox: Inbox) -> None:
    ours, theirs = Channel.pair()
    inbox.watch(ours, 7)
    assert inbox.wait(0.0) == []
    theirs.send(Ready(1.0))
    os.kill(os.getpid(), signal.SIGHUP)
    assert inbox.wait(5.0) == [Signalled(signal.SIGHUP), Readable(7)]
    assert ours.receive() == Ready(1.0)
    theirs.close()
    assert inbox.wait(5.0) == [Readable(7)]
    inbox.unwatch(ours)
    inbox.unwatch(ours)
    assert inbox.wait(0.0) == []
    ours.close()
