"""Tracing on request: begun, looked at, ended, and again; the application's own tracing is left alone."""

import tracemalloc
from collections.abc import Iterator

import pytest

from wsgicluster.ipc.messages import PACKET_BYTES, MemoryTraced, TraceMemory, decode, encode
from wsgicluster.worker.lifecycle.memory_trace import MemoryTrace


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    assert not tracemalloc.is_tracing()
    yield
    tracemalloc.stop()


def here(found: MemoryTraced) -> list[tuple[int, int]]:
    """Bytes and growth of the lines of this file."""
    return [(size, growth) for file, _, size, _, growth in found.largest if file.endswith("test_memory_trace.py")]


def test_sizes_and_growth_since_the_last_answer() -> None:
    trace = MemoryTrace()
    assert "begin with --start" in trace.answer(TraceMemory(1, "top", 5)).refused
    assert trace.answer(TraceMemory(2, "start", 0)) == MemoryTraced(2)
    kept = [bytearray(1_000_000)]
    first = trace.answer(TraceMemory(3, "top", 50))
    assert (first.ticket, first.refused) == (3, "")
    assert here(first)[0][0] == pytest.approx(1_000_000, rel=0.01)
    assert first.traced_bytes >= 1_000_000
    assert here(trace.answer(TraceMemory(4, "top", 50)))[0][1] == 0
    kept.clear()
    assert all(size < 1_000_000 for size, _ in here(trace.answer(TraceMemory(5, "top", 50))))
    trace.answer(TraceMemory(6, "stop", 0))
    assert not tracemalloc.is_tracing()
    assert trace.answer(TraceMemory(7, "stop", 0)).refused
    trace.answer(TraceMemory(8, "start", 0))
    anew = here(trace.answer(TraceMemory(9, "top", 50)))
    assert all(size == growth < 1000 for size, growth in anew), "nothing is left of the first time"


def test_what_the_application_traces_is_left_alone() -> None:
    trace = MemoryTrace()
    tracemalloc.start()
    for action in ("start", "top", "stop"):
        assert trace.answer(TraceMemory(1, action, 5)).refused
        assert tracemalloc.is_tracing()


def test_an_application_that_ends_the_tracing_is_no_failure() -> None:
    trace = MemoryTrace()
    trace.answer(TraceMemory(1, "start", 0))
    tracemalloc.stop()
    assert "begin with --start" in trace.answer(TraceMemory(2, "top", 5)).refused
    assert trace.answer(TraceMemory(3, "start", 0)).refused == ""


def test_an_answer_fits_a_packet_whatever_files_are_called() -> None:
    lines = [("\U0001f40d" * 96, 10**6, 10**15, 10**12, -(10**15))] * 50
    packet = encode(MemoryTraced(1, "", 1e9, 10**15, 10**15, lines, lines))
    assert len(packet) <= PACKET_BYTES, len(packet)
    assert isinstance(decode(packet), MemoryTraced)
