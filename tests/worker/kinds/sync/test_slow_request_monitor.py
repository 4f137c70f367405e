"""The thread beside a sync worker's only one: the loop that tells it of input, when it looks, and what it agrees on."""

import contextlib
import pathlib
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest

from tests.conftest import wait_until
from wsgicluster.ipc.scoreboard import Cell, Page, Scoreboard
from wsgicluster.worker.intake.policy import LONGEST_LOOK_S, Decision, Defer, PassOn, Serve
from wsgicluster.worker.kinds.sync import slow_request_watch
from wsgicluster.worker.kinds.sync.notifying_loop import NotifyingLoop
from wsgicluster.worker.kinds.sync.slow_request_monitor import (
    DEFAULT_SWITCH_S,
    RETRY_S,
    SWITCH_S,
    SlowRequestMonitor,
)
from wsgicluster.worker.kinds.sync.slow_request_watch import LookPlan, python_wait_for_slow
from wsgicluster.worker.kinds.sync.waiting_clients import WaitingClients
from wsgicluster.worker.loop.loop import READ, WRITE

SLOW_S = 0.001
WAITS = list(dict.fromkeys((python_wait_for_slow, slow_request_watch.wait_for_slow)))


@pytest.fixture
def page() -> Iterator[Page]:
    board = Scoreboard(None)
    yield board.take(slot=1, generation=1)
    board.close()


@pytest.fixture
def loop(page: Page) -> Iterator[NotifyingLoop]:
    made = NotifyingLoop(page, 0.0)
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def turn(loop: NotifyingLoop) -> None:
    loop.turn(lambda _: None)


def let_pass(seconds: float) -> None:
    moment = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > moment, 10)


@contextlib.contextmanager
def waiting(loop: NotifyingLoop, handled: list[int], until: int) -> Iterator[None]:
    """A thread turns the loop until so many events have been handled."""

    def run() -> None:
        while len(handled) < until:
            turn(loop)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    status = pathlib.Path(f"/proc/self/task/{thread.native_id}/stat")
    wait_until(lambda: " S " in status.read_text(), 10, "the loop waits")
    yield
    thread.join(10)
    assert not thread.is_alive()


