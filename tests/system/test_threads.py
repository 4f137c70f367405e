"""Which threads a process has."""

import os
import pathlib
import threading

import pytest

from tests.conftest import wait_until
from wsgicluster.system import threads


def test_those_that_are_neither_the_main_one_nor_ours() -> None:
    tasks = {10: "python", 11: threads.ASLEEP, 12: "python", 13: "blas", 14: "python", 15: ""}
    found = threads.foreign(tasks, {12: "poller", 14: "poller"}, main=10)
    assert found == ["blas of a library", "poller", "unnamed of a library"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the system does not tell")
def test_one_that_says_that_it_is_ours() -> None:
    end, marked = threading.Event(), threading.Event()

    def own() -> None:
        threads.mark_as_own()
        marked.set()
        end.wait()

    other = threading.Thread(target=end.wait, name="of an application")
    mine = threading.Thread(target=own, name="of the server")
    other.start()
    mine.start()
    try:
        assert marked.wait(10)
        found = threads.others()
        assert "of an application" in found
        assert "of the server" not in found
        names = [path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
        assert threads.ASLEEP in names
    finally:
        end.set()
        other.join()
        mine.join()
    wait_until(lambda: "of an application" not in threads.others(), 5, "the thread has ended")
