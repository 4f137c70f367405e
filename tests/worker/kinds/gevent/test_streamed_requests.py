"""Requests of a whole gevent worker that run while their bodies arrive: what clients and applications may do then."""

import io
import logging
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.worker.own_worker import Lines, OwnWorker, hello
from wsgicluster.errors import BrokenBody
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.logs.loggers import ERROR_LOGGER
from wsgicluster.wsgi.input import MEMORY_BYTES

gevent = pytest.importorskip("gevent")

from gevent.event import Event  # noqa: E402

from wsgicluster.worker.kinds.gevent import streaming  # noqa: E402
from wsgicluster.worker.kinds.gevent.streaming import BodyFeed, KeptBody  # noqa: E402
from wsgicluster.worker.kinds.gevent.worker import PARTS  # noqa: E402

KEPT = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def _hub() -> Iterator[None]:
    """Each test has a hub of its own."""
    yield
    gevent.get_hub().destroy(destroy_loop=True)


class Reading:
    """An application that reads its body at ``/read``, leaves that to a greenlet at ``/left``, or does without."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.failures: list[BaseException] = []
        self.go = Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        source, path = environ["wsgi.input"], environ["PATH_INFO"]
        if path == "/read":
            self.bodies.append(source.read())
        elif path == "/left":
            gevent.spawn(self._read, source)
            self.go.wait()
        elif path == "/wait":
            self.go.wait()
        return hello(environ, start_response)

    def _read(self, source: io.BufferedIOBase) -> None:
        try:
            self.go.set()
            self.bodies.append(source.read())
        except BrokenBody as error:
            self.failures.append(error)


def post(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


@pytest.fixture
def application() -> Reading:
    return Reading()


@pytest.fixture
def own(application: Reading) -> Iterator[OwnWorker]:
    with OwnWorker(PARTS, application, stream_body="all") as found:
        yield found


def running(own: OwnWorker) -> int:
    return len(own.parts.runner.load.running)


def test_chunks_are_decoded_as_they_come(own: OwnWorker, application: Reading) -> None:
    client = own.connect()
    own.ask(client, post("/read", "Transfer-Encoding: chunked") + b"3\r\nhel\r\n")
    own.turn_until(lambda: running(own) == 1)
    own.ask(client, b"2\r\nlo\r\n0\r\n\r\n")
    assert own.answer(client).startswith(KEPT)
    assert application.bodies == [b"hello"]
    # What is kept of the connection is as good as new.
    own.ask(client)
    assert own.answer(client).startswith(KEPT)


def test_a_body_that_is_broken_is_answered_with_400(own: OwnWorker, application: Reading) -> None:
    client = own.connect()
    own.ask(client, post("/read", "Transfer-Encoding: chunked") + b"3\r\nhel\r\n")
    own.turn_until(lambda: running(own) == 1)
    own.ask(client, b"none\r\n")
    assert own.answer(client, b"\n").startswith(b"HTTP/1.1 400 ")
    assert "refused with 400" in own.said
    assert application.bodies == []


def test_a_client_that_sends_nothing_more_is_answered_with_408(application: Reading) -> None:
    with OwnWorker(PARTS, application, stream_body="all", body_timeout=0.3) as own:
        client = own.connect()
        own.ask(client, post("/read", "Content-Length: 5") + b"he")
        assert own.answer(client, b"\n").startswith(b"HTTP/1.1 408 ")
        assert "the request's body did not arrive in time" in own.said
    assert application.bodies == []


def test_a_client_that_waits_for_100_gets_it_when_the_body_is_read(own: OwnWorker, application: Reading) -> None:
    client = own.connect()
    own.ask(client, post("/read", "Content-Length: 5", "Expect: 100-continue"))
    assert own.answer(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    own.ask(client, b"again")
    assert own.answer(client).startswith(KEPT)
    assert application.bodies == [b"again"]


def test_without_having_read_the_application_ends_the_connection(own: OwnWorker) -> None:
    client = own.connect()
    own.ask(client, post("/", "Content-Length: 5") + b"he")
    answer = own.answer(client)
    assert answer.startswith(KEPT)
    assert b"connection: close" in answer.lower()
    client.close()
    own.turn_until(lambda: not own.context.connections)


def test_a_body_that_has_come_unread_costs_no_connection(own: OwnWorker, application: Reading) -> None:
    client = own.connect()
    own.ask(client, post("/wait", "Content-Length: 5") + b"he")
    own.turn_until(lambda: running(own) == 1)
    own.ask(client, b"llo")
    application.go.set()
    assert b"connection: close" not in own.answer(client).lower()
    own.ask(client)
    assert own.answer(client).startswith(KEPT)


def test_a_greenlet_that_reads_on_when_the_request_is_over_is_told(own: OwnWorker, application: Reading) -> None:
    client = own.connect()
    own.ask(client, post("/left", "Content-Length: 5") + b"he")
    assert own.answer(client).startswith(KEPT)
    own.turn_until(lambda: application.failures)
    assert [str(each) for each in application.failures] == ["the request is over"]


def test_a_client_that_leaves_is_no_failure_of_the_application(own: OwnWorker, application: Reading) -> None:
    client = own.connect()
    own.ask(client, post("/read", "Content-Length: 5") + b"he")
    own.turn_until(lambda: running(own) == 1)
    client.close()
    own.turn_until(lambda: not own.context.connections)
    assert "the client left before its request's body was complete" in own.said
    assert own.page.cells[Cell.FAILED] == 0


def test_what_is_thrown_into_the_loop_ends_nothing(own: OwnWorker) -> None:
    lines, log = Lines(), logging.getLogger(ERROR_LOGGER)
    log.addHandler(lines)
    try:
        with gevent.Timeout(0.01):
            own.turn_until(lambda: lines.lines)
    finally:
        log.removeHandler(lines)
    assert "an exception was raised in the main greenlet while it waited" in lines.lines[0]
    own.ask(client := own.connect())
    assert own.answer(client).startswith(KEPT)


def test_of_what_is_longer_than_what_may_be_kept_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "KEPT_BYTES", 4)
    kept = KeptBody(None)
    assert kept.read(0, 1) == b""
    kept.write(memoryview(b"four"))
    assert (kept.read(1, 2), kept.complete) == (b"ou", True)
    kept.write(memoryview(b"!"))
    kept.write(memoryview(b"?"))
    assert (kept.size, kept.complete) == (6, False)
    with pytest.raises(OSError, match="was not kept"):
        kept.read(0, 1)


def test_a_folder_without_room_costs_only_what_was_kept(tmp_path: pathlib.Path) -> None:
    feed = BodyFeed(str(tmp_path / "missing"))
    feed.write(memoryview(bytes(MEMORY_BYTES + 1)))
    assert len(feed.take(MEMORY_BYTES + 1)) == MEMORY_BYTES + 1
    assert not feed.kept.complete
    feed.write(memoryview(b"unread"))
    feed.discard()
    assert feed.take(6) == b""