class TestTheLoop:
    """Whom the kernel tells of input."""

    def test_the_other_epoll_hears_nothing_while_the_loop_waits(
        self, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        overflow = loop.split()
        handled: list[int] = []
        loop.add(ours.fileno(), lambda _: handled.append(len(ours.recv(10))))
        with waiting(loop, handled, until=1):
            theirs.send(b"x")
        assert handled == [1]
        assert overflow.poll(0) == []

    def test_it_hears_once_of_each_piece_that_comes_while_the_loop_does_not_wait(
        self, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        overflow = loop.split()
        handled: list[int] = []
        loop.add(ours.fileno(), lambda _: handled.append(len(ours.recv(10))))
        for _ in range(2):
            theirs.send(b"x")
            assert overflow.poll(10) == [(ours.fileno(), READ)]
            assert overflow.poll(0) == []
            assert loop.has_ready()
        turn(loop)
        assert handled == [2]
        assert not loop.has_ready()

    def test_what_waits_for_more_than_input_is_the_loops_alone(
        self, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        overflow = loop.split()
        handled: list[int] = []
        loop.add(ours.fileno(), handled.append)
        loop.change(ours.fileno(), READ | WRITE)
        theirs.send(b"x")
        assert overflow.poll(0) == []
        turn(loop)
        assert handled == [READ | WRITE]
        loop.change(ours.fileno(), READ)
        assert overflow.poll(10) == [(ours.fileno(), READ)]
        turn(loop)
        assert handled == [READ | WRITE, READ]
        loop.change(ours.fileno(), WRITE)
        theirs.send(b"x")
        assert overflow.poll(0) == []
        loop.remove(ours.fileno())
        assert not loop.has_ready()

    def test_a_descriptor_that_is_removed_is_in_neither(
        self, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        overflow = loop.split()
        for _ in range(2):
            loop.add(ours.fileno(), lambda _: None)
            theirs.send(b"x")
            loop.remove(ours.fileno())
            assert not loop.has_ready()
            assert overflow.poll(0) == []

    def test_turns_are_told_of_until_it_is_split(
        self, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        told: list[str] = []
        loop.add(ours.fileno(), lambda _: told.append("input"))
        loop.tell(lambda: told.append("turn"))
        theirs.send(b"x")
        turn(loop)
        assert told == ["turn", "input"]
        loop.call_at(0.0, lambda: told.append("no event"))
        loop.remove(ours.fileno())
        turn(loop)
        loop.split()
        loop.add(ours.fileno(), lambda _: told.append("input"))
        turn(loop)
        assert told == ["turn", "input", "no event", "input"]

    def test_the_first_call_for_the_next_turn_is_heard_of(self, loop: NotifyingLoop) -> None:
        called: list[int] = []
        loop.soon.append(lambda: called.append(0))
        overflow = loop.split()
        loop.soon.append(lambda: called.append(1))
        assert overflow.poll(0) == []
        turn(loop)
        for number in (2, 4):
            loop.soon.append(lambda number=number: called.append(number))  # type: ignore[misc]
            loop.soon.append(lambda number=number: called.append(number + 1))  # type: ignore[misc]
            assert len(overflow.poll(0)) == 1
            assert overflow.poll(0) == []
            turn(loop)
        assert called == [0, 1, 2, 3, 4, 5]


class TestThePlan:
    """When the next look at something that waits is due, by a clock of the test's own."""

    def test_a_request_is_looked_at_when_it_would_be_slow(self) -> None:
        plan = LookPlan(SLOW_S, requests=7)
        assert plan.pause_s(started=100.0, requests=7, now=100.0004) == pytest.approx(0.0006)
        assert plan.pause_s(started=100.0, requests=7, now=100.001) == 0.0
        assert plan.pause_s(started=100.0, requests=7, now=101.0) == 0.0

    def test_with_none_running_it_is_looked_at_a_moment_later(self) -> None:
        plan = LookPlan(SLOW_S, requests=0)
        assert plan.pause_s(started=0.0, requests=0, now=100.0) == SLOW_S

    def test_under_steady_load_less_and_less_often(self) -> None:
        plan = LookPlan(SLOW_S, requests=0)
        now, requests, pauses = 100.0, 0, []
        for _ in range(6):
            pauses.append(plan.pause_s(started=now - 0.0001, requests=requests, now=now))
            now += pauses[-1]
            requests += 100
        assert pauses == pytest.approx([0.0009, 0.001, 0.002, 0.004, LONGEST_LOOK_S, LONGEST_LOOK_S])
        # The slow one is found at the next look, and what comes after a rest gets its next look soon.
        assert plan.pause_s(started=now - 0.002, requests=requests, now=now) == 0.0
        assert plan.pause_s(started=now + 10, requests=requests + 1, now=now + 10) == pytest.approx(SLOW_S)

    def test_few_requests_are_no_steady_load(self) -> None:
        plan = LookPlan(SLOW_S, requests=0)
        for number in range(5):
            now = 100.0 + 0.002 * number
            assert plan.pause_s(started=now, requests=number, now=now) == pytest.approx(SLOW_S)


@pytest.mark.parametrize("wait_for_slow", WAITS)
class TestTheWait:
    """Both ways to wait, with a real clock."""

    def test_a_slow_request_is_found_by_its_beginning(
        self, page: Page, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket], wait_for_slow: Any
    ) -> None:
        ours, theirs = pair
        overflow = loop.split()
        loop.add(ours.fileno(), lambda _: None)
        for _ in range(2):
            theirs.send(b"x")
            page.floats[Cell.STARTED] = began = time.monotonic()
            assert wait_for_slow(overflow, loop, page, SLOW_S, None) == began
            assert time.monotonic() >= began + SLOW_S

    def test_quick_requests_are_not(
        self, page: Page, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket], wait_for_slow: Any
    ) -> None:
        ours, theirs = pair
        overflow = loop.split()
        loop.add(ours.fileno(), lambda _: None)
        found: list[float] = []
        # Longer than a busy machine keeps a thread from running.
        thread = threading.Thread(
            daemon=True, target=lambda: found.append(wait_for_slow(overflow, loop, page, 0.8, None))
        )
        thread.start()
        theirs.send(b"x")
        for number in range(50):
            page.floats[Cell.STARTED] = time.monotonic()
            page.cells[Cell.REQUESTS] = number
            let_pass(0.0005)
        ours.recv(10)
        assert found == []
        theirs.send(b"x")
        page.floats[Cell.STARTED] = slow = time.monotonic()
        thread.join(10)
        assert found == [slow]

    def test_what_waits_is_looked_at_although_nothing_comes(
        self, page: Page, loop: NotifyingLoop, wait_for_slow: Any
    ) -> None:
        overflow = loop.split()
        page.floats[Cell.STARTED] = began = time.monotonic()
        for wait_s in (0.0, 0.001):
            assert wait_for_slow(overflow, loop, page, SLOW_S, wait_s) == began

    def test_once_the_loop_is_closed_it_raises(self, page: Page, wait_for_slow: Any) -> None:
        loop = NotifyingLoop(page, 0.0)
        overflow = loop.split()
        loop.close()
        with pytest.raises((ValueError, OSError)):
            wait_for_slow(overflow, loop, page, SLOW_S, None)


class Clients:
    """Stand in for `WaitingClients`: note when a hand-off was carried out, and for which request."""

    def __init__(self, page: Page, decision: Decision | None = None) -> None:
        self.page = page
        self.decision: Decision = PassOn() if decision is None else decision
        self.handed: list[float] = []
        self.begun: list[float] = []
        self.complete = True
        self.during: Callable[[], object] = lambda: None

    def watch_anew(self) -> None:
        pass

    def count(self) -> int:
        return 1

    def decide(self, _now: float) -> Decision:
        return self.decision

    def release_responses(self) -> None:
        self.begun.append(self.page.floats[Cell.STARTED])

    def leave_to_sibling(self) -> None:
        pass

    def waiting(self) -> Sequence[Callable[..., object]]:
        return []

    def hand_off(self, _methods: object) -> bool:
        self.during()
        self.handed.append(self.page.floats[Cell.STARTED])
        return self.complete


class Worker:
    """What a worker's own thread does, as far as the monitor has to do with it."""

    def __init__(self, page: Page, loop: NotifyingLoop, clients: Clients) -> None:
        self.page = page
        self.on_finished: Callable[[], object] | None = None
        self.monitor = SlowRequestMonitor(page, loop, cast(WaitingClients, clients), self.tell_end)

    def tell_end(self, on_finished: Callable[[], object] | None) -> None:
        self.on_finished = on_finished

    def begin(self) -> float:
        self.page.floats[Cell.STARTED] = began = time.monotonic()
        return began

    def finish(self) -> None:
        """As `Cycle.hide`."""
        self.page.floats[Cell.STARTED] = 0.0
        if self.on_finished is not None:
            self.on_finished()


@pytest.fixture(autouse=True)
def _same_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


class TestTheMonitor:
    def test_each_slow_request_hands_off_and_then_tells_of_its_end_once(
        self, page: Page, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        clients = Clients(page)
        worker = Worker(page, loop, clients)
        worker.monitor.begin()
        assert worker.monitor.begun
        loop.add(ours.fileno(), lambda _: None)
        for _ in range(3):
            began = worker.begin()
            theirs.send(b"x")
            wait_until(lambda: began in clients.handed, 10, "handed off")  # noqa: B023  # called at once
            worker.finish()
            assert (worker.on_finished, page.floats[Cell.STARTED]) == (None, 0.0)
            # Further input of the same request is handed off, too, and what is done once is done once.
        assert len(clients.begun) == len(set(clients.begun)) == 3

    def test_a_request_does_not_end_during_a_hand_off(
        self, page: Page, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        clients = Clients(page)
        worker = Worker(page, loop, clients)
        entered, leave = threading.Event(), threading.Event()

        def during() -> None:
            entered.set()
            leave.wait(10)

        clients.during = during
        worker.monitor.begin()
        loop.add(ours.fileno(), lambda _: None)
        began = worker.begin()
        theirs.send(b"x")
        assert entered.wait(10)
        order: list[str] = []

        def finish() -> None:
            worker.finish()
            order.append("finished")

        finishing = threading.Thread(target=finish, daemon=True)
        finishing.start()
        wait_until(lambda: page.floats[Cell.STARTED] == 0.0, 10, "the request has run")
        assert finishing.is_alive()
        order.append("handed off")
        clients.during = lambda: None
        leave.set()
        finishing.join(10)
        assert order == ["handed off", "finished"]
        assert clients.begun == [began]

    def test_one_that_has_ended_meanwhile_hands_nothing_off(
        self, page: Page, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        clients = Clients(page)
        worker = Worker(page, loop, clients)
        asked = threading.Event()

        def decide(_now: float) -> Decision:
            worker.finish()
            ours.recv(10)
            asked.set()
            return PassOn()

        clients.decide = decide  # type: ignore[method-assign]
        worker.monitor.begin()
        loop.add(ours.fileno(), lambda _: None)
        worker.begin()
        theirs.send(b"x")
        assert asked.wait(10)
        wait_until(lambda: worker.on_finished is not None, 10, "it was about to begin")
        # The next request ends as one that the monitor may look at.
        worker.begin()
        worker.finish()
        assert worker.on_finished is None
        assert clients.handed == []

    @pytest.mark.parametrize("decision", [Serve(), Defer(0.0)])
    def test_it_asks_again_as_long_as_the_policy_has_them_wait(
        self, page: Page, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket], decision: Decision
    ) -> None:
        ours, theirs = pair
        clients = Clients(page, decision)
        worker = Worker(page, loop, clients)
        worker.monitor.begin()
        loop.add(ours.fileno(), lambda _: None)
        began = worker.begin()
        theirs.send(b"x")
        let_pass(2 * RETRY_S)
        assert clients.handed == []
        clients.decision = PassOn()
        wait_until(lambda: began in clients.handed, 10, "handed off although nothing more has come")
        worker.finish()

    def test_what_could_not_be_given_is_tried_again(
        self, page: Page, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        clients = Clients(page)
        clients.complete = False
        worker = Worker(page, loop, clients)
        worker.monitor.begin()
        loop.add(ours.fileno(), lambda _: None)
        worker.begin()
        theirs.send(b"x")
        wait_until(lambda: len(clients.handed) > 2, 10, "tried again")
        clients.complete = True
        worker.finish()

    def test_once_ended_it_hands_nothing_off(
        self, page: Page, loop: NotifyingLoop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        clients = Clients(page)
        worker = Worker(page, loop, clients)
        worker.monitor.begin()
        loop.add(ours.fileno(), lambda _: None)
        worker.monitor.end()
        worker.begin()
        theirs.send(b"x")
        let_pass(0.02)
        worker.finish()
        assert clients.handed == []

    def test_python_switches_sooner_unless_the_application_has_said_when(self, page: Page, loop: NotifyingLoop) -> None:
        sys.setswitchinterval(DEFAULT_SWITCH_S)
        Worker(page, loop, Clients(page)).monitor.begin()
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
        sys.setswitchinterval(0.02)
        second = NotifyingLoop(page, 0.0)
        Worker(page, second, Clients(page)).monitor.begin()
        assert sys.getswitchinterval() == pytest.approx(0.02)
        second.close()

    def test_without_a_free_descriptor_it_begins_another_time(
        self, page: Page, loop: NotifyingLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_epoll() -> select.epoll:
            raise OSError("too many open files")

        worker = Worker(page, loop, Clients(page))
        monkeypatch.setattr("wsgicluster.worker.kinds.sync.notifying_loop.new_epoll", no_epoll)
        worker.monitor.begin()
        assert not worker.monitor.begun
        monkeypatch.undo()
        worker.monitor.begin()
        assert worker.monitor.begun
