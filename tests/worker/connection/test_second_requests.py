"""A second request after each way in which the first can end: over each transport, wherever requests run.

The table is generated: what a kept connection did before must not be seen by its next request, and one that is not kept
must end for its client as it should, and leave nothing behind.
"""

import contextlib
import dataclasses
import enum
import itertools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.worker.connection.one_connection import LARGE, LocalClient, Running, Worker, region_of
from wsgicluster.errors import ServerError
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.wsgi.response import Response


class Second(enum.Enum):
    """When the second request comes."""

    LATER = "later"
    BEHIND = "behind"
    """In the same bytes as the first."""
    TORN = "torn"
    """Its first bytes with the first request, the rest later."""


SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"


def get(path: str, fields: str = "") -> bytes:
    return f"GET /{path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()


def post(path: str, body: bytes, more: int = 0) -> bytes:
    """A request that declares ``more`` bytes than it has."""
    return f"POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) + more}\r\n\r\n".encode() + body


def large(response: Response, _environ: dict[str, Any]) -> None:
    response.start_response("200 OK", [])
    response.send_whole(LARGE)


def blocks(response: Response, _environ: dict[str, Any]) -> None:
    response.start_response("200 OK", [])
    for _ in range(3):
        response.write(b"block")
    response.finish()


def until_close(response: Response, _environ: dict[str, Any]) -> None:
    response.start_response("200 OK", [("Connection", "close")])
    response.send_whole(b"last")


def cut_off(response: Response, _environ: dict[str, Any]) -> None:
    response.start_response("200 OK", [])
    response.write(b"beginning")
    raise ServerError("it went wrong")


def echo(response: Response, environ: dict[str, Any]) -> None:
    response.start_response("200 OK", [])
    response.send_whole(environ["wsgi.input"].read()[:20])


def ignore_body(response: Response, _environ: dict[str, Any]) -> None:
    response.start_response("200 OK", [])
    response.send_whole(b"not read")


@dataclasses.dataclass(frozen=True)
class Way:
    """How a first request ends: what is sent, what the client gets of it, and whether the connection is kept."""

    name: str
    sent: bytes
    got: bytes
    kept: bool = True
    ended: str = "end"
    later: bytes = b""
    """Sent when the first part has been used."""
    expires: bool = False
    """The client's time is over then."""
    slow: bool = False
    """The client reads only when the response has been made."""
    unread: bool = False
    """Some of the body has not been received when the response is made, if that runs so early."""

    def is_kept(self, running: Running) -> bool:
        """Whether the connection is kept where requests run in this way."""
        return self.kept and not (self.unread and running is Running.STREAMING)


WAYS = (
    Way("a whole response", get("first"), b"/first"),
    Way("a large response", get("large"), LARGE),
    Way("a large response to a slow client", get("large"), LARGE, slow=True),
    Way("blocks", get("blocks"), b"5\r\nblock\r\n5\r\nblock\r\n5\r\nblock\r\n0\r\n\r\n"),
    Way("blocks of HTTP/1.0", get("blocks").replace(b"1.1", b"1.0"), b"blockblockblock", kept=False),
    Way("a file", get("file"), LARGE),
    Way("a file to a slow client", get("file"), LARGE, slow=True),
    Way("a missing part of a file", get("short-file"), b"", kept=False, ended="cut"),
    Way("a close that the client wants", get("first", "Connection: close\r\n"), b"/first", kept=False),
    Way("a close that the application wants", get("close"), b"last", kept=False),
    Way("a response that is cut off", get("cut"), b"9\r\nbeginning\r\n", kept=False, ended="cut"),
    Way("a bad head", b"GET / HTTP/9.9\r\n\r\n", b"505", kept=False),
    Way("a head that does not come", b"GET / HTTP/1.1\r\nHo", b"408", kept=False, expires=True),
    Way("a body that comes later", post("echo", b"", 5), b"hello", later=b"hello"),
    Way("a body that does not come", post("echo", b"", 5), b"408", kept=False, expires=True),
    Way("a body that is not read", post("ignore", b"he", 3), b"not read", later=b"llo", unread=True),
    Way("silence", b"", b"", kept=False, expires=True),
)


