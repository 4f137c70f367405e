"""One connection to the control server for many threads."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.control.shared_connection import SharedConnection


class Peer:
    """The server's end, operated by the test."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        theirs.settimeout(20)
        self.ended = threading.Event()
        self.connection = SharedConnection(ours, self.ended.set)
        self.sock = theirs
        self.lines = theirs.makefile("rb")
        self.connection.start()

    def request(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.lines.readline())
        return found

    def reply(self, **fields: Any) -> None:
        self.sock.sendall(json.dumps(fields).encode() + b"\n")


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.lines.close()
    made.sock.close()
    assert made.ended.wait(20)


def test_each_gets_its_own_reply_whatever_the_order(peer: Peer) -> None:
    found: dict[str, Any] = {}

    def call(name: str) -> None:
        found[name] = peer.connection.call(name, {"a": 1}, timeout_s=20)

    threads = [threading.Thread(target=call, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    requests = [peer.request() for _ in threads]
    for request in reversed(requests):
        peer.reply(id=request["id"], ok=True, result=request["command"])
    for thread in threads:
        thread.join(20)
    assert found == {"one": "one", "two": "two", "three": "three"}
    assert requests[0]["args"] == {"a": 1}


def test_items_go_on_beside_commands(peer: Peer) -> None:
    items: list[Any] = []
    third = threading.Event()

    def take(item: Any) -> None:
        items.append(item)
        if len(items) == 3:
            third.set()

    peer.connection.follow("events", {}, take)
    number = peer.request()["id"]
    for item in range(3):
        peer.reply(id=number, item=item)
    assert third.wait(20)
    assert items == [0, 1, 2]


def test_failures_keep_their_code(peer: Peer) -> None:
    answering = threading.Thread(
        target=lambda: peer.reply(id=peer.request()["id"], ok=False, error={"code": "refused", "message": "not now"})
    )
    answering.start()
    with pytest.raises(ControlError, match="not now") as caught:
        peer.connection.call("reload", timeout_s=20)
    answering.join(20)
    assert caught.value.code is ErrorCode.REFUSED


def test_no_reply_in_time_and_one_that_comes_late(peer: Peer) -> None:
    with pytest.raises(ControlError) as caught:
        peer.connection.call("status", timeout_s=0.01)
    assert caught.value.code is ErrorCode.TIMED_OUT
    late = peer.request()["id"]

    def reply_twice() -> None:
        peer.reply(id=late, ok=True, result=1)
        peer.reply(id=peer.request()["id"], ok=True, result=2)

    answering = threading.Thread(target=reply_twice)
    answering.start()
    assert peer.connection.call("status", timeout_s=20) == 2
    answering.join(20)


def test_a_server_that_takes_nothing_is_noticed(peer: Peer) -> None:
    codes = set()
    for _ in range(5000):
        with contextlib.suppress(AssertionError), pytest.raises(ControlError) as caught:
            peer.connection.call("status", {"long": "x" * 1000}, timeout_s=0.0)
        codes.add((caught.value.code, "takes no more" in str(caught.value)))
        if (ErrorCode.TIMED_OUT, True) in codes:
            break
    assert (ErrorCode.TIMED_OUT, True) in codes


def test_the_end_of_the_server_ends_all_that_waits(peer: Peer) -> None:

    def end() -> None:
        peer.request()
        peer.sock.shutdown(socket.SHUT_RDWR)

    closing = threading.Thread(target=end)
    closing.start()
    for _ in range(2):
        with pytest.raises(ControlError) as caught:
            peer.connection.call("status", timeout_s=20)
        assert caught.value.code is ErrorCode.STOPPING
    closing.join(20)
