"""Where bodies go while they arrive, and when their memory is given back; by a clock of the test's own."""

from collections.abc import Callable

import pytest

from wsgicluster.http import core
from wsgicluster.http.head import CHUNKED
from wsgicluster.worker.request.bodies import IDLE_S, Bodies
from wsgicluster.wsgi.input import MEMORY_BYTES, StoredBody


class TestClock:
    """A loop that turns when the test says so."""

    __test__ = False

    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[tuple[float, Callable[[], object]]] = []

    def call_at(self, moment: float, call: Callable[[], object]) -> None:
        self.calls.append((moment, call))

    def turn(self, now: float) -> None:
        """Let time pass."""
        self.now = now
        due, self.calls = [each for each in self.calls if each[0] <= now], [e for e in self.calls if e[0] > now]
        for _, call in due:
            call()


def test_memory_is_given_back_once_no_body_has_come_for_some_time() -> None:
    clock, given_back = TestClock(), []
    bodies = Bodies(clock, None, lambda: given_back.append(clock.now))
    clock.turn(200.0)
    assert given_back == []
    for second in range(20):
        clock.turn(300.0 + second)
        bodies.open(1000)
        assert len(clock.calls) == 1
    clock.turn(319.0 + IDLE_S - 0.1)
    assert given_back == []
    clock.turn(319.0 + IDLE_S)
    assert given_back == [319.0 + IDLE_S]
    clock.turn(1000.0)
    assert len(given_back) == 1, "nothing has come since"
    assert clock.calls == []
    bodies.open(1000)
    clock.turn(1000.0 + IDLE_S)
    assert len(given_back) == 2


@pytest.mark.parametrize("length", [1, 1000, MEMORY_BYTES, MEMORY_BYTES + 1, CHUNKED])
def test_a_body_comes_out_as_it_went_in(length: int) -> None:
    bodies = Bodies(TestClock(), None, bool)
    for data in (b"one" * 400_000, b"another" * 200_000):
        body = data[: length if length != CHUNKED else 5000]
        store = bodies.open(length)
        assert isinstance(store, StoredBody) == (not core.compiled or not 0 < length <= MEMORY_BYTES)
        for start in range(0, len(body), 70_000):
            store.write(memoryview(body)[start : start + 70_000])
        with store.finish() as file:
            assert file.read() == body
