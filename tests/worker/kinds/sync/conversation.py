"""A real sync worker inside the test's own process, and what one client, its application and its operator see of it.

The client's socket waits in the worker's own loop, so that one thread drives both and each step is known
to be over: nothing here depends on how long anything takes. Who answers is `exchange_implementations`' business.
"""

import contextlib
import dataclasses
import enum
import logging
import math
import os
import pathlib
import re
import select
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

from tests.worker.kinds.sync.fast_path_implementations import RUNNERS
from tests.worker.kinds.sync.looped_client import DEADLINE_S, WINDOW_BYTES, Client, Ending, Segment
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import Channel
from wsgicluster.ipc.scoreboard import (
    BUCKETS,
    CLIENT_BYTES,
    CLIENT_OFFSET,
    LINE_BYTES,
    LINE_OFFSET,
    STATUS_CLASSES,
    Cell,
    Page,
    Scoreboard,
    WorkerState,
)
from wsgicluster.logs.access_log import AccessLog, compile_format
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.kinds.assembly import Booted, build_worker
from wsgicluster.worker.kinds.sync.worker import PARTS
from wsgicluster.worker.kinds.worker import Worker
from wsgicluster.worker.lifecycle.recycle import Recycling
from wsgicluster.worker.lifecycle.state import StateCell
from wsgicluster.worker.loop.deadlines import Watched
from wsgicluster.worker.loop.loop import do_nothing

FORMAT = (
    '%(h)s %(u)s "%(r)s" %(m)s %(U)s %(q)s %(H)s %(s)s %(B)s %(b)s "%(f)s" "%(a)s" '
    "%({host}i)s %({content-type}o)s %({content-length}o)s %({X-Late}o)s %({wsgi.url_scheme}e)s %({REMOTE_PORT}e)s"
)
"""All atoms but those of time and process."""

StartResponse = Callable[..., Callable[[bytes], object]]
Environ = dict[str, Any]

_PROBE = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n"
_PROBE_STATUS = "299 Probe"
_PROBE_BODY = b"<the probe's answer>"
_OWN_DATE = re.compile(rb"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} 20[2-9]\d [\d:]{8} GMT")
_LONG = 2000
_LARGE = 10 * _LONG


_FILLER = b"filler " * 500
_WAITING = frozenset((ConnectionState.SENDING, ConnectionState.LINGERING))


class Room(enum.Enum):
    """How much of a response the socket takes before the client reads."""

    AMPLE = enum.auto()
    LITTLE = enum.auto()
    NONE = enum.auto()


@dataclasses.dataclass(frozen=True)
class Seen:
    """All that can be seen of one conversation; dates and ports, which differ each time, are replaced."""

    received: bytes
    """What the client got; much of it is given by its beginning, length and digest."""
    ending: Ending
    counted: dict[str, int]
    shown: list[tuple[object, ...]]
    """What the scoreboard shows in each call and after the last: client, request line, if it has started, has time."""
    access: list[str]
    errors: list[str]
    environs: list[dict[str, object]]
    """Each environ as the application got it, with the type's name for what is no plain value."""
    notes: list[object]
    """What the application has written down."""
    shortcuts: list[bool]
    """For each call of the application whether it came out of an CompiledFastPath; no part of the behaviour."""


def differences(wanted: Seen, seen: Seen) -> list[str]:
    """What a twin did in another way, each as one short text."""
    found = []
    for field in dataclasses.fields(Seen):
        expected, got = getattr(wanted, field.name), getattr(seen, field.name)
        if field.name != "shortcuts" and expected != got:
            found.append(f"{field.name}:\n  wanted {_shown(expected)}\n  but got {_shown(got)}")
    return found


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}... ({len(text)} characters)"


class Case:
    """What an application is given beside PEP 3333: where to note things, and its client and worker."""

    def __init__(self, client: Client, worker: Worker) -> None:
        self.client = client
        self.worker = worker
        self.notes: list[object] = []
        self.kept: dict[str, Any] = {}
        """What one request leaves for the next one of the same conversation."""
        self.at_end: list[Callable[[], object]] = []
        """Called when all is over; what they return is noted."""
        self.inputs: list[Any] = []
        self.shown: list[tuple[object, ...]] = []


