"""What forwards events: the queue, the web hook's attempts and the command."""

import hashlib
import hmac
import logging
import pathlib
import sys
import threading
from collections.abc import Callable

import pytest

from tests.conftest import wait_until
from wsgicluster.ipc.events import Event, ExitEvent
from wsgicluster.steward import event_queue
from wsgicluster.steward.command import EventCommand, variables
from wsgicluster.steward.event_queue import EventQueue
from wsgicluster.steward.webhook import WebHook, signature

_log = logging.getLogger("tests.steward")


def exit_of(slot: int) -> ExitEvent:
    return ExitEvent(at=1.0, role="worker", slot=slot, generation=1, pid=7, code=None, signal="SIGKILL")


def test_the_queue_is_bounded_and_keeps_the_order(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_queue, "MOST_EVENTS", 3)
    go_on, seen = threading.Event(), list[Event]()

    def deliver(event: Event, wait: Callable[[float], bool]) -> None:
        go_on.wait(10)
        if event == exit_of(1):
            raise LookupError("not this one")
        seen.append(event)

    queue = EventQueue("event_webhook", deliver, _log)
    for slot in range(6):
        queue.add(exit_of(slot))
    assert queue.dropped == 3
    queue.start()
    go_on.set()
    queue.finish()
    wait_until(lambda: queue.is_done, 10)
    assert seen == [exit_of(0), exit_of(2)]
    assert "event_webhook: 3 events wait, so that further ones are dropped" in caplog.text
    assert "event_webhook: event exit cannot be passed on" in caplog.text


def test_attempts_end_when_the_process_does(caplog: pytest.LogCaptureFixture) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 3

    WebHook("http://127.0.0.1:1/", None, _log).deliver(exit_of(1), wait)
    assert waits == [0.5, 1.0, 2.0]
    assert "event_webhook: event exit was not delivered: " in caplog.text


def test_the_signature_is_that_of_the_page() -> None:
    expected = hmac.new(b"key", b"12.body", hashlib.sha256).hexdigest()
    assert signature("key", "12", b"body") == f"sha256={expected}"


def test_the_variables_of_a_command() -> None:
    found = variables(exit_of(2))
    assert found["CLUSTER_EVENT"] == "exit"
    assert (found["CLUSTER_EVENT_SLOT"], found["CLUSTER_EVENT_SIGNAL"], found["CLUSTER_EVENT_ASKED"]) == (
        "2",
        "SIGKILL",
        "0",
    )
    assert "CLUSTER_EVENT_CODE" not in found


def test_a_command_has_a_limit(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    def never(_: float) -> bool:
        return False

    EventCommand(f"{sys.executable} -c 'import time; time.sleep(60)'", _log, 0.2).deliver(exit_of(1), never)
    assert "event_exec: ended after 0.2 s (event exit)" in caplog.text
    EventCommand(f"{sys.executable} -c 'raise SystemExit(3)'", _log).deliver(exit_of(1), never)
    assert "event_exec: exit code 3 (event exit)" in caplog.text
