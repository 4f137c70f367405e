"""Where a handler of the application may raise, and where that is logged instead."""

import logging
import os
import signal
import types
from collections.abc import Iterator
from typing import Any

import pytest

from tests.worker.own_worker import Lines
from wsgicluster.worker.lifecycle.interruptions import Guard, Guards

OURS: dict[str, Any] = {"__name__": "wsgicluster.worker.sample"}
exec(
    "def cycle(call): return call()\n"
    "def other(call): return call()\n"
    "def serve(call, through=other): return through(call)\n",
    OURS,
)
SERVE, CYCLE, OTHER = OURS["serve"], OURS["cycle"], OURS["other"]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def guards(lines: Lines) -> Iterator[Guards]:
    """Installed in the test's own process, which has its functions and handlers again afterwards."""
    functions = signal.signal, signal.getsignal
    before = signal.getsignal(signal.SIGALRM)
    log = logging.Logger("interruptions")  # noqa: LOG001 - one that nothing else finds
    log.addHandler(lines)
    found = Guards(log, "worker 1")
    found.watch(frozenset((SERVE.__code__,)), frozenset((CYCLE.__code__,)))
    yield found
    signal.signal, signal.getsignal = functions
    signal.signal(signal.SIGALRM, before)


def raises(_number: int, _frame: types.FrameType | None) -> None:
    raise TimeoutError("too long")


def alarm() -> None:
    """As if the signal came now, in the application's code."""
    os.kill(os.getpid(), signal.SIGALRM)
    [].clear()  # any step at which handlers are called


def test_within_a_call_of_the_application_it_raises(guards: Guards, lines: Lines) -> None:
    guards.install()
    assert signal.signal(signal.SIGALRM, raises) is not raises
    assert signal.getsignal(signal.SIGALRM) is raises
    with pytest.raises(TimeoutError):
        SERVE(alarm, CYCLE)
    assert lines.lines == []


def test_elsewhere_while_the_worker_serves_it_is_logged(guards: Guards, lines: Lines) -> None:
    guards.install()
    signal.signal(signal.SIGALRM, raises)
    SERVE(alarm)
    (line,) = lines.lines
    assert line.endswith("handler of SIGALRM raised while none of its code ran; the worker keeps serving")


def test_before_it_serves_the_application_may_be_called_by_anything_of_ours(guards: Guards) -> None:
    guards.install()
    signal.signal(signal.SIGALRM, raises)
    with pytest.raises(TimeoutError):
        OTHER(alarm)


def test_in_code_that_is_not_called_by_us_it_raises(guards: Guards) -> None:
    guards.install()
    signal.signal(signal.SIGALRM, raises)
    with pytest.raises(TimeoutError):
        alarm()


def test_handlers_that_are_there_already_are_guarded_and_ours_are_not(guards: Guards) -> None:
    signal.signal(signal.SIGALRM, raises)
    seen = signal.getsignal
    guards.install()
    guards.install()
    assert isinstance(seen(signal.SIGALRM), Guard)
    ours = types.FunctionType(CYCLE.__code__, OURS)
    ours.__module__ = "wsgicluster.worker.sample"
    signal.signal(signal.SIGALRM, ours)
    assert seen(signal.SIGALRM) is ours
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    assert seen(signal.SIGALRM) is signal.SIG_IGN


def test_one_that_returns_is_called_as_ever(guards: Guards, lines: Lines) -> None:
    guards.install()
    called: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, _frame: called.append(number))
    SERVE(alarm)
    assert called == [signal.SIGALRM]
    assert lines.lines == []
