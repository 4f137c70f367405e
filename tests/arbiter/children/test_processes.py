"""Children as processes: forked for real, they do one thing each and exit."""

import contextlib
import os
import pathlib
import signal
import socket
import time
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.arbiter.plan.generations import generation
from tests.conftest import wait_until
from wsgicluster.arbiter.children import fork
from wsgicluster.arbiter.children.entry_points import PreparedWorker, Roles
from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.arbiter.plan.child import Child, Role, State
from wsgicluster.arbiter.plan.orders import MOLD_SLOT, Spawn
from wsgicluster.arbiter.plan.rollout import Generation
from wsgicluster.arbiter.postmortem.diagnosis import Exit
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import Channel, ListenersEnd, MemoryLimit, Message, Ready
from wsgicluster.ipc.scoreboard import Cell, Scoreboard, WorkerState
from wsgicluster.logs.logs import LogOptions, Logs
from wsgicluster.settings import Settings
from wsgicluster.system.descriptors import count_descriptors


def boot_worker(settings: Settings, assignment: Assignment, application: object) -> NoReturn:
    """Slot 1 is ready and waits for signals, slot 2 exits with its number, slot 3 sends back what it receives."""
    assignment.page.cells[Cell.STATE] = WorkerState.READY
    os.write(assignment.stacks_fd, b"some stacks")
    assignment.channel.send(Ready(float(len(assignment.listeners))))
    if assignment.slot == 2:
        os._exit(2)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    while assignment.slot == 3:
        message = receive(assignment.channel)
        assert message is not None
        assignment.channel.send(message)
    while True:
        signal.pause()


def receive(channel: Channel) -> Message | None:
    """The next message, waited for."""
    channel_end = time.monotonic() + 10
    while time.monotonic() < channel_end:
        message = channel.receive()
        if message is not None:
            return message
    return None


def load_application(settings: Settings) -> object:
    return object()


PREPARED = "parts-of-a-worker"


def prepare_worker(settings: Settings, assignment: Assignment, application: object) -> PreparedWorker | None:
    """For slots from 4 on: a worker that says how many files of its kind are open, and waits for signals."""
    if assignment.slot < 4:
        return None
    number = os.memfd_create(PREPARED)

    def boot() -> NoReturn:
        assignment.channel.send(Ready(float(len(files_of_prepared())), 0 if application is None else 1))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        while True:
            signal.pause()

    def close() -> None:
        if number in files_of_prepared():
            os.close(number)

    return PreparedWorker(boot, frozenset((number,)), close)


