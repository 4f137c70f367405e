"""How connections are made of descriptors.

Where those come from is the acceptor's affair.
"""

import socket
from collections.abc import Callable
from typing import Any

from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.preamble import PreambleSettings, peer_text
from wsgicluster.worker.connection.raw import limit_to_heads
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.from_settings import reader_class, trust, worker_facts
from wsgicluster.worker.hosting.host import ConnectionHost
from wsgicluster.worker.runner import KindRunner
from wsgicluster.wsgi.environ import connection_template, listener_template


class ConnectionFactory:
    """Makes connections of ``connection_class``, whose requests run beside each other if ``multithread``.

    ``note`` is called with each one. ``trust`` says whose forwarded headers are trusted.
    """

    def __init__(
        self,
        context: WorkerContext,
        host: ConnectionHost,
        runner: KindRunner,
        note: Callable[[Connection], object],
        connection_class: type[Connection],
        multithread: bool,
    ) -> None:
        assignment = context.assignment
        self._context = context
        self._host = host
        self._open_body = runner.open_body
        self._adopt = runner.adopt
        self._note = note
        self._connection_class = connection_class
        self._always: Callable[[Connection], object] | None = limit_to_heads if context.settings.raw_socket else None
        self._prepare: Callable[[Connection], object] | None = self._always
        self.trust = trust(context.settings)
        self._reader_class = reader_class(context.settings)
        self._facts = worker_facts(context.settings, assignment, multithread)
        self._numbers = list(assignment.listener_numbers or range(len(assignment.listeners)))
        self.templates = [self._template(listener) for listener in assignment.listeners]
        """What is the same in all environs of a listener, by its index."""

    def route(self, prepare: Callable[[Connection], object] | None) -> None:
        """From now on have new connections ask about each head, as ``prepare`` makes them do; or none."""
        self._prepare = _both(self._always, prepare) if self._always and prepare else prepare or self._always

    def open(
        self, descriptor: int, index: int, peer: Any, rest: bytes, preamble: PreambleSettings | None = None
    ) -> Connection:
        """A connection by the listener of an index, on which ``rest`` has been received already.

        From now on the ``descriptor`` is the connection's.
        """
        template = connection_template(self.templates[index], peer)
        trusted = self.trust.trusts(template["REMOTE_ADDR"])
        reader = self._reader_class(template, self._host.limits[trusted], self._open_body, rest)
        connection = self._connection_class(self._host, descriptor, self._numbers[index], reader)
        if self._prepare is not None:
            self._prepare(connection)
        connection.client = peer_text(peer)
        connection.trusted = trusted
        self._context.connections.add(connection)
        self._adopt(connection, template)
        self._note(connection)
        if preamble is not None:
            preamble.apply(connection)
        return connection

    @property
    def numbers(self) -> list[int]:
        """The numbers of the listeners, by their index."""
        return self._numbers

    def index_of(self, number: int, sock: socket.socket) -> int:
        """The index of a listener; of one that only siblings have, what its connection ``sock`` knows is enough."""
        try:
            return self._numbers.index(number)
        except ValueError:
            self._numbers.append(number)
            self.templates.append(self._template(sock))
            return len(self._numbers) - 1

    def _template(self, sock: socket.socket) -> dict[str, Any]:
        return listener_template(sock.getsockname(), self._context.error_stream, self._facts)


def _both(one: Callable[[Connection], object], other: Callable[[Connection], object]) -> Callable[[Connection], object]:
    def prepare(connection: Connection) -> None:
        one(connection)
        other(connection)

    return prepare
