"""Events as values, and their form in JSON."""

import dataclasses
import json

import pytest

from wsgicluster.ipc.events import EVENT_BYTES, EVENTS, ExitEvent, ForkEvent, as_json, decode_event, encode_event

EXIT = ExitEvent(
    at=1.5, reason="crashed", role="worker", slot=2, generation=3, pid=7, code=None, signal="SIGSEGV", stack="é\n"
)


def test_there_and_back() -> None:
    assert decode_event(encode_event(EXIT)) == EXIT


def test_json_begins_with_the_name_and_has_all_fields() -> None:
    fields = as_json(EXIT)
    assert next(iter(fields)) == "event"
    assert fields["event"] == "exit"
    assert set(fields) == {"event", *(field.name for field in dataclasses.fields(EXIT))}


def test_a_long_stack_is_cut() -> None:
    packet = encode_event(dataclasses.replace(EXIT, stack="x" * 100_000))
    assert len(packet) < 10_000
    assert json.loads(packet)["event"] == "exit"


@pytest.mark.parametrize(
    "packet", [b"", b"1", b"{}", b'{"event": "no"}', b'{"event": "fork"}', b'{"event": "fork", "more": 1}', b"\xff"]
)
def test_anything_else_is_refused(packet: bytes) -> None:
    with pytest.raises(ValueError, match="not an event"):
        decode_event(packet)


def test_events_are_frozen_and_slotted() -> None:
    for kind in EVENTS.values():
        assert not hasattr(kind, "__dict__") or "__slots__" in vars(kind)
    event = ForkEvent(at=0.0, role="worker", slot=1, generation=1, pid=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.pid = 3  # type: ignore[misc]
    assert not hasattr(event, "__dict__")


def test_the_longest_event_is_one_packet_that_can_be_read() -> None:
    longest = "\u2603" * 100_000
    packet = encode_event(dataclasses.replace(EXIT, stack=longest, reason=longest))
    assert len(packet) <= EVENT_BYTES
    event = decode_event(packet)
    assert isinstance(event, ExitEvent)
    assert (len(event.stack), len(event.reason)) == (8192, 1000)