class Conversation:
    """One case of the table."""

    def __init__(self, worker: Worker, certificates: Certificates | None) -> None:
        self.worker = worker
        self.secure = certificates is not None
        region = region_of(worker.folder, LARGE)
        self._descriptor = region.descriptor

        def file(response: Response, _environ: dict[str, Any]) -> None:
            response.start_response("200 OK", [])
            response.send_file(region)
            response.finish()

        def short_file(response: Response, _environ: dict[str, Any]) -> None:
            response.start_response("200 OK", [])
            response.send_file(region._replace(size=len(LARGE) + 1000))
            response.finish()

        worker.apps.update({
            "large": large, "blocks": blocks, "close": until_close, "cut": cut_off, "echo": echo, "ignore": ignore_body,
            "file": file, "short-file": short_file,
        })  # fmt: skip
        self.connection, self.client = worker.connect(certificates)

    def close(self) -> None:
        os.close(self._descriptor)

    def drive(self, done: Callable[[], object]) -> None:
        self.worker.drive(self.client, done)

    def first(self, way: Way, behind: bytes) -> None:
        """Send the first request to the end of its response, or of the connection."""
        connection, client = self.connection, self.client
        client.reads = not way.slow
        if way.later:
            client.send(way.sent)
            self.drive(lambda: not connection.reader.idle or client.received)
            client.send(way.later + behind)
        elif way.expires:
            self._expire(way)
        else:
            client.send(way.sent + behind)
        if way.slow:
            self.drive(lambda: connection.state is ConnectionState.SENDING)
            client.reads = True
        if way.is_kept(self.worker.kind):
            self.drive(lambda: bytes(client.received).endswith(b"/second" if behind == SECOND else way.got))
        else:
            self.drive(lambda: client.ended)

    def _expire(self, way: Way) -> None:
        connection, client = self.connection, self.client
        client.send(way.sent)
        if way.sent:
            self.drive(lambda: connection.reader.rest or not connection.reader.idle)
        self._pass_deadline()

    def _pass_deadline(self) -> None:
        """Have the loop find the connection past its deadline, as it is by then."""
        connection = self.connection
        if connection.deadline < float("inf"):
            self.worker.loop.now = connection.deadline + 0.1
            connection.expired()


CASES = list(itertools.product(("plain", "tls"), Running, WAYS))


@pytest.mark.parametrize(("transport", "running", "way"), CASES, ids=lambda each: getattr(each, "name", each))
def test_the_second_request(
    transport: str, running: Running, way: Way, certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    for second in Second:
        _check(transport, running, way, second, certificates, tmp_path)


def _check(
    transport: str, running: Running, way: Way, second: Second, certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    behind = {Second.LATER: b"", Second.BEHIND: SECOND, Second.TORN: SECOND[:10]}[second]
    secure = certificates if transport == "tls" else None
    with Worker(tmp_path, running) as worker, contextlib.closing(Conversation(worker, secure)) as conversation:
        connection, client = conversation.connection, conversation.client
        conversation.first(way, behind)
        if way.is_kept(running):
            _check_kept(conversation, way, behind)
        else:
            _check_ended(connection, client, worker, way, transport)
        # Nothing is left with the connection of what has been.
        assert connection.extension is None
        assert connection.outbox is None or not connection.outbox.memory_bytes


def _check_kept(conversation: Conversation, way: Way, behind: bytes) -> None:
    connection, client = conversation.connection, conversation.client
    client.send(SECOND[len(behind) :])
    conversation.drive(lambda: bytes(client.received).endswith(b"/second"))
    assert bytes(client.received).count(b"HTTP/1.1 ") == 2
    assert way.got in bytes(client.received)
    conversation.drive(lambda: connection.state is ConnectionState.READING)
    assert connection.kept
    assert connection.between_requests
    # It ends when its client leaves.
    client.end()
    conversation.drive(lambda: connection.state is ConnectionState.CLOSED)
    assert connection not in conversation.worker.connections


def _check_ended(connection: Connection, client: LocalClient, worker: Worker, way: Way, transport: str) -> None:
    assert way.got in bytes(client.received)
    assert b"/second" not in bytes(client.received)
    if transport == "tls":
        assert client.ended in ((way.ended, "reset") if way.ended == "cut" else (way.ended,))
    else:
        assert client.ended in ("reset", "end")
    client.end() if client.ended == "end" else client.close()
    worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)
    assert not worker.connections
