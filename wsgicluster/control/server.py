"""The server's side of the control socket: clients, their requests, and what is still owed to them.

One more source of the arbiter's inbox. No client can make it wait: it reads what is there, carries out so many
requests of a client for each second and not more, sends what fits, and drops a client that does not read. Commands that
take time are polled, once in each turn of the arbiter's loop.
"""

import contextlib
import dataclasses
import logging
import math
import os
import select
import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from wsgicluster.clock import Clock
from wsgicluster.control import address, commands, protocol
from wsgicluster.control.protocol import ControlError, ErrorCode, Request
from wsgicluster.control.token_bucket import TokenBucket
from wsgicluster.dataclass import dataclass

MOST_CLIENTS = 64
ACCEPTS_A_SECOND = 200.0
RETRY_S = 1.0
"""How soon it is tried again to accept a client after the system has refused to."""
REQUESTS_A_SECOND = 100.0
"""Of one client; as many may come at once after a second of silence."""
REQUESTS_A_TURN = 16
"""Of one client in one turn of the loop."""
UNSENT_BYTES = 4 << 20
"""A client for which more than this waits does not read."""
LEFT_LOOK_S = 1.0
"""How soon it is noticed that a client has left which had closed its half before: of that no event tells."""
_RECEIVE_BYTES = 65536


class Watcher(Protocol):
    """The inbox."""

    def watch(self, source: socket.socket, handle: Callable[[], object], *, writable: bool = False) -> None:
        """Call when the source is readable, or else writable."""

    def unwatch(self, source: socket.socket) -> None:
        """Do so no longer; harmless when repeated."""


class Call:
    """One command of one client, until it is answered: by exactly one of `succeed` and `fail`, or by `poll` later."""

    def __init__(self, client: "ControlClient", request: Request, args: dict[str, Any], now: float) -> None:
        self.command = request.command
        self.args = args
        self.poll: Callable[[], object] | None = None
        """Called in each turn of the loop while the command is not answered, if it was set."""
        self.due = math.inf
        """When `poll` is to be called although nothing has happened, on the monotonic clock."""
        self.on_end: Callable[[], object] | None = None
        """Called once it is answered, or its client has gone."""
        self.at_close: Callable[[], object] | None = None
        """The result where the server ends before; without it that is an error."""
        self.is_over = False
        self.begun_at = now
        self._client = client
        self._id = request.id

    @property
    def peer(self) -> str:
        """Who asks, for the log."""
        return self._client.peer

    def item(self, item: object) -> None:
        """Send one of several items."""
        if not self.is_over:
            self._client.send(protocol.encode_item(self._id, item))

    def succeed(self, result: object) -> None:
        """Answer with the result; ignored when it is over."""
        self._finish(protocol.encode_result(self._id, result))

    def fail(self, error: ControlError) -> None:
        """Answer with an error; ignored when it is over."""
        self._finish(protocol.encode_error(self._id, error))

    def _finish(self, line: bytes) -> None:
        if not self.is_over:
            self._client.send(line)
            self.drop()

    def drop(self) -> None:
        """Answer nothing more: the client has gone."""
        if not self.is_over:
            self.is_over = True
            self._client.pending.discard(self)
            if self.on_end is not None:
                self.on_end()


Handler: TypeAlias = Callable[[Call], object]
"""Answers a call, or sets its ``poll``; may raise ControlError."""


