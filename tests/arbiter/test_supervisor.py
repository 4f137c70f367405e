"""Supervision when the system has no room for a child: said, waited for, and over when it is over."""

import contextlib
import errno
import logging
import os
import pathlib
import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest

from wsgicluster.arbiter.autopsy import Exit
from wsgicluster.arbiter.backoff import WAITS_S
from wsgicluster.arbiter.child import Child, Input
from wsgicluster.arbiter.family import Family
from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.arbiter.pool import Spawn
from wsgicluster.arbiter.roles import Roles
from wsgicluster.arbiter.supervisor import Supervisor
from wsgicluster.logs import LogOptions, Logs
from wsgicluster.messages import BootFailed, Forked, Message
from wsgicluster.process import DUMP_SIGNAL
from wsgicluster.scoreboard import Facts, Scoreboard
from wsgicluster.settings import Settings, TcpAddress


class Hands:
    """A clock whose hands are moved by the test; the one on the wall runs backwards."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 - 2 * self.now


class Crowded(Family):
    """A family on a machine that has no room, until ``refusal`` is None: no process is made."""

    refusal: BaseException | None = None
    due = 0.0
    """The beat deadline of all children."""

    asked_at: list[float]
    sent: list[int]

    def spawn(self, order: Spawn, settings: Settings, now: float) -> Child:
        self.asked_at.append(now)
        if self.refusal is not None:
            raise self.refusal
        child = Child(len(self.asked_at), order.slot, order.generation, now, order.role)
        child.take(Input.STARTED)
        child.pid = os.getpid()
        return child

    def takes_requests(self, child: Child) -> bool:
        return False

    def facts(self, child: Child) -> Facts | None:
        return None

    def deadline(self, child: Child) -> float:
        return self.due

    def signal(self, child: Child, number: int) -> None:
        self.sent.append(number)


@pytest.fixture
def kind() -> type[Crowded]:
    return Crowded


@pytest.fixture
def crowded(tmp_path: pathlib.Path, kind: type[Crowded]) -> Iterator[tuple[Supervisor, Crowded, Hands, pathlib.Path]]:
    with contextlib.ExitStack() as owned:
        board = Scoreboard(str(tmp_path))
        owned.callback(board.close)
        inbox = Inbox(())
        owned.callback(inbox.close)
        log = tmp_path / "log"
        logs = Logs(LogOptions(errorlog=str(log)))
        family = kind(board, inbox, Roles(boot_worker=_never, load_application=_never), logs)
        owned.callback(family.close)
        family.asked_at, family.sent = [], []
        hands = Hands()
        supervisor = Supervisor(family, logs, hands)
        owned.callback(supervisor.close)
        yield supervisor, family, hands, log
        logging.getLogger("wsgicluster.error").handlers.clear()


def _never(*_: object) -> NoReturn:
    raise AssertionError("nobody is born here")


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "Cannot allocate memory"),
        (OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "Resource temporarily unavailable"),
        (MemoryError(), "out of memory"),
    ],
)
def test_no_room_for_a_child(
    crowded: tuple[Supervisor, Crowded, Hands, pathlib.Path], refusal: BaseException, reason: str
) -> None:
    supervisor, family, hands, log = crowded
    family.refusal = refusal
    supervisor.begin(Settings(wsgi_app="app", bind=(TcpAddress("127.0.0.1", 0),), workers=1), ())
    for _ in range(12):
        supervisor.carry_out()
        supervisor.carry_out()
        due = supervisor.next_due()
        assert due > hands.now, "no busy loop"
        hands.now = due
    waits = [after - before for before, after in zip(family.asked_at, family.asked_at[1:], strict=False)]
    assert waits[:7] == [wait for wait in WAITS_S if wait]
    assert set(waits[7:]) == {WAITS_S[-1]}
    lines = log.read_text().splitlines()
    assert len(lines) == 12
    assert f"Worker 1 cannot be made ({reason}), next try in 0.5 s; degraded: 0 of 1 workers serve" in lines[0]
    assert "next try in 30 s" in lines[-1]
    family.refusal = None
    supervisor.carry_out()
    assert len(supervisor.pool.children) == 1


def test_a_process_that_the_kernel_holds(crowded: tuple[Supervisor, Crowded, Hands, pathlib.Path]) -> None:
    """Killed again and again, which is said once; its slot has another worker meanwhile."""
    supervisor, family, hands, log = crowded
    supervisor.begin(Settings(wsgi_app="app", bind=(TcpAddress("127.0.0.1", 0),), workers=1, timeout=3.0), ())
    supervisor.carry_out()
    (stuck,) = supervisor.pool.children.values()
    supervisor.pool.ready(stuck, hands.now)
    family.due = hands.now + 3.0
    while hands.now < 125.0:
        supervisor.look()
        supervisor.carry_out()
        if len(family.asked_at) > 1:
            family.due = 0.0
        hands.now = min(supervisor.next_due(), hands.now + 0.7)
    assert family.sent[:3] == [DUMP_SIGNAL, signal.SIGABRT, signal.SIGKILL]
    assert family.sent.count(signal.SIGKILL) > 2
    assert len(supervisor.pool.children) == 2
    assert log.read_text().count("was killed and does not end") == 1


def test_reloads_leave_nothing_behind(crowded: tuple[Supervisor, Crowded, Hands, pathlib.Path]) -> None:
    supervisor, family, _, _ = crowded
    for _ in range(20):
        supervisor.begin(Settings(wsgi_app="app", bind=(TcpAddress("127.0.0.1", 0),), workers=1), ())
    # That on trial, and the one before it, which is looked at with the next.
    assert set(family.listeners) == {19, 20}


class Hasty(Crowded):
    """A family in which the first worker of a mold has ended before anybody has read a word of it."""

    said: list[Message | ValueError]

    def spawn(self, order: Spawn, settings: Settings, now: float) -> Child:
        self.said = [Forked(1, 4711), BootFailed(3, "smoke: GET / failed", "Traceback of the application")]
        return Child(1, order.slot, order.generation, now, order.role)

    def messages(self, key: int) -> Iterator[Message | ValueError]:
        while self.said:
            yield self.said.pop(0)

    def claim(self, child: Child, pid: int) -> Exit | None:
        child.pid = pid
        child.take(Input.STARTED)
        return Exit(3, 0, 0, 0.0, False)

    def stacks(self, child: Child) -> str:
        return ""

    def release(self, child: Child) -> None:
        assert self.said == []


@pytest.mark.parametrize("kind", [Hasty])
def test_why_a_worker_of_a_mold_has_ended_at_once(crowded: tuple[Supervisor, Hasty, Hands, pathlib.Path]) -> None:
    supervisor, _, _, log = crowded
    supervisor.begin(Settings(wsgi_app="app", bind=(TcpAddress("127.0.0.1", 0),), workers=1), ())
    supervisor.carry_out()
    supervisor.read(1)
    assert supervisor.pool.children == {}
    assert "cannot boot: smoke: GET / failed\nTraceback of the application\n" in log.read_text()
