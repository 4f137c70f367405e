"""The loop of a gevent worker: its deadlines hold, whatever the hub's clock says."""

import itertools
import os
import pathlib
import time
from collections.abc import Iterator

import pytest

from tests.conftest import wait_until
from wsgicluster.ipc.scoreboard import Scoreboard

gevent = pytest.importorskip("gevent")

from wsgicluster.worker.kinds.gevent.worker import HubLoop  # noqa: E402


@pytest.fixture
def loop(tmp_path: pathlib.Path) -> Iterator[HubLoop]:
    """A loop of a hub of its own."""
    board = Scoreboard(str(tmp_path))
    loop = HubLoop(board.take(1, 1), 0.0)
    yield loop
    loop.close()
    board.close()
    gevent.get_hub().destroy(destroy_loop=True)


def test_a_call_comes_although_the_hub_was_early(loop: HubLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[float] = []
    with gevent.Timeout(10):
        here, there = os.pipe()
        loop.add(here, lambda _: loop.remove(here))
        os.write(there, b"x")
        loop.turn(lambda _: None)
        os.close(here)
        os.close(there)
        # The hub counts from when it last looked at its clock, which was when the pipe woke it: its timer is early.
        busy_until = time.monotonic() + 0.05
        wait_until(lambda: time.monotonic() >= busy_until, 5)
        # Another moment passes each time between what the loop reckons and what it asks of the hub.
        moments = itertools.count()
        monkeypatch.setattr(
            "wsgicluster.worker.kinds.gevent.worker.monotonic", lambda: time.monotonic() + 0.001 * next(moments)
        )
        wanted = time.monotonic() + 0.1
        loop.call_at(wanted, lambda: done.append(time.monotonic()))
        while not done:
            loop.turn(lambda _: None)
    assert done[0] >= wanted