def files_of_prepared() -> list[int]:
    """Their descriptors in this process."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            if PREPARED in os.readlink(f"/proc/self/fd/{name}"):
                found.append(int(name))
    return found


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox({})
    yield made
    made.close()


@pytest.fixture
def children(tmp_path: pathlib.Path, inbox: Inbox) -> Iterator[ChildProcesses]:
    with contextlib.ExitStack() as owned:
        board = Scoreboard(str(tmp_path))
        owned.callback(board.close)
        logs = Logs(LogOptions(errorlog=str(tmp_path / "log")))
        listener = owned.enter_context(socket.create_server(("127.0.0.1", 0)))
        roles = Roles(boot_worker, load_application, prepare_worker=prepare_worker)
        made = ChildProcesses(
            board, inbox, roles, logs, lambda numbers: tuple((number, listener) for number in numbers)
        )
        owned.callback(made.close)
        yield made
        logs.error.handlers.clear()


GENERATION = Generation(1, Settings(wsgi_app="app", timeout=30.0), (7, 8))


def started(children: ChildProcesses, order: Spawn, generation: Generation, now: float) -> Child:
    """One child that was ordered."""
    prepared = children.prepare(order, generation, now)
    prepared.start()
    return children.adopt(prepared)


def messages(children: ChildProcesses, inbox: Inbox, child: Child) -> list[Message | ValueError]:
    """What a child has sent, once it has sent something."""
    received: list[Message | ValueError] = []
    children.watch(child, lambda: received.extend(children.link(child).messages()))

    def has_sent() -> bool:
        inbox.wait(0.1)
        inbox.handle()
        return bool(received)

    wait_until(has_sent, 10, "a message")
    children.mute(child)
    return received


def exit_of(children: ChildProcesses, child: Child) -> Exit:
    """How a child has exited, once it has."""
    found: list[tuple[Child, Exit]] = []

    def has_exited() -> bool:
        found.extend(children.reap())
        return bool(found)

    wait_until(has_exited, 10, "an exit")
    ((which, ended),) = found
    assert which is child
    return ended


def test_a_worker_that_is_started_and_stopped(children: ChildProcesses, inbox: Inbox) -> None:
    child = started(children, Spawn(1, 1), GENERATION, 100.0)
    link = children.link(child)
    assert (child.state, link.beat_deadline) == (State.BOOTING, 130.0)
    assert messages(children, inbox, child) == [Ready(2.0)]
    facts = link.facts()
    assert (link.takes_requests, link.stacks(), facts is not None) == (True, "some stacks", True)
    link.signal(signal.SIGTERM)
    assert exit_of(children, child).signal_number == signal.SIGTERM
    link.signal(signal.SIGTERM)  # which no process is there for any more
    children.release(child)
    assert link.channel.fileno() == -1


def test_a_prepared_worker_that_is_not_started_leaves_nothing(children: ChildProcesses) -> None:
    first = children.prepare(Spawn(1, 1), GENERATION, 100.0)
    first.close()
    before = count_descriptors()  # with those of the mailbox of the slot, which stays
    second = children.prepare(Spawn(1, 1), GENERATION, 100.0)
    assert second.link.page.index == first.link.page.index
    assert count_descriptors() > before
    second.close()
    assert count_descriptors() == before


def test_workers_that_are_forked_together(children: ChildProcesses, inbox: Inbox) -> None:
    """Each has its own end of its channel, and closes those of the other one, which ends with its process."""
    first, second = (children.prepare(Spawn(slot, 1), GENERATION, 100.0) for slot in (1, 3))
    with fork.together():
        first.start()
        second.start()
    one, other = children.adopt(first), children.adopt(second)
    for child in (one, other):
        assert messages(children, inbox, child) == [Ready(2.0)]
    children.link(one).signal(signal.SIGTERM)
    assert exit_of(children, one).signal_number == signal.SIGTERM
    assert list(children.link(one).messages()) == []
    assert children.link(one).is_closed
    children.release(one)


def test_what_is_made_of_workers_before_their_processes(children: ChildProcesses, inbox: Inbox) -> None:
    """It is theirs, each its own: neither this process nor a sibling keeps it."""
    pair = [children.prepare(Spawn(slot, 1), GENERATION, 100.0) for slot in (4, 5)]
    assert len(files_of_prepared()) == 2
    with fork.together():
        for each in pair:
            each.start()
    assert files_of_prepared() == []
    for each in pair:
        assert messages(children, inbox, children.adopt(each)) == [Ready(1.0, 0)]
    unused = children.prepare(Spawn(6, 1), GENERATION, 100.0)
    assert len(files_of_prepared()) == 1
    unused.close()
    assert files_of_prepared() == []


def test_a_worker_that_exits(children: ChildProcesses) -> None:
    child = started(children, Spawn(2, 1), GENERATION, 100.0)
    ended = exit_of(children, child)
    assert (ended.code, ended.signal_number) == (2, 0)
    link = children.link(child)
    assert list(link.messages()) == [Ready(2.0)]
    assert link.is_closed
    assert list(link.messages()) == []
    link.raise_memory_limit(1)
    link.end_listeners(())
    children.release(child)


def test_what_a_worker_is_sent(children: ChildProcesses, inbox: Inbox) -> None:
    child = started(children, Spawn(3, 1), GENERATION, 100.0)
    assert messages(children, inbox, child) == [Ready(2.0)]
    children.end_listeners({7, 8, 9})
    children.end_listeners({7})
    assert messages(children, inbox, child) == [ListenersEnd([8])]
    children.end_listeners({7})
    children.link(child).raise_memory_limit(10)
    assert messages(children, inbox, child) == [MemoryLimit(10)], "of each listener once"


def test_a_worker_that_is_paused(children: ChildProcesses, inbox: Inbox) -> None:
    child = started(children, Spawn(1, 1), GENERATION, 100.0)
    messages(children, inbox, child)
    for number, stopped in ((signal.SIGSTOP, True), (signal.SIGCONT, False)):
        children.link(child).signal(number)

        def is_found() -> bool:
            assert list(children.reap()) == []
            return bool(children.paused)

        wait_until(is_found, 10, "the change")
        assert children.paused == [(child, stopped)]
        children.paused.clear()


def test_processes_that_have_no_link(children: ChildProcesses) -> None:
    known, unknown = (os.posix_spawn("/bin/true", ["/bin/true"], {}) for _ in range(2))
    ended: list[Exit] = []
    children.on_exit(known, ended.append)

    def all_reaped() -> bool:
        assert list(children.reap()) == []
        return bool(ended) and not pathlib.Path(f"/proc/{unknown}").exists()

    wait_until(all_reaped, 10)
    assert ended[0].code == 0


def test_a_mold_and_its_worker(children: ChildProcesses, inbox: Inbox) -> None:
    preloaded = Generation(1, Settings(wsgi_app="app", preload_app=True), (7,))
    made = started(children, Spawn(MOLD_SLOT, 1, Role.MOLD), preloaded, 100.0)
    (ready,) = messages(children, inbox, made)
    assert isinstance(ready, Ready)
    made.state = State.READY
    worker = started(children, Spawn(2, 1), preloaded, 100.0)
    assert (worker.unborn, worker.mold) == (True, made.key)
    forked = messages(children, inbox, worker)[0]
    pid = forked.pid  # type: ignore[union-attr]
    # This process has not made itself the parent of what the mold forks: it will not reap this one.
    assert children.claim(worker, pid) is None
    assert worker.state is State.BOOTING
    children.link(made).signal(signal.SIGTERM)
    assert exit_of(children, made).code == 0


def test_workers_that_a_mold_forks_together(children: ChildProcesses, inbox: Inbox) -> None:
    """What was made of each before its process is its own, and so is its channel."""
    preloaded = Generation(1, Settings(wsgi_app="app", preload_app=True), (7,))
    made = started(children, Spawn(MOLD_SLOT, 1, Role.MOLD), preloaded, 100.0)
    messages(children, inbox, made)
    made.state = State.READY
    link = children.link(made)
    link.signal(signal.SIGSTOP)
    workers = [started(children, Spawn(slot, 1), preloaded, 100.0) for slot in (4, 5)]
    link.signal(signal.SIGCONT)  # now all orders are there
    for worker in workers:
        forked, *rest = messages(children, inbox, worker)
        rest = rest or messages(children, inbox, worker)
        assert rest == [Ready(1.0, 1)]
        assert children.claim(worker, forked.pid) is None  # type: ignore[union-attr]
    first, second = workers
    children.link(first).signal(signal.SIGTERM)

    def is_closed() -> bool:
        assert list(children.link(first).messages()) == []
        return children.link(first).is_closed

    wait_until(is_closed, 10, "the end of the first one's channel")
    children.link(second).signal(signal.SIGTERM)
    children.link(made).signal(signal.SIGTERM)
    assert exit_of(children, made).code == 0


def test_the_hand_off_socket_of_another_server(children: ChildProcesses) -> None:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    children.mailboxes.share_hand_off(ends)
    children.mailboxes.nudge()
    assert ends[0].recv(10) == b"\0"


def test_all_that_are_left_are_ended(children: ChildProcesses, inbox: Inbox) -> None:
    child = started(children, Spawn(1, 1), generation(1, 1), 100.0)
    messages(children, inbox, child)
    children.close()
    assert not pathlib.Path(f"/proc/{child.pid}").exists()
