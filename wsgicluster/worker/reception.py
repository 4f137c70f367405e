"""How clients come in: from the listeners, or from a sibling through the hand-off socket; and when none may.

What becomes of their requests, and of the worker itself, is not decided here.
"""

import errno
import math
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from wsgicluster.cluster.assignment import Assignment
from wsgicluster.http.connection import BodyStore
from wsgicluster.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.ending import Ending, State
from wsgicluster.worker.handoff import Nudge, nudge, take_over
from wsgicluster.worker.host import Arrivals, Exchange, Host
from wsgicluster.worker.loop import EXCLUSIVE_READ, Loop
from wsgicluster.worker.opening import Entrance, introduce, peer_text
from wsgicluster.worker.rules import head_limits, reader_class, trust
from wsgicluster.worker.timing import Timing
from wsgicluster.wsgi.environ import ErrorStream, connection_template, listener_template
from wsgicluster.wsgi.input import StoredBody

NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ACCEPT_PAUSE_S = 0.5
ACCEPT_S = 0.0005
OPEN_FOR_ONE_MORE = 32
FULL_AGAIN_S = 5.0
"""A worker that has found room for this long, and then none again, says so again."""

HANDED_A_TURN = 16


class Reception(Host):
    """The open connections of one worker, and where they come from; not all yet that they ask of their host.

    ``listening`` says that the worker has listeners, ``held`` that it leaves new clients to siblings for now.
    """

    multithread = False
    loop_class = Loop
    connection_class = Connection
    error_stream = ErrorStream

    def __init__(self, settings: Settings, assignment: Assignment, logs: Logs) -> None:
        self.assignment = assignment
        self.settings = settings
        self.log = logs.error
        self.loop = self.loop_class(assignment.page, settings.timeout)
        self.timing = Timing.of(
            settings.keepalive, settings.head_timeout, settings.body_timeout, settings.write_timeout
        )
        self.upload_folder = settings.tmp_upload_dir
        self.hand_off_send = assignment.hand_off_send
        self.connections: set[Connection] = set()
        self.received_bytes = 0
        self.exchange: Exchange | None = None
        self.arrivals: Arrivals | None = None
        self.entrance: Entrance | None = None
        self.listening = False
        self.held = False
        self._adopting = False
        self._paused = True
        self._full_at = -math.inf
        self._trust = trust(settings)
        self._reader_class = reader_class(settings)
        self.limits = head_limits(settings)
        self._facts = self.facts(settings, assignment)
        self.last_here: set[int] = set()
        """Numbers of listeners that newer siblings do not have: their queues are left to nobody."""
        self._listeners = dict(enumerate(assignment.listeners))
        """Those that are open, by their index in the list of templates."""
        self._numbers = list(assignment.listener_numbers or range(len(assignment.listeners)))
        self._templates = [self._template(listener) for listener in assignment.listeners]

    @classmethod
    def facts(cls, settings: Settings, assignment: Assignment) -> dict[str, Any]:
        """What stands in all environs of this worker, and of this worker only."""
        return {
            "wsgi.multithread": cls.multithread,
            "wsgi.multiprocess": settings.workers > 1,
            "wsgicluster.slot": assignment.slot,
            "wsgicluster.ready": assignment.board.is_ready,
        }

    def _template(self, sock: socket.socket) -> dict[str, Any]:
        return listener_template(sock.getsockname(), self.error_stream(self.log.error), self._facts)

    def _index_of(self, number: int, sock: socket.socket) -> int:
        """The index of a listener; of one that only siblings have, what its connection knows is enough."""
        try:
            return self._numbers.index(number)
        except ValueError:
            self._numbers.append(number)
            self._templates.append(self._template(sock))
            return len(self._numbers) - 1

    # -- listeners

    def listen(self) -> None:
        self.listening = self._adopting = True
        self._wait_for_clients(True)

    def stop_listening(self) -> None:
        """Close this process's copies of the listeners, and take no connection from siblings any more."""
        if self.listening:
            self._let_go(list(self._listeners))

    def leave_listeners(self) -> None:
        """The same, but for the listeners whose queues are nobody else's: they are left for `accept_all`."""
        if self.listening:
            self._let_go([index for index in self._listeners if self._numbers[index] not in self.last_here])

    def _let_go(self, indexes: list[int]) -> None:
        self._wait_for_clients(False)
        # Wake-ups that were for this worker alone, and came too late for it, are a sibling's now.
        nudge(self.hand_off_send)
        for index in indexes:
            self._listeners.pop(index).close()
        self.listening = bool(self._listeners)
        self._adopting = False
        self.assignment.hand_off_receive.close()

    def _on_listener(self, accept: Callable[[], None], _events: int) -> None:
        # Connections that are open come first: what is accepted now must not wait behind them
        # while a sibling has nothing to do.
        self.loop.last.append(accept)

    def accept_all(self) -> bool:
        """Empty the accept queues; False when descriptors ran out on the way.

        Nobody is answered before the queues are empty: under steady load they would never be.
        """
        self._wait_for_clients(True)
        for index, listener in self._listeners.items():
            while not self._paused and (found := self._take(index, listener)):
                if isinstance(found, Connection):
                    self.loop.soon.append(found.receive_if_open)
        return not self._paused

    def _accept(self, index: int, listener: socket.socket) -> None:
        """Accept a connection and answer its request; and others as long as they are answered, closed, and quick.

        Few connections that stay are taken in one turn: their next requests would wait behind those of the others,
        while a sibling may be idle. With many open it may be more, or the last to come would wait for long.
        """
        ends = time.monotonic() + ACCEPT_S
        most = 1 + len(self.connections) // OPEN_FOR_ONE_MORE
        while self.listening and not self._paused:
            if self.arrivals is None:
                found = self._take(index, listener)
                if isinstance(found, Connection):
                    found.receive_if_open()
                    most -= found.state is not State.CLOSED
                if not found or not most or time.monotonic() >= ends:
                    return
                continue
            try:
                self.arrivals.answer_arrivals(listener.fileno(), index, ends, most)
            except OSError as error:
                if not self._cannot_accept(error):
                    continue
            return

    def _cannot_accept(self, error: OSError) -> bool:
        """Whether an error says that nothing can be accepted now; else one client has gone already."""
        if error.errno in NO_DESCRIPTORS:
            self._pause(error)
            return True
        return False  # ECONNABORTED, EPROTO and the like; the next client may be there

    def _take(self, index: int, listener: socket.socket) -> Connection | bool:
        """The next connection from a listener; False when there is none, True for one that is gone already."""
        try:
            if self.arrivals is not None:
                found = self.arrivals.accept(listener.fileno())
                return found is not None and self._open(found[0], index, found[1], b"")
            sock, peer = listener.accept()
        except BlockingIOError:
            return False  # a sibling was quicker
        except OSError as error:
            return not self._cannot_accept(error)
        sock.setblocking(False)
        return self._open(sock, index, peer, b"", self.entrance)

    def _pause(self, error: OSError) -> None:
        self._wait_for_clients(False)
        # The wake-up that has led here was for one worker alone: a sibling with room has to be told.
        nudge(self.hand_off_send)
        now = self.loop.now
        said, self._full_at = now - self._full_at < FULL_AGAIN_S, now
        if not said:
            self.log.error(
                "worker %d: cannot accept: %s, with %d connections open; accepting again as soon as that is over "
                "(raise the limit on open files, or lower keepalive)",
                self.assignment.slot, error.strerror, len(self.connections),
            )  # fmt: skip
        self.loop.call_at(self.loop.now + ACCEPT_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if not self.held:
            self._wait_for_clients(True)

    def _wait_for_clients(self, wanted: bool) -> None:
        if not self.listening or wanted is not self._paused:
            return
        self._paused = not wanted
        # Without room for a descriptor a connection from a sibling would be lost on its way.
        receiver = self.assignment.hand_off_receive.fileno()
        if self._adopting and wanted:
            self.loop.add(receiver, self._on_hand_off, EXCLUSIVE_READ)
        elif self._adopting:
            self.loop.remove(receiver)
        for index, listener in self._listeners.items():
            if wanted:
                accept = partial(self._accept, index, listener)
                self.loop.add(listener.fileno(), partial(self._on_listener, accept), EXCLUSIVE_READ)
            else:
                self.loop.remove(listener.fileno())

    # -- connections

    def _open(
        self, sock: socket.socket | int, index: int, peer: Any, rest: bytes, entrance: Entrance | None = None
    ) -> Connection:
        template = connection_template(self._templates[index], peer)
        trusted = self._trust.trusts(template["REMOTE_ADDR"])
        reader = self._reader_class(template, self.limits[trusted], self.open_body, rest)
        kind = self.connection_class if entrance is None else entrance.connection_class
        connection = kind(self, sock, self._numbers[index], reader)
        connection.client = peer_text(peer)
        connection.trusted = trusted
        self.connections.add(connection)
        self.adopt(connection, template)
        if entrance is not None:
            entrance.admit(connection)
        return connection

    def open_body(self, length: int) -> BodyStore:
        """Where a body that arrives in pieces goes; ``length`` is CHUNKED when it is not known."""
        return StoredBody(self.upload_folder, length)

    def adopt(self, connection: Connection, template: dict[str, Any]) -> None:
        """A connection is new; for kinds that keep something of their own for each."""

    def waiting(self) -> list[Connection]:
        """The connections that wait for their clients."""
        return [each for each in self.connections if each.between_requests]

    def _on_hand_off(self, _events: int) -> None:
        self.loop.last.append(self._take_over)

    def _take_over(self) -> None:
        for _ in range(HANDED_A_TURN):
            handed = None
            if self._adopting and not self._paused:
                handed = take_over(self.assignment.hand_off_receive)
            if handed is None:
                return
            if isinstance(handed, Nudge):
                for index, listener in list(self._listeners.items()):
                    self._accept(index, listener)
                continue
            try:
                peer = handed.sock.getpeername()
            except OSError:
                handed.sock.close()  # the client left while the connection was under way
                continue
            connection = self._open(handed.sock, self._index_of(handed.listener, handed.sock), peer, handed.rest)
            connection.kept = handed.kept
            introduce(connection, handed.introduction, self._trust.peers)
            connection.resume()

    def left(self, connection: Ending) -> None:
        """A connection is closed or handed over."""
        assert isinstance(connection, Connection)
        self.connections.discard(connection)
        connection.contact.close()
