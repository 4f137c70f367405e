"""Where events wait for the steward."""

import contextlib
import logging
import math
from collections.abc import Iterator

import pytest

from wsgicluster.arbiter.children.event_outbox import MOST_EVENTS, EventOutbox
from wsgicluster.ipc.events import EVENT_BYTES, ForkEvent, decode_event

_log = logging.getLogger("tests.outbox")


def fork_of(pid: int) -> ForkEvent:
    return ForkEvent(at=0.0, role="worker", slot=1, generation=1, pid=pid)


@pytest.fixture
def outbox() -> Iterator[EventOutbox]:
    with contextlib.closing(EventOutbox(_log)) as made:
        yield made


def received(outbox: EventOutbox) -> list[int]:
    pids = []
    with contextlib.suppress(BlockingIOError):
        while packet := outbox.receive_end.recv(EVENT_BYTES):
            event = decode_event(packet)
            assert isinstance(event, ForkEvent)
            pids.append(event.pid)
    return pids


def test_nothing_is_kept_while_no_steward_is_wanted(outbox: EventOutbox) -> None:
    outbox.add(fork_of(1))
    outbox.open()
    outbox.send()
    assert received(outbox) == []
    assert outbox.next_due(1.0) == math.inf


def test_a_slow_steward_costs_nothing_and_drops_are_counted(
    outbox: EventOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """(Node 95)"""
    outbox.open()
    for number in range(10_000):
        outbox.add(fork_of(number))
    assert outbox.dropped > 0
    assert outbox.next_due(1.0) > 1.0
    found: list[int] = []
    while more := received(outbox):
        found += more
        outbox.send()
    assert found == list(range(len(found))), "in order, the newest are dropped"
    assert len(found) == 10_000 - outbox.dropped
    assert len(found) > MOST_EVENTS
    assert f"{outbox.dropped} events were dropped" in caplog.text
    assert outbox.next_due(1.0) == math.inf
