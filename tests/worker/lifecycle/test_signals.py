"""A worker's signals: what their handlers do to it, before there is a loop and after."""

import faulthandler
import os
import pathlib
import signal
import sys
from collections.abc import Iterator
from operator import methodcaller

import pytest

from wsgicluster.ipc.scoreboard import Scoreboard
from wsgicluster.system.signals import IGNORED_BY_WORKERS
from wsgicluster.worker.lifecycle.signals import WorkerSignals
from wsgicluster.worker.loop.loop import Loop

TAKEN = (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGABRT)


class Receiver:
    """A worker as far as signals reach it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin_drain(self) -> None:
        self.told.append("drain")

    def flush_logs(self) -> None:
        self.told.append("flush")

    def rescue(self) -> None:
        self.told.append("rescue")


@pytest.fixture
def signals(tmp_path: pathlib.Path) -> Iterator[WorkerSignals]:
    """Installed in the test's own process, which has its handlers again afterwards."""
    numbers = (*TAKEN, *IGNORED_BY_WORKERS, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    stacks = os.open(tmp_path / "stacks", os.O_RDWR | os.O_CREAT)
    found = WorkerSignals(stacks)
    found.install()
    yield found
    found.forget()
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(stacks)
    faulthandler.enable(sys.__stderr__ or 2)


@pytest.fixture
def loop() -> Iterator[Loop]:
    board = Scoreboard(None)
    found = Loop(board.take(1, 1), 0.0)
    yield found
    found.close()
    board.close()


def turn(loop: Loop) -> None:
    loop.turn(methodcaller("expired"))


def test_term_wakes_the_loop_and_drains(signals: WorkerSignals, loop: Loop) -> None:
    receiver = Receiver()
    signals.join(loop, receiver)
    assert receiver.told == []
    os.kill(os.getpid(), signal.SIGTERM)
    turn(loop)
    assert (receiver.told, signals.drain_wanted) == (["drain"], True)


def test_term_before_there_is_a_loop_is_not_lost(signals: WorkerSignals, loop: Loop) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    receiver = Receiver()
    signals.join(loop, receiver)
    assert receiver.told == ["drain"]
    turn(loop)


def test_usr1_asks_for_new_log_files(signals: WorkerSignals, loop: Loop) -> None:
    signals.join(loop, Receiver())
    os.kill(os.getpid(), signal.SIGUSR1)
    turn(loop)
    assert signals.reopen


@pytest.mark.parametrize(
    ("number", "told", "code"), [(signal.SIGQUIT, "flush", 0), (signal.SIGABRT, "rescue", 1)], ids=["quit", "abrt"]
)
def test_what_ends_the_process_is_preceded_by_the_least(
    signals: WorkerSignals, loop: Loop, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, told: str, code: int
) -> None:
    receiver, codes = Receiver(), list[int]()
    signals.join(loop, receiver)
    monkeypatch.setattr("wsgicluster.system.forks.end_children", lambda: receiver.told.append("children"))
    monkeypatch.setattr(os, "_exit", codes.append)
    os.kill(os.getpid(), number)
    assert (receiver.told, codes) == ([told, "children"], [code])
    turn(loop)


def test_abrt_while_it_boots_is_explained(signals: WorkerSignals, monkeypatch: pytest.MonkeyPatch) -> None:
    told, codes = list[str](), list[int]()
    signals.explain(lambda: told.append("stacks"))
    monkeypatch.setattr("wsgicluster.system.forks.end_children", lambda: None)
    monkeypatch.setattr(os, "_exit", codes.append)
    os.kill(os.getpid(), signal.SIGABRT)
    assert (told, codes) == (["stacks"], [1])


def test_what_is_meant_for_the_arbiter_does_nothing(signals: WorkerSignals) -> None:
    for number in IGNORED_BY_WORKERS:
        os.kill(os.getpid(), number)
    assert not signals.drain_wanted


def test_signals_that_the_application_has_taken_are_taken_back(signals: WorkerSignals) -> None:
    assert signals.reinstall() == []
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signals.reinstall() == ["SIGTERM"]
    assert signals.reinstall() == []
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.drain_wanted
