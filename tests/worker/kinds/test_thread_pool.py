"""The threads of a gthread worker: how many there are, and that no item waits while one of them could run it."""

import threading
from collections.abc import Callable

from tests.conftest import wait_until
from wsgicluster.worker.kinds.gthread import ThreadPool

Task = Callable[[], object]


def pool(most: int, idle_s: float = 60.0) -> ThreadPool[Task]:
    return ThreadPool(most, lambda: lambda task: task(), lambda: None, idle_s)


class Blocked:
    """A task that runs until it is released."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.release = threading.Event()

    def __call__(self) -> None:
        self.running.set()
        assert self.release.wait(10)


def test_every_item_is_served_once() -> None:
    subject = pool(4)
    served: list[int] = []
    for number in range(500):
        subject.put(lambda number=number: served.append(number))  # type: ignore[misc]
    wait_until(lambda: len(served) == 500, 5)
    assert sorted(served) == list(range(500))


def test_items_run_side_by_side_up_to_the_most() -> None:
    subject = pool(3)
    tasks = [Blocked() for _ in range(4)]
    for task in tasks:
        subject.put(task)
    assert all(task.running.wait(5) for task in tasks[:3])
    assert not tasks[3].running.is_set()
    assert subject.threads == 3
    tasks[1].release.set()
    assert tasks[3].running.wait(5)
    for task in tasks:
        task.release.set()


def test_what_waits_can_be_taken_back_from_the_oldest_on() -> None:
    subject = pool(1)
    blocked = Blocked()
    subject.put(blocked)
    assert blocked.running.wait(5)
    served: list[int] = []
    tasks: list[Task] = [lambda number=number: served.append(number) for number in range(4)]  # type: ignore[misc]
    for task in tasks:
        subject.put(task)
    assert subject.withdraw(lambda task: task in (tasks[0], tasks[1], tasks[3])) == tasks[:2]
    assert subject.withdraw(lambda task: task is tasks[3]) == []
    blocked.release.set()
    wait_until(lambda: served == [2, 3], 5)
    assert subject.withdraw(lambda _task: True) == []


def test_an_item_behind_a_blocked_one_gets_another_thread() -> None:
    subject = pool(2)
    blocked, quick = Blocked(), threading.Event()
    subject.put(blocked)
    assert blocked.running.wait(5)
    subject.put(quick.set)
    assert quick.wait(5)
    blocked.release.set()


def test_threads_without_work_end_but_for_one_and_come_back() -> None:
    subject = pool(4, idle_s=0.05)
    tasks = [Blocked() for _ in range(4)]
    for task in tasks:
        subject.put(task)
    assert all(task.running.wait(5) for task in tasks)
    for task in tasks:
        task.release.set()
    wait_until(lambda: subject.threads == 1, 5)
    tasks = [Blocked() for _ in range(4)]
    for task in tasks:
        subject.put(task)
    assert all(task.running.wait(5) for task in tasks)
    for task in tasks:
        task.release.set()


def test_no_item_is_lost_between_waking_and_ending() -> None:
    """Threads that end at once meet items that come at any moment."""
    subject = pool(2, idle_s=0.0001)
    meeting = threading.Barrier(3)
    for _ in range(1000):
        subject.put(lambda: meeting.wait(5))
        subject.put(lambda: meeting.wait(5))
        meeting.wait(5)


def test_all_threads_end_when_that_is_wanted() -> None:
    done = threading.Barrier(3)
    subject = pool(2)
    for _ in range(2):
        subject.put(done.wait)
    done.wait(10)
    wait_until(lambda: len(subject._idle) == 2, 10, "both have nothing to do")
    subject.end(10.0)
    assert subject.threads == 0
    assert not subject._idle
