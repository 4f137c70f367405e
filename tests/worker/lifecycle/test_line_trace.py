"""Which lines are printed, and in which threads."""

import io
import os
import sys
import threading

from wsgicluster.worker.lifecycle.line_trace import LineTrace


def traced(trace: LineTrace) -> None:
    def work() -> int:
        first = 1
        return first + 1

    before = sys.gettrace(), threading.gettrace()
    try:
        trace.begin()
        work()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        sys.settrace(before[0])
        threading.settrace(before[1])


def test_lines_of_functions_that_are_called() -> None:
    stream = io.StringIO()
    traced(LineTrace(stream))
    lines = [line for line in stream.getvalue().splitlines() if line.startswith(f"{__name__}:")]
    assert [line.partition(":         ")[2] for line in lines] == ["first = 1", "return first + 1"] * 2


def test_lines_that_are_left_out() -> None:
    stream = io.StringIO()
    traced(LineTrace(stream, os.path.dirname(__file__) + os.sep))
    assert f"{__name__}:" not in stream.getvalue()
