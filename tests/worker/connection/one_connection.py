"""One connection of a worker that is a plain object: a real loop, real sockets, and a client that never waits.

The worker runs requests as the kinds do: within the loop (inline), when the test says so (offloaded), or in greenlets
that receive bodies while they run (streaming). Each step is a turn of the loop, so that a test decides what happens in
which order. Times are the loop's ``now``, which a test may set.
"""

import contextlib
import enum
import io
import logging
import os
import pathlib
import select
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any

import greenlet

from tests.certificates import Certificates
from wsgicluster.errors import BrokenBody, ClientGone, ProtocolError, ServerError
from wsgicluster.http.connection import BodyStore, RequestReader
from wsgicluster.http.limits import HeadLimits
from wsgicluster.http.response import error_response
from wsgicluster.ipc.reasons import BadRequest, CloseReason
from wsgicluster.ipc.scoreboard import Scoreboard
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.offloaded import OffloadedConnection
from wsgicluster.worker.connection.preamble import PreambleSettings
from wsgicluster.worker.connection.raw import limit_to_heads
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.kinds.gevent.streaming import BodyFeed, StreamedBody
from wsgicluster.worker.loop.loop import Loop, do_nothing
from wsgicluster.worker.request.cycle import Outcome
from wsgicluster.worker.request.in_flight import RequestsInFlight
from wsgicluster.worker.transport.outbox import Storage
from wsgicluster.worker.transport.timeouts import Timing
from wsgicluster.worker.transport.tls import TlsTransport
from wsgicluster.wsgi.files import FileRegion
from wsgicluster.wsgi.input import StoredBody
from wsgicluster.wsgi.response import Response, Stamp
from wsgicluster.wsgi.trust import Peers

LARGE = b"large " * 50_000
DEADLINE_S = 3.0
TIMING = Timing(keepalive_s=75.0, head_s=20.0, body_s=30.0, write_s=40.0)


class Running(enum.Enum):
    """Where requests run."""

    INLINE = "inline"
    OFFLOADED = "offloaded"
    STREAMING = "streaming"


App = Callable[[Response, dict[str, Any]], object]


def whole(response: Response, environ: dict[str, Any]) -> None:
    """A small response; says which request it is for."""
    response.start_response("200 OK", [])
    response.send_whole(environ["PATH_INFO"].encode())


