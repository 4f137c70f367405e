"""Server-sent events: what a client gets that is new, comes back, or falls behind."""

import json
import threading
from typing import Any

from wsgicluster.admin.event_stream import KEPT, EventStreams


def pieces(streams: EventStreams, count: int, last_id: str = "", last: int = 15) -> list[tuple[str, Any]]:
    """Number and object of so many events."""
    stream = streams.stream(last_id, last, 60.0)
    assert next(stream) == b"retry: 1000\n\n"
    found = []
    for _ in range(count):
        number, data, *rest = next(stream).decode().split("\n")
        assert rest == ["", ""]
        found.append((number.removeprefix("id: "), json.loads(data.removeprefix("data: "))["n"]))
    return found


def test_the_last_ones_come_first_then_those_that_happen() -> None:
    streams = EventStreams("a-1")
    for n in range(20):
        streams.add({"n": n})
    assert [n for _, n in pieces(streams, 15)] == list(range(5, 20))
    assert pieces(streams, 2, last=2) == [("a-1-19", 18), ("a-1-20", 19)]
    later = threading.Timer(0.05, lambda: streams.add({"n": 20}))
    later.start()
    assert pieces(streams, 1, last=0) == [("a-1-21", 20)]
    later.join()


def test_a_client_that_comes_back_misses_none_and_gets_none_twice() -> None:
    streams = EventStreams("b")
    for n in range(9):
        streams.add({"n": n})
    assert [n for _, n in pieces(streams, 4, "b-5", last=1)] == [5, 6, 7, 8]
    for other in ("a-5", "5", "b-x", "b-" + "9" * 20, "b-\u0663"):
        assert [n for _, n in pieces(streams, 1, other, last=1)] == [8], other


def test_one_that_is_far_behind_goes_on_with_what_is_left() -> None:
    streams = EventStreams("c")
    for n in range(KEPT + 10):
        streams.add({"n": n})
    assert pieces(streams, 1, "c-3") == [("c-11", 10)]


def test_silence_is_broken_and_the_end_is_an_end() -> None:
    streams = EventStreams("d")
    stream = streams.stream(silence_s=0.01)
    assert [next(stream), next(stream)] == [b"retry: 1000\n\n", b":\n\n"]
    streams.add({"n": 1})
    streams.close()
    assert b'"n": 1' in next(stream)
    assert list(stream) == []
