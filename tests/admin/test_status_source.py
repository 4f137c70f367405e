"""How the arbiter is asked how the server is: at most once at a time, and with a limit."""

import threading
from typing import Any

import pytest

from tests.admin.test_metrics import status, worker
from tests.admin.test_routes import FakeClock
from wsgicluster.admin.status_source import FRESH_S, SHARE_S, StatusSource, UsageReader
from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.system.usage import Usage


def nothing(_pid: int, *, with_share: bool = True) -> Usage:
    return Usage(pss_bytes=7 if with_share else None)


def answer() -> dict[str, Any]:
    found = status(worker(1, latency=[]))
    found["server"] |= {"pid": 1}
    return found


def test_an_answer_is_given_again_for_a_moment() -> None:
    clock, asked = FakeClock(), []

    def ask(timeout_s: float) -> dict[str, Any]:
        asked.append(timeout_s)
        return answer()

    source = StatusSource(ask, clock, UsageReader(clock, nothing))
    assert source.status() is source.status()
    clock.now += FRESH_S
    assert source.status()["workers"][0]["pss_bytes"] == 7
    assert len(asked) == 2


def test_many_wait_for_one_answer() -> None:
    clock, asked, found = FakeClock(), [], []
    may_answer, is_asked = threading.Event(), threading.Event()

    def ask(timeout_s: float) -> dict[str, Any]:
        asked.append(timeout_s)
        is_asked.set()
        may_answer.wait(20)
        return answer()

    source = StatusSource(ask, clock, UsageReader(clock, nothing))
    threads = [threading.Thread(target=lambda: found.append(source.status())) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert is_asked.wait(20)
    may_answer.set()
    for thread in threads:
        thread.join(20)
    assert len(found) == 8
    assert len(asked) == 1


def test_a_failure_is_given_to_all_and_then_tried_again() -> None:
    clock, failing = FakeClock(), [True]

    def ask(_timeout_s: float) -> dict[str, Any]:
        if failing[0]:
            raise ControlError(ErrorCode.TIMED_OUT, "no answer")
        return answer()

    source = StatusSource(ask, clock, UsageReader(clock, nothing))
    for _ in range(2):
        with pytest.raises(ControlError, match="no answer"):
            source.status()
    failing[0] = False
    clock.now += FRESH_S
    assert source.status()["server"]["state"] == "serving"


def test_what_is_dear_to_read_is_read_now_and_then() -> None:
    clock, dear = FakeClock(), []

    def read(pid: int, *, with_share: bool = True) -> Usage:
        if with_share:
            dear.append(pid)
        return nothing(pid, with_share=with_share)

    usage = UsageReader(clock, read)
    for _ in range(3):
        assert usage(4).pss_bytes == 7
    assert dear == [4]
    clock.now += SHARE_S
    assert usage(4).pss_bytes == 7
    assert dear == [4, 4]
    usage.forget({5})
    usage(4)
    assert dear == [4, 4, 4]
