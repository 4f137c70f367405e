"""Threads of a gthread worker in which something is raised outside of a request, or that cannot be had."""

import threading
from collections.abc import Callable

import pytest

from tests.conftest import wait_until
from wsgicluster.worker.kinds.gthread import ThreadPool


class Meant(Exception):
    """For a request that is over."""


class Noted:
    """What a pool tells."""

    def __init__(self, most: int = 1, keeps: bool = True) -> None:
        self.served: list[str] = []
        self.interrupted: list[str | None] = []
        self.rests = 0
        self.fails_once = False
        self._keeps = keeps
        self.pool = ThreadPool(most, self._begin, self._rested, 60.0, self._interrupted)

    def _begin(self) -> Callable[[str], object]:
        return self._serve

    def _serve(self, item: str) -> None:
        if self.fails_once:
            self.fails_once = False
            raise Meant
        self.served.append(item)

    def _rested(self) -> None:
        self.rests += 1

    def _interrupted(self, item: str | None) -> bool:
        self.interrupted.append(item)
        return self._keeps


@pytest.mark.parametrize("keeps", [True, False], ids=["not begun", "begun"])
def test_an_item_is_served_again_only_if_it_had_not_begun(keeps: bool) -> None:
    noted = Noted(keeps=keeps)
    noted.fails_once = True
    noted.pool.put("first")
    wait_until(lambda: noted.rests == 1, 10, "the thread rests")
    noted.pool.put("second")
    wait_until(lambda: "second" in noted.served, 10)
    assert noted.served == (["first", "second"] if keeps else ["second"])
    assert noted.interrupted == ["first"]


def test_where_no_more_threads_can_be_had_those_that_are_there_serve_all(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Noted(most=3)
    release = threading.Event()
    pool: ThreadPool[Callable[[], object]] = ThreadPool(3, lambda: lambda task: task(), lambda: None)
    pool.put(lambda: release.wait(20))

    def no_room(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_room)
    pool.put(lambda: noted.served.append("second"))
    assert pool.threads == 1
    release.set()
    wait_until(lambda: noted.served, 10, "the only thread serves it")
    with pytest.raises(RuntimeError, match="can't start"):
        noted.pool.put("nobody")
    assert noted.pool.threads == 0
