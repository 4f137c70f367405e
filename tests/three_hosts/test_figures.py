"""The figures of the example with three hosts, from plain values."""

import pytest

from examples.three_hosts.figures import Figures, Run, Runs, rhythm, without_tick
from examples.three_hosts.load import Request


def request(method: str = "GET", result: str = "200", seconds: float = 0.1) -> Request:
    return Request(5.25, seconds, 3, "kept", method, result, "web-1", "1", "0")


def test_a_request_is_written_and_read() -> None:
    assert Request.of(request().line()) == request()
    lost = Request(1.0, 2.0, 0, "new", "POST", "TimeoutError")
    assert Request.of(lost.line()) == lost


def test_what_is_lost_is_counted_by_kind_method_and_result() -> None:
    figures = Figures.of([request(), request("POST", "502"), request("POST", "502"), request(seconds=2.5)])
    assert figures.lost == {("kept", "POST", "502"): 2}
    assert figures.text() == "4 requests, 2 lost (2 kept POST 502); 1 took over 1 s, the longest 2.50 s"
    assert Figures.of([]).text() == "0 requests, 0 lost; 0 took over 1 s, the longest 0.00 s"


def test_the_rhythm_is_where_runs_begin_that_are_not_late() -> None:
    assert rhythm([10.95, 11.97, 12.95, 14.1, 15.4], 1.0) == pytest.approx(0.95)
    assert rhythm([3.5], 1.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("times", "found"),
    [
        ([], 0),
        ([0.1, 1.1, 2.1, 3.1], 0),
        ([0.1, 1.1, 2.95, 3.1], 0),  # late, and the next one on time
        ([0.1, 1.1, 3.12, 3.2, 4.1], 0),  # so late that it began after the next tick
        ([0.1, 1.1, 1.15, 2.1, 3.1], 1),
        ([0.1, 0.1, 1.1, 1.1, 2.1, 2.1], 3),
        ([0.1, 1.1, 2.1, 5.1, 5.4, 5.6, 6.1], 1),
    ],
)
def test_runs_without_a_tick(times: list[float], found: int) -> None:
    assert without_tick(times, 1.0) == found


def test_runs_that_meet_and_pauses() -> None:
    runs = [Run.of(line) for line in ("1.0 1.2 web-1", "2.0 2.2 web-2", "2.9 3.3 web-1", "3.2 3.4 web-2")]
    assert (Runs.of(runs, 1.0).together, Runs.of(runs[:3], 1.0).longest_pause_s) == (1, 1.0)
    # With its data Redis has lost the rhythm: another one begins.
    after = [Run(10.5, 10.7, "web-1"), Run(11.5, 11.7, "web-3")]
    figures = Runs.of([*runs[:2], *after], 1.0, lost_at=5.0)
    assert (figures.count, figures.twice, figures.longest_pause_s) == (4, 0, 1.0)