class Worker:
    """What a connection needs of its worker; `apps` serve by the path's first part, `whole` all others."""

    def __init__(self, folder: pathlib.Path, running: Running = Running.INLINE, storage: Storage | None = None) -> None:
        self._stack = contextlib.ExitStack()
        board = Scoreboard(str(folder))
        self._stack.callback(board.close)
        page = board.take(1, 1)
        self.loop = Loop(page, 0.0)
        self._stack.callback(self.loop.close)
        self.folder = folder
        self.kind = running
        self.timing = TIMING
        self.storage = storage or Storage(str(folder), 32_768, 100_000, spools=running is Running.INLINE)
        self.draining = False
        self.keeps = True
        self.may_keep: Callable[[], bool] = lambda: self.keeps
        self.received_bytes = 0
        self.fast_path: Any = None
        self.limits = (HeadLimits(), HeadLimits())
        self.running = RequestsInFlight(page)
        self.capacity = sys.maxsize
        self.on_request: Callable[[Any], object] = {
            Running.INLINE: self._run,
            Running.OFFLOADED: self._queue,
            Running.STREAMING: self._run_in_greenlet,
        }[running]
        self.connections: set[Connection] = set()
        self.queue: deque[Connection] = deque()
        self.apps: dict[str, App] = {}
        self.idle_calls: list[Callable[[], object]] = []
        """What else happens while a request waits for its client."""
        self.told: list[str] = []
        """What connections have said."""
        self.reasons: list[CloseReason] = []
        """Why connections were closed, the oldest first."""
        self.bad_requests: list[BadRequest] = []
        self.offers = False
        self.raw = False
        """As with ``raw_socket``."""
        self.waits_s = 0.0

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        for connection in list(self.connections):
            connection.close()
        self._stack.close()

    # -- what connections ask

    def adopt(self, connection: Connection, template: dict[str, Any]) -> None:
        self.told.append(f"adopted {template['REMOTE_ADDR']}")

    def runs_early(self, connection: Connection) -> bool:
        feed = connection.reader.store
        if not isinstance(feed, BodyFeed):
            return False
        StreamedBody(self, connection, feed).begin()
        return True

    def waits(self, connection: Connection) -> None:
        self.told.append("waits")

    def left(self, connection: Connection, reason: CloseReason) -> None:
        self.reasons.append(reason)
        self.connections.discard(connection)
        connection.contact.close()

    def date(self) -> str:
        return "Sun, 06 Nov 1994 08:49:37 GMT"

    def refused(self, connection: Connection, error: ProtocolError, sent_bytes: int) -> None:
        self.told.append(f"refused {error.status}: {error.detail}")

    def note_bad_request(self, what: BadRequest) -> None:
        self.bad_requests.append(what)

    def rejected(self, connection: Connection, kind: str, reason: str) -> None:
        self.told.append(f"rejected {kind}: {reason}")

    def wait_for_client(self, poll: select.poll, limit_s: float) -> None:
        for call in self.idle_calls:
            call()
        poll.poll(0)

    def has_waited(self, seconds: float) -> None:
        self.waits_s += seconds

    def broken(self, connection: Connection, error: ServerError) -> None:
        self.told.append(f"broken: {error}")

    def offer_to_sibling(self, connection: OffloadedConnection) -> bool:
        if self.offers:
            connection.pause()
        return self.offers

    def call_soon(self, call: Callable[[], object]) -> None:
        self.loop.soon.append(call)

    def lift_deadline(self, connection: Connection) -> None:
        self.told.append("deadline lifted")

    def new_waiter(self) -> "GreenletWaiter":
        return GreenletWaiter(self)

    # -- requests

    def open_body(self, length: int) -> BodyStore:
        if self.kind is Running.STREAMING:
            return BodyFeed(str(self.folder))
        return StoredBody(str(self.folder), length)

    def _queue(self, connection: Connection) -> None:
        self.queue.append(connection)

    def run_queued(self) -> None:
        """As a thread does: run the oldest request, and leave to the loop what only that may do."""
        connection = self.queue.popleft()
        assert isinstance(connection, OffloadedConnection)
        left = connection.settle(self.answer(connection))
        if left is not None:
            self.call_soon(left)

    def _run(self, connection: Connection) -> None:
        connection.finished(self.answer(connection))

    def _run_in_greenlet(self, connection: Connection) -> None:
        greenlet.greenlet(self._run).switch(connection)

    def answer(self, connection: Connection) -> Outcome:
        """As the cycle does."""
        reader = connection.reader
        environ = reader.environ
        environ["wsgi.input"] = reader.body or io.BytesIO()
        del reader.environ, reader.body
        response = Response(connection, reader.flags, Stamp(0.0))
        connection.contact.answer = response
        try:
            self.apps.get(environ["PATH_INFO"].split("/")[1], whole)(response, environ)
        except BrokenBody as error:
            self.told.append(f"broken body: {error}")
            if error.refusal is None or response.head_sent:
                return Outcome.ABORT
            connection.send(error_response(error.refusal.status, self.date(), error.refusal.detail, ""))
            return Outcome.CLOSE
        except (ClientGone, ServerError) as error:
            self.told.append(f"failed: {error}")
            return Outcome.ABORT
        finally:
            connection.contact.answer = None
        return Outcome.KEEP if response.keep else Outcome.CLOSE

    # -- clients

    def connect(
        self,
        certificates: Certificates | None = None,
        *,
        version: ssl.TLSVersion | None = None,
        preamble: PreambleSettings | None = None,
        buffer_bytes: int = 16_384,
    ) -> tuple[Connection, "LocalClient"]:
        """A new connection, over TLS with certificates; its handshake is complete."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        client = LocalClient(theirs, certificates.client(version=version) if certificates is not None else None)
        self._stack.callback(client.close)
        if certificates is not None:
            preamble = preamble or tls_preamble(certificates)
        connection = self.open(ours.detach(), preamble)
        if certificates is not None:
            self.drive(client, lambda: client.ready and connection.state is ConnectionState.READING)
        return connection, client

    def open(self, descriptor: int, preamble: PreambleSettings | None = None) -> Connection:
        """As the acceptor does."""
        template = {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "4711", "wsgi.url_scheme": "http"}
        reader = RequestReader(template, self.limits[0], self.open_body)
        connection = (
            Connection(self, descriptor, 0, reader)
            if self.kind is Running.INLINE
            else OffloadedConnection(self, descriptor, 0, reader)
        )
        if self.raw:
            limit_to_heads(connection)
        connection.client = b"127.0.0.1:4711"
        self.connections.add(connection)
        if preamble is not None:
            preamble.apply(connection)
        connection.receive_if_open()
        return connection

    def turn(self) -> None:
        """One turn of the loop, which waits for nothing."""
        self.loop.soon.append(do_nothing)
        self.loop.turn(methodcaller("expired"))

    def drive(self, client: "LocalClient", done: Callable[[], object]) -> None:
        """Turn, and have the client send and read, until it is ``done``."""
        deadline = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < deadline, f"not in time; {self.told}, {bytes(client.received[:200])!r}"
            client.move()
            self.turn()
            if self.queue:
                self.run_queued()


class GreenletWaiter:
    """One wait of a request that runs in a greenlet; the loop is in the main one."""

    def __init__(self, worker: Worker) -> None:
        self._loop = worker.loop
        self._greenlet = greenlet.getcurrent()
        self._awake = False

    def wait(self) -> None:
        """Let the loop turn until `wake`."""
        while not self._awake:
            parent = self._greenlet.parent
            assert parent is not None, "requests with a streamed body run in a greenlet"
            parent.switch()

    def wake(self) -> None:
        """End the wait."""
        self._awake = True
        self._loop.soon.append(self._greenlet.switch)


class LocalClient:
    """The other end, with TLS in memory or without; ``reads`` says whether it takes what comes."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._unsent = b""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = (
            context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
            if context is not None
            else None
        )
        self.ready = context is None
        self.received = bytearray()
        self.reads = True
        self.ended = ""
        """How the server has ended the connection: ``end``, ``reset``, or, with TLS and no close_notify, ``cut``."""
        self._said_end = False

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Begin with TLS now; what has been sent was plain."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.ready = False

    def send_part(self, data: bytes, size: int) -> None:
        """Send only so many bytes of the record that holds the data; the rest follows with `move`."""
        assert self._tls is not None
        self._tls.write(data)
        record = self._outgoing.read()
        self._sock.sendall(record[:size])
        self._unsent += record[size:]

    def send_plain(self, data: bytes) -> None:
        """Send bytes past TLS."""
        self._sock.sendall(data)

    def end_tls(self) -> None:
        """Send what TLS has to say of its failure, and speak it no more."""
        self._sock.sendall(self._outgoing.read())
        self._tls = None

    def send(self, data: bytes) -> None:
        """Send as much as possible now, and the rest when it `move` s."""
        if self._tls is None:
            self._unsent += data
        else:
            self._tls.write(data)
        self.move()

    def end(self) -> None:
        """Send nothing more."""
        if self._tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
        self.move()
        self._sock.shutdown(socket.SHUT_WR)

    def move(self) -> bool:
        """Send and receive what is possible; False, so that a condition may begin with it."""
        self._move()
        return False

    def _move(self) -> None:
        if self._tls is not None:
            if not self.ready:
                self._decrypt()
            self._unsent += self._outgoing.read()
        if self._unsent:
            with contextlib.suppress(OSError):  # full, or closed by the server
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
        if not self.reads or self.ended:
            return
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            self.ended = "reset"
            return
        if self._tls is None:
            self.received += data
            self.ended = "" if data else "end"
            return
        self._incoming.write(data)
        self._decrypt()
        if not data:
            self.ended = "end" if self._said_end else "cut"

    def _decrypt(self) -> None:
        assert self._tls is not None
        try:
            if not self.ready:
                self._tls.do_handshake()
                self.ready = True
            while data := self._tls.read(1 << 20):
                self.received += data
            self._said_end = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._said_end = True

    def close(self) -> None:
        """Leave; over bytes that were not read this is a reset."""
        self._sock.close()


def tls_preamble(certificates: Certificates) -> PreambleSettings:
    """As `PreambleSettings.of` makes it for a server with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.path("server.pem"), certificates.path("server.key"))
    preamble = PreambleSettings(None, Peers(("*",)), Peers(()), logging.getLogger("tests.connection"))
    preamble.tls = partial(TlsTransport, context=context)
    return preamble


def region_of(folder: pathlib.Path, data: bytes) -> FileRegion:
    """A part of an unlinked file that holds the data; its descriptor is to be closed."""
    path = folder / "sent"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    path.unlink()
    return FileRegion(descriptor, 0, len(data))
