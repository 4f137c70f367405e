"""A worker of any kind inside the test's own process, with real sockets; the test turns its loop."""

import contextlib
import logging
import socket
import time
from collections.abc import Callable
from operator import methodcaller
from typing import Any

from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.mailbox import Mailboxes
from wsgicluster.ipc.messages import Channel, Message, Ready, SchedulingChanged
from wsgicluster.ipc.scheduling import Scheduling, store_scheduling
from wsgicluster.ipc.scoreboard import Cell, Scoreboard, ServerState, WorkerState
from wsgicluster.logs.access_log import AccessLog, compile_format
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.worker.kinds.assembly import Booted, build_worker
from wsgicluster.worker.kinds.parts import KindParts
from wsgicluster.worker.lifecycle.recycle import Recycling
from wsgicluster.worker.lifecycle.state import StateCell
from wsgicluster.worker.loop.loop import do_nothing

DEADLINE_S = 10.0


class Lines(logging.Handler):
    """Notes each record of a log as a line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


class ListedLogs(Logs):
    """Both logs in lists."""

    def __init__(self) -> None:
        self.error = logging.Logger("own worker", logging.DEBUG)  # noqa: LOG001 - one that nothing else finds
        self.handler = Lines()
        self.error.addHandler(self.handler)
        self.access_lines: list[str] = []
        self.access = AccessLog(compile_format('"%(r)s" %(s)s'), self.access_lines.extend)
        self.reopened = 0

    def append(self, data: bytes) -> None:
        self.handler.lines.append(f"{data!r} as it was written")

    def reopen(self) -> None:
        self.reopened += 1


def hello(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The application unless there is another one."""
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


class OwnWorker:
    """One worker and its arbiter's ends of everything. To be closed, as a context manager does it.

    ``siblings`` are pages of other workers, all READY.
    """

    def __init__(
        self,
        kind: KindParts,
        application: Any = hello,
        recycling: Recycling | None = None,
        siblings: int = 0,
        mailboxes: Mailboxes | None = None,
        **settings: Any,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self.logs = ListedLogs()
        self.listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listener.setblocking(False)
        self.board = board = Scoreboard(None)
        self._stack.callback(board.close)
        board.server.cells[Cell.STATE] = ServerState.SERVING
        self.arbiter, channel = Channel.pair()
        self._stack.callback(self.arbiter.close)
        self._stack.callback(channel.close)
        receive, self.hand_off = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (receive, self.hand_off):
            sock.setblocking(False)
            self._stack.enter_context(sock)
        self.page = board.take(1, 1)
        self.siblings = [board.take(slot, 1) for slot in range(2, siblings + 2)]
        for page in self.siblings:
            page.cells[Cell.STATE] = WorkerState.READY
        board.server.cells[Cell.WANTED] = siblings + 1
        assignment = Assignment(
            1, 1, self.page, board, channel, (self.listener,), receive, self.hand_off, -1, mailboxes=mailboxes
        )
        self.assignment = assignment
        # Every request may be slow on a busy machine, and few tests are about that.
        values = Settings(**{"workers": siblings + 1, "keepalive_slow": 5.0, **settings})
        sticky = values.sticky
        store_scheduling(board.server, Scheduling(values.scheduling, values.weights, sticky.form, sticky.name))
        booted = Booted(
            values,
            assignment,
            self.logs,
            StateCell(self.page),
            recycling or Recycling(0, 0, 0.0, lambda: 0),
        )
        self.worker = build_worker(booted, kind, application)
        self.context, self.parts = self.worker.context, self.worker.parts
        self.loop = self.context.loop
        self._drained = False
        self._stack.callback(self._end)

    def __enter__(self) -> "OwnWorker":
        """As `Worker.serve` begins."""
        self.worker.begin(Ready(0.1, 0))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _end(self) -> None:
        if self.parts.cycle.abandoned:
            return
        for connection in list(self.context.connections):
            connection.close()
        self.parts.acceptor.abandon()
        self.loop.close()

    @property
    def said(self) -> str:
        """The error log."""
        return "\n".join(self.logs.handler.lines)

    @property
    def drained(self) -> bool:
        """Whether nothing is left to do for a worker that leaves."""
        return self._drained

    def turn(self) -> None:
        """One turn of the loop, as `Worker.serve` makes it, which does not wait for long."""
        self.loop.call_at(time.monotonic() + 0.05, do_nothing)
        self.loop.turn(methodcaller("expired"))
        self.worker.record()
        self.parts.logs.write()
        if self.context.state.leaving and not self._drained:
            self._drained = self.parts.drain.step()

    def turn_until(self, done: Callable[[], object], what: str = "") -> None:
        """Turn until something is so."""
        deadline = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < deadline, f"not in time: {what or done}; {self.said}"
            self.turn()

    def follow(self, scheduling: Scheduling) -> None:
        """Have it follow another scheduling policy, as the arbiter does."""
        store_scheduling(self.board.server, scheduling)
        assert self.arbiter.send(SchedulingChanged())
        in_force = self.context.in_force
        self.turn_until(lambda: in_force.settings.scheduling == scheduling.policy, "it follows the policy")

    def connect(self) -> socket.socket:
        """A client, which waits for nothing."""
        client = self._stack.enter_context(socket.create_connection(self.listener.getsockname()))
        client.setblocking(False)
        return client

    def ask(self, client: socket.socket, head: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") -> None:
        """Send a request."""
        client.send(head)

    def answer(self, client: socket.socket, end: bytes = b"hello") -> bytes:
        """Turn until a client has a response that ends so, or its connection has ended; what it has got."""
        received = bytearray()

        def is_there() -> bool:
            with contextlib.suppress(BlockingIOError):
                data = client.recv(65536)
                received.extend(data)
                return not data or received.endswith(end)
            return False

        self.turn_until(is_there, f"a response; there is {bytes(received)!r}")
        return bytes(received)

    def told(self) -> list[Message]:
        """What the arbiter has been sent."""
        found: list[Message] = []
        while (message := self.arbiter.receive()) is not None:
            found.append(message)
        return found
