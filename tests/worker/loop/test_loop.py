"""The loop of a worker that always has more to do than it looks at in one turn."""

import contextlib
import os
import pathlib
from collections import Counter

from wsgicluster.ipc.scoreboard import Scoreboard
from wsgicluster.worker.loop.loop import Loop


class Narrow(Loop):
    """Looks at two descriptors in a turn."""

    most_events = 2


def test_calls_are_made_although_descriptors_are_always_ready(tmp_path: pathlib.Path) -> None:
    with contextlib.ExitStack() as owned:
        board = Scoreboard(str(tmp_path))
        owned.callback(board.close)
        loop = Narrow(board.take(1, 1), 0.0)
        owned.callback(loop.close)
        seen: Counter[int] = Counter()
        for _ in range(5):
            here, there = os.pipe()
            owned.callback(os.close, here)
            owned.callback(os.close, there)
            os.write(there, b"x")
            loop.add(here, lambda _, here=here: seen.update([here]))  # type: ignore[misc]
        called: list[bool] = []
        loop.call_at(loop.now, lambda: called.append(len(seen) == 5))
        for _ in range(4):
            loop.turn(lambda _: None)
        # Not before everybody has been looked at: what has come in time must not be taken for late.
        assert called == [True]
        assert set(seen.values()) <= {1, 2}