App = Callable[[Case, Environ, StartResponse], Any]


class _Lines(logging.Handler):
    """Notes each record as one line: level, message, and the exception that came with it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        cause = f" ({type(error).__name__}: {error})" if error is not None else ""
        text = record.getMessage()
        if ": refused with " in text:
            # How many of a kind have come before, in other cases of this worker, is no matter here.
            text = f"REFUSED {text}"
        elif "more requests were refused" in text:
            return
        else:
            text = f"{record.levelname} {text}"
        self.lines.append(f"{text}{cause}")


class _ListedLogs(Logs):
    """Both logs of a worker in lists, and nothing said to loggers that other tests look at."""

    def __init__(self, with_access: bool) -> None:
        self.error = logging.Logger("conversation", logging.DEBUG)  # noqa: LOG001 - one that nobody else finds
        self.error_lines = _Lines()
        self.error.addHandler(self.error_lines)
        self.access_lines: list[str] = []
        self.access = AccessLog(compile_format(FORMAT), self.access_lines.extend) if with_access else None

    def append(self, data: bytes) -> None:
        self.error_lines.lines.append(f"{data!r} as it was written")


class Subject:
    """One worker that answers through one implementation; to be closed, as a context manager does it.

    ``folder`` is for temp files; ``access`` says whether there is an access log; ``bind`` is the listener's host,
    or ``unix``; ``slow_s`` is how long a request may take and keep its connection: without a limit, as a rule, however
    busy this machine is. ``settings`` change the default ones.
    """

    def __init__(
        self,
        implementation: str,
        folder: pathlib.Path,
        *,
        access: bool = True,
        bind: str = "127.0.0.1",
        slow_s: float = math.inf,
        **settings: Any,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._app: App = _unasked
        self._case: Case | None = None
        self._environs: list[dict[str, object]] = []
        self._shortcuts: list[bool] = []
        self._logs = _ListedLogs(access)
        assignment = self._assignment(folder, self._stack.enter_context(_listener(folder, bind)))
        self._listener = assignment.listeners[0]
        self.page: Page = assignment.page
        values = Settings(tmp_upload_dir=str(folder), keepalive_slow=slow_s, **settings)
        booted = Booted(values, assignment, self._logs, StateCell(assignment.page), Recycling(0, 0, 0.0, lambda: 0))
        kind = dataclasses.replace(PARTS, runner=RUNNERS[implementation])
        self.worker = worker = build_worker(booted, kind, self._answer)
        self.loop, self.connections = worker.context.loop, worker.context.connections
        self._runner = worker.parts.runner
        self._fast_path = worker.parts.host.fast_path
        self._stack.callback(self.loop.close)
        # As Worker.serve begins, which would then not come back before the worker leaves.
        worker.parts.acceptor.begin()
        worker.context.state.enter(WorkerState.READY)

    def __enter__(self) -> "Subject":
        return self

    def __exit__(self, *_: object) -> None:
        # What is open still is left from a conversation that was not brought to its end.
        if self._runner.arrivals is not None:
            self._runner.arrivals.abandon()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):  # its descriptor was never one, or is somebody else's
                connection.close()
        if self._case is not None:
            self._case.client.close()
        self.worker.parts.acceptor.abandon()
        self._stack.close()

    def _assignment(self, folder: pathlib.Path, listener: socket.socket) -> Assignment:
        board = Scoreboard(str(folder))
        self._stack.callback(board.close)
        for_arbiter, channel = Channel.pair()
        self._stack.callback(for_arbiter.close)
        self._stack.callback(channel.close)
        receive, send = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (receive, send):
            sock.setblocking(False)
            self._stack.enter_context(sock)
        return Assignment(1, 1, board.take(1, 1), board, channel, (listener,), receive, send, -1)

    def converse(self, app: App, segments: tuple[Segment, ...], host: str = "", room: Room = Room.AMPLE) -> Seen:
        """Send the segments one after the other, each when the worker has used the one before, and see what comes.

        An empty first segment has the connection accepted before anything is sent. ``host`` is the address the client
        comes from, if that matters. Where there is not ample ``room`` for responses, the client reads nothing before
        the worker has answered the first segment as far as it can.
        """
        before = self._counted()
        client = Client(self.loop, self._listener.getsockname(), host, room is not Room.AMPLE)
        self._app, self._case = app, Case(client, self.worker)
        self._environs, self._shortcuts = [], []
        self._logs.access_lines.clear()
        self._logs.error_lines.lines.clear()
        start = self._received_bytes()
        self.page.raw[CLIENT_OFFSET : LINE_OFFSET + LINE_BYTES] = bytes(CLIENT_BYTES + LINE_BYTES)
        filled_bytes = self._narrow(room) if client.pauses else 0
        for segment in segments:
            client.send(segment)
            if client.pauses:
                self._drive(lambda: self._waits_for_client(client, start), segments)
                client.go_on()
            self._drive(lambda: client.ending is not None or self._is_settled(client, start), segments)
            if client.ending is not None:
                break
        after = self._counted()
        seen = Seen(
            received=b"",
            ending=Ending.KEPT,
            counted={name: after[name] - before[name] for name in after},
            shown=[*self._case.shown, self._shown(client)[:3]],
            access=[line.removesuffix(f" {client.port}") for line in self._logs.access_lines],
            errors=[line.replace(f":{client.port}:", ":PORT:") for line in self._logs.error_lines.lines],
            environs=self._environs,
            notes=[*self._case.notes, *(call() for call in self._case.at_end)],
            shortcuts=list(self._shortcuts),
        )
        for source in self._case.inputs:
            source.close()  # else a file of a large body would be closed by the collector, with a warning
        ending, received = self._end(client, segments, filled_bytes)
        if room is not Room.AMPLE and ending is Ending.RESET:
            # How much a reset takes away of what was given to the kernel is the kernel's affair.
            received = received.partition(b"\r\n\r\n")[0]
        return dataclasses.replace(seen, ending=ending, received=received)

    def _narrow(self, room: Room) -> int:
        """Have a client's connection accepted, and leave little room in its socket; the bytes put there."""
        self._drive(lambda: bool(self.connections) and not self._has_events(), "none yet")
        (connection,) = self.connections
        count = 0
        with socket.socket(fileno=os.dup(connection.descriptor)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WINDOW_BYTES)
            with contextlib.suppress(BlockingIOError):
                while room is Room.NONE:
                    count += sock.send(_FILLER, socket.MSG_DONTWAIT)
        return count

    def _waits_for_client(self, client: Client, start: int) -> bool:
        """Whether the worker can do nothing before its paused client reads, and does nothing."""
        if self.loop.soon or self._has_events():
            return client.ending is not None
        return self._is_settled(client, start) or all(each.state in _WAITING for each in self.connections)

    def _has_events(self) -> bool:
        """Whether the loop would turn at once."""
        return bool(select.select([self.loop], [], [], 0)[0])

    def _end(self, client: Client, segments: object, filled_bytes: int) -> tuple[Ending, bytes]:
        """Find out whether the connection is still good for a request, and give it up."""
        if client.ending is None:
            client.send(_PROBE)
            self._drive(lambda: client.ending is not None or client.received.endswith(_PROBE_BODY), segments)
        ending, received = client.ending or Ending.KEPT, bytes(client.received[filled_bytes:])
        client.close()
        self._drive(lambda: not self.connections, segments)
        if ending is Ending.KEPT:
            received = received[: received.rindex(f"HTTP/1.1 {_PROBE_STATUS}".encode())]
        received = _OWN_DATE.sub(b"Date: NOW", received)
        if len(received) > _LARGE:
            received = b"%b... %d bytes, %b" % (received[:_LONG], len(received), sha256(received).hexdigest().encode())
        return ending, received

    def _drive(self, done: Callable[[], bool], segments: object) -> None:
        if done():
            return
        deadline = time.monotonic() + DEADLINE_S
        self.loop.call_at(deadline, do_nothing)
        while not done():
            assert time.monotonic() < deadline, f"not over in time: {_shown(segments)}"
            assert len(self.connections) <= 1, "more connections than clients"
            self.loop.turn(_expire)
            self.worker.record()
            self.worker.flush_logs()

    def _is_settled(self, client: Client, start: int) -> bool:
        """Whether the worker has used all that the client has sent, and waits for more."""
        if not client.sent_all or self._received_bytes() - start != client.sent_bytes or self.loop.soon:
            return False
        connections = self.connections
        return len(connections) == 1 and all(each.state is ConnectionState.READING for each in connections)

    def _received_bytes(self) -> int:
        fast_path = self._fast_path
        return self.worker.parts.host.received_bytes + (fast_path.received_bytes if fast_path is not None else 0)

    def _counted(self) -> dict[str, int]:
        cells = self.page.cells
        names = {"bad iterables": Cell.BAD_ITERABLES, "client left": Cell.CLIENT_LEFT, "bytes out": Cell.BYTES_OUT}
        histograms = {"timed": Cell.HISTOGRAM, "run": Cell.APPLICATION_HISTOGRAM, "queued": Cell.QUEUE_HISTOGRAM}
        assert cells[Cell.APPLICATION_NS] <= cells[Cell.DURATION_NS], "no application takes longer than its request"
        return {
            "requests": cells[Cell.REQUESTS],
            "failed": cells[Cell.FAILED] + cells[Cell.BAD_ITERABLES],
            **{name: cells[cell] for name, cell in names.items()},
            **{name: sum(cells[cell + bucket] for bucket in range(BUCKETS)) for name, cell in histograms.items()},
            **{f"status {digit}": cells[Cell.RESPONSES + digit] for digit in range(STATUS_CLASSES)},
        }

    def _answer(self, environ: Environ, start_response: StartResponse) -> Any:
        """The application of the worker: the present one, or the probe."""
        if environ["PATH_INFO"] == "/probe":
            start_response(_PROBE_STATUS, [("Content-Length", str(len(_PROBE_BODY)))])
            return [_PROBE_BODY]
        assert self._case is not None
        fast_path = self._fast_path
        # An CompiledFastPath names the connection it serves, unless it answers a client who never becomes one.
        arrival = getattr(self._runner.arrivals, "arrival", -1)
        self._shortcuts.append(fast_path is not None and (fast_path.serving is not None or arrival >= 0))
        self._environs.append(dict(self._described(environ)))
        self._case.inputs.append(environ["wsgi.input"])
        self._case.shown.append(self._shown(self._case.client))
        return self._app(self._case, environ, start_response)

    def _shown(self, client: Client) -> tuple[object, ...]:
        facts = self.page.facts()
        return facts.client.removesuffix(f":{client.port}"), facts.request_line, facts.started > 0, facts.deadline > 0

    def _described(self, environ: Environ) -> Iterator[tuple[str, object]]:
        for name, value in environ.items():
            if name == "SERVER_PORT" and value != "80":
                yield name, value == str(self._listener.getsockname()[1])
            elif name == "REMOTE_PORT":
                yield name, self._case is not None and value == str(self._case.client.port)
            else:
                yield name, value if isinstance(value, str | int | tuple | type) else type(value).__name__


def _listener(folder: pathlib.Path, bind: str) -> socket.socket:
    if bind == "unix":
        path = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "s"  # short: the system allows 107 bytes
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
    else:
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        listener = socket.create_server((bind, 0), family=family)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener


def _unasked(_case: Case, _environ: Environ, _start: StartResponse) -> Any:
    raise AssertionError("there is no conversation")


def _expire(item: Watched) -> None:
    connection: Any = item
    connection.expired()
