"""The thread beside a sync worker's only one: when it looks, and when it sleeps."""

from collections.abc import Iterator

import pytest

from tests.conftest import wait_until
from wsgicluster.scoreboard import Cell, Page, Scoreboard
from wsgicluster.worker.relief import Relief, ToldLoop


@pytest.fixture
def page() -> Iterator[Page]:
    board = Scoreboard(None)
    yield board.take(slot=1, generation=1)
    board.close()


def test_it_looks_while_a_request_takes_long_and_rests_while_there_is_none(page: Page) -> None:
    loop = ToldLoop(page, 0.0)
    found: list[float] = []
    relief = Relief(page, loop, lambda: found.append(page.floats[Cell.STARTED]))
    assert (loop.tells, relief.begun) == (True, False)
    for began in (1.0, 2.0):
        page.floats[Cell.STARTED] = began
        relief.wake()
        assert not loop.tells
        wait_until(lambda: began in found, 10, "it has looked")  # noqa: B023  # called at once
        relief.over()
        assert page.floats[Cell.STARTED] == 0.0
        loop.waits = True
        wait_until(lambda: loop.tells, 10, "it rests")
        loop.waits = False
    assert set(found) == {1.0, 2.0}
    loop.close()


class Witness(ToldLoop):
    """A loop that counts how often the thread was about to rest."""

    rests = 0

    def __setattr__(self, name: str, value: object) -> None:
        self.__dict__["rests"] = self.rests + (name == "tells" and value is True)
        super().__setattr__(name, value)


def test_it_does_not_rest_while_the_loop_is_at_work(page: Page) -> None:
    loop = Witness(page, 0.0)
    found: list[float] = []
    relief = Relief(page, loop, lambda: found.append(page.floats[Cell.STARTED]))
    relief.wake()
    before = loop.rests
    wait_until(lambda: loop.rests > before, 10, "it would rest")
    # Nothing has been served for a while, but what is at work now has woken nobody.
    page.floats[Cell.STARTED] = 1.0
    wait_until(lambda: bool(found), 10, "it has looked")
    relief.over()
    loop.close()


def test_once_ended_it_relieves_nobody(page: Page) -> None:
    loop = ToldLoop(page, 0.0)
    found: list[float] = []
    relief = Relief(page, loop, lambda: found.append(page.floats[Cell.STARTED]))
    relief.end()
    page.floats[Cell.STARTED] = 1.0
    relief.wake()
    relief.over()
    loop.waits = True
    wait_until(lambda: loop.tells, 10, "it rests")
    assert found == []
    loop.close()