@dataclass(eq=False)
class ControlClient:
    """One client, and what it is owed. ``heard_at`` is when its last request came."""

    sock: socket.socket
    peer: str
    bucket: TokenBucket
    heard_at: float
    drop: Callable[["ControlClient"], object]
    wait: Callable[["ControlClient"], object]
    """Called when something could not be sent now."""
    pending: set[Call] = dataclasses.field(default_factory=set)
    received: bytearray = dataclasses.field(default_factory=bytearray)
    unsent: bytearray = dataclasses.field(default_factory=bytearray)
    has_ended: bool = False
    """It will send no more."""
    is_gone: bool = False
    is_ours: bool = False
    """It is a process of the server itself: nobody else takes its place."""

    def send(self, line: bytes) -> None:
        """Send, or keep what does not fit; one that does not read is dropped."""
        if self.is_gone:
            return
        self.unsent += line
        self.flush()
        if len(self.unsent) > UNSENT_BYTES:
            self.drop(self)
        elif self.unsent:
            self.wait(self)

    def flush(self) -> None:
        """Send what fits now."""
        while self.unsent and not self.is_gone:
            try:
                sent = self.sock.send(self.unsent, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self.drop(self)
                return
            del self.unsent[:sent]

    def has_left(self) -> bool:
        """Has it closed its end, and not just the half that it sends on? Then it reads no reply any more."""
        poll = select.poll()
        poll.register(self.sock, 0)  # what is always reported remains
        return bool(poll.poll(0))

    def next_line(self) -> bytes | None:
        """The next whole request; None when there is none yet. Raises ControlError for one that is too long."""
        end = self.received.find(b"\n")
        if end < 0 and len(self.received) < protocol.REQUEST_BYTES:
            return None
        if end < 0 or end >= protocol.REQUEST_BYTES:
            raise ControlError(ErrorCode.INVALID, f"a request has at most {protocol.REQUEST_BYTES} bytes")
        line = bytes(self.received[:end])
        del self.received[: end + 1]
        return line


class ControlServer:
    """The control socket of one server; to be closed by its owner.

    ``handlers`` has one for each command; ``users`` are those that may connect, besides root. Without a listener it has
    the clients alone that it is given.
    """

    def __init__(
        self,
        listener: socket.socket | None,
        inbox: Watcher,
        handlers: Mapping[str, Handler],
        clock: Clock,
        log: logging.Logger,
        users: frozenset[int] | None = None,
    ) -> None:
        self._listener = listener
        self._inbox = inbox
        self._handlers = handlers
        self._clock = clock
        self._log = log
        self._users = frozenset({0, os.geteuid()}) if users is None else users
        self._clients: dict[ControlClient, None] = {}
        self._accepts = TokenBucket(ACCEPTS_A_SECOND, clock.monotonic())
        self._throttled: set[ControlClient] = set()
        self._listens = False
        self._is_closed = False
        self._refused_at = 0.0
        """When the system has refused to accept a client; 0.0 once it has not."""
        self._listen()

    @property
    def clients(self) -> int:
        """How many there are."""
        return len(self._clients)

    def _listen(self) -> None:
        if not self._listens and self._listener is not None:
            listener = self._listener
            self._inbox.watch(listener, lambda: self._accept(listener))
            self._listens = True

    def _pause(self, listener: socket.socket) -> None:
        self._inbox.unwatch(listener)
        self._listens = False

    def _accepts_at(self) -> float:
        return max(self._accepts.due(), self._refused_at + RETRY_S if self._refused_at else 0.0)

    # Clients

    def admit(self, sock: socket.socket, peer: str) -> None:
        """Have a process of the server as a client; ``peer`` is its name in the log."""
        sock.setblocking(False)
        now = self._clock.monotonic()
        client = ControlClient(
            sock, peer, TokenBucket(REQUESTS_A_SECOND, now), now, self._drop, self._watch, is_ours=True
        )
        self._clients[client] = None
        self._watch(client)

    def _accept(self, listener: socket.socket) -> None:
        now = self._clock.monotonic()
        while self._accepts.take(now):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                self._accepts.give_back()
                return
            except OSError as error:
                # No descriptor is left, for instance: the client waits in the queue until there is one.
                if not self._refused_at:
                    self._log.warning("Control socket: no client can be accepted now: %s", error.strerror)
                self._refused_at = now
                break
            self._refused_at = 0.0
            self._take(sock, now)
        self._pause(listener)

    def _take(self, sock: socket.socket, now: float) -> None:
        sock.setblocking(False)
        found = address.peer_of(sock)
        if found is not None and found[1] not in self._users:
            message = f"user {found[1]} may not control this server, which user {os.geteuid()} runs"
            self._turn_away(sock, ControlError(ErrorCode.NOT_ALLOWED, message))
            return
        others = sum(not client.is_ours for client in self._clients)
        if others >= MOST_CLIENTS and not self._make_room():
            message = f"{others} clients wait for answers already"
            self._turn_away(sock, ControlError(ErrorCode.OVERLOADED, message))
            return
        peer = f"pid {found[0]}" if found is not None and found[0] else "another namespace"
        client = ControlClient(sock, peer, TokenBucket(REQUESTS_A_SECOND, now), now, self._drop, self._watch)
        self._clients[client] = None
        self._watch(client)

    def _turn_away(self, sock: socket.socket, error: ControlError) -> None:
        with contextlib.suppress(OSError):  # it has gone
            sock.send(protocol.encode_error(None, error), socket.MSG_NOSIGNAL)
        sock.close()

    def _make_room(self) -> bool:
        """Drop the client that has been silent for longest, of those that wait for nothing."""
        idle = [client for client in self._clients if not client.pending and not client.is_ours]
        if not idle:
            return False
        self._drop(min(idle, key=lambda client: client.heard_at))
        return True

    def _watch(self, client: ControlClient) -> None:
        """Wait for what comes next: room to send, before anything more is read; or else requests."""
        self._inbox.unwatch(client.sock)
        if client.is_gone:
            return
        if client.unsent:
            self._inbox.watch(client.sock, lambda: self._flush(client), writable=True)
        elif client not in self._throttled and not client.has_ended:
            self._inbox.watch(client.sock, lambda: self._read(client))

    def _flush(self, client: ControlClient) -> None:
        client.flush()
        if not client.unsent:
            self._take_requests(client)
        self._end_if_done(client)

    def _read(self, client: ControlClient) -> None:
        try:
            data = client.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            client.received += data
        else:
            client.has_ended = True
        self._take_requests(client)
        self._end_if_done(client)

    def _end_if_done(self, client: ControlClient) -> None:
        """Drop a client that has sent its last request, and has all answers, or has left without those that wait."""
        if not client.has_ended or client.unsent or client in self._throttled:
            return
        if not any(call.poll is not None for call in client.pending) or client.has_left():
            self._drop(client)

    def _drop(self, client: ControlClient) -> None:
        if client.is_gone:
            return
        client.is_gone = True
        self._clients.pop(client, None)
        self._throttled.discard(client)
        self._inbox.unwatch(client.sock)
        client.sock.close()
        for call in list(client.pending):
            call.drop()

    # Requests

    def _take_requests(self, client: ControlClient) -> None:
        now = self._clock.monotonic()
        self._throttled.discard(client)
        for _ in range(REQUESTS_A_TURN):
            if client.is_gone or client.unsent:
                break
            try:
                line = client.next_line()
            except ControlError as error:
                client.send(protocol.encode_error(None, error))
                self._drop(client)
                return
            if line is None:
                break
            if not client.bucket.take(now):
                client.received[:0] = line + b"\n"
                self._throttled.add(client)
                break
            client.heard_at = now
            if line.strip():
                self._carry_out(client, line, now)
        else:
            # What is left comes in the next turn of the loop, after everything else that waits.
            self._throttled.add(client)
        self._watch(client)

    def _carry_out(self, client: ControlClient, line: bytes, now: float) -> None:
        try:
            request = protocol.parse_request(line)
        except ControlError as error:
            client.send(protocol.encode_error(None, error))
            return
        try:
            args = commands.check(request.command, request.args)
        except ControlError as error:
            client.send(protocol.encode_error(request.id, error))
            return
        call = Call(client, request, args, now)
        client.pending.add(call)
        try:
            self._handlers[request.command](call)
        except ControlError as error:
            call.fail(error)
        except Exception:  # noqa: BLE001
            # The boundary of a command: its client learns of it, and supervision continues.
            self._log.exception("Control socket: %s failed", request.command)
            call.fail(ControlError(ErrorCode.INTERNAL, f"{request.command} failed; the error log has the traceback"))

    # One turn of the arbiter's loop

    def advance(self) -> None:
        """Look at commands that wait, and at clients that were throttled."""
        now = self._clock.monotonic()
        for client in list(self._clients):
            for call in list(client.pending):
                if call.poll is not None:
                    call.poll()
            if client in self._throttled and client.bucket.due() <= now:
                self._take_requests(client)
            self._end_if_done(client)
        if not self._listens and self._accepts_at() <= now:
            self._listen()

    def next_due(self) -> float:
        """When `advance` has something to do that no event will announce; infinite if never."""
        waits = [call.due for client in self._clients for call in client.pending]
        buckets = [client.bucket.due() for client in self._throttled]
        if any(client.has_ended for client in self._clients):
            waits.append(self._clock.monotonic() + LEFT_LOOK_S)
        accepts = math.inf if self._listens or self._listener is None else self._accepts_at()
        return min(accepts, *waits, *buckets) if waits or buckets else accepts

    def close(self) -> None:
        """Answer all that wait, and close everything. May be repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        for client in list(self._clients):
            for call in list(client.pending):
                if call.at_close is not None:
                    call.succeed(call.at_close())
                else:
                    call.fail(ControlError(ErrorCode.STOPPING, "the server has stopped"))
            self._drop(client)
        if self._listener is not None:
            self._inbox.unwatch(self._listener)
            address.close_listener(self._listener)
