"""What an exit becomes as an event, by plain values."""

import dataclasses

import pytest

from wsgicluster.arbiter.plan.child import Ask, Child, End, Input, Role
from wsgicluster.arbiter.postmortem.diagnosis import Death, Exit, InFlight
from wsgicluster.arbiter.supervision.events import Moment, exit_event, request_line

MOMENT = Moment(1000.0, 15.0)
CLEAN = Exit(code=0, signal_number=0, peak_bytes=7)


def ended(end: End, *, asked: Ask = Ask.DRAIN, by: str = "operator") -> Child:
    made = Child(1, 2, 3, 10.0, pid=42, asked=asked, by=by, end=end)
    made.take(Input.STARTED)
    return made


@pytest.mark.parametrize(
    ("child", "asked", "by"),
    [
        (ended(End.ASKED), True, "operator"),
        (ended(End.CUT), True, "operator"),
        (ended(End.ASKED, by="steward"), True, "steward"),
        (ended(End.RECYCLED_APPLICATION, by="application"), True, "application"),
        (ended(End.RECYCLED_MEMORY, by="arbiter"), True, "arbiter"),
        # One that was asked and crashed while it drained.
        (ended(End.CRASHED), False, ""),
        (ended(End.TIMED_OUT, asked=Ask.NOTHING), False, ""),
        (ended(End.LEFT, asked=Ask.NOTHING), False, ""),
    ],
)
def test_who_has_asked(child: Child, asked: bool, by: str) -> None:
    """(Node: disconnect-exitedAfterDisconnect-race, kill-disconnect)"""
    event = exit_event(child, CLEAN, None, None, MOMENT)
    assert (event.asked, event.by, event.reason) == (asked, by, child.end.value if child.end else "")
    assert (event.at, event.age_s, event.rss_bytes, event.requests) == (1000.0, 5.0, 7, 0)
    assert (event.role, event.slot, event.generation, event.pid) == ("worker", 2, 3, 42)


def test_a_signal_has_a_name_and_no_code() -> None:
    """(Node: worker-kill-signal)"""
    killed = dataclasses.replace(CLEAN, signal_number=11)
    event = exit_event(ended(End.CRASHED), killed, None, None, MOMENT)
    assert (event.code, event.signal) == (None, "SIGSEGV")
    assert exit_event(ended(End.CRASHED), CLEAN, None, None, MOMENT).code == 0


def test_the_record_of_a_death_is_in_it() -> None:
    request = InFlight("GET", "/a", "HTTP/1.1", "127.0.0.1:1", 0.5)
    death = Death(2, 42, 3, Role.WORKER, End.CRASHED, CLEAN, 1.0, 2.0, True, 5, request, "ValueError: x", "File y")
    event = exit_event(ended(End.CRASHED), CLEAN, None, death, MOMENT)
    assert (event.request, event.stack) == ("GET /a HTTP/1.1", "ValueError: x\nFile y")
    assert request_line(None) == ""


def test_only_workers_have_a_slot() -> None:
    steward = dataclasses.replace(ended(End.ASKED), role=Role.STEWARD, slot=0)
    event = exit_event(steward, CLEAN, None, None, MOMENT)
    assert (event.role, event.slot) == ("steward", 0)
