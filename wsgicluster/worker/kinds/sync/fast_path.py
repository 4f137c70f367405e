"""The short way to the cycle in the sync worker, in plain Python: receive and parse in as few steps as possible.

It takes what most clients send, a whole head and no body in one read, and passes everything else on as it
was received, before it has had any effect. The compiled twin, `wsgicluster.worker.kinds.sync._fast_path`, takes more.
"""

import io
from contextvars import copy_context as _copy_context
from typing import Any

from wsgicluster.errors import ProtocolError
from wsgicluster.http.connection import Phase
from wsgicluster.http.head import parse_head_fast
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.request.cycle import Cycle
from wsgicluster.worker.transport.transport import RECEIVE_BYTES
from wsgicluster.wsgi.client_callables import ClientCallables, OpenResponse
from wsgicluster.wsgi.trust import Trust

_HEAD_PHASE = Phase.HEAD
_END = b"\r\n\r\n"


class PythonFastPath:
    """The requests of one worker; ``received_bytes`` counts, ``serving`` is the connection being answered."""

    def __init__(self, cycle: Cycle, trust: Trust) -> None:
        self.received_bytes = 0
        self.serving: Connection | None = None
        self.cycle = cycle
        self._trust = trust
        self._serve = cycle.serve

    def answer_to(self, _contact: ClientCallables) -> OpenResponse | None:
        """None: the cycle tells each contact of its response."""
        return None

    def holds(self, _connection: Connection) -> bool:
        """Whether the last response on a connection has not been sent yet."""
        return False

    def receive(self, connection: Connection, _peer: Any) -> bytes | memoryview | None:
        """Receive; None when a request came and was answered, else the bytes (empty at the end of the stream).

        Raises BlockingIOError and other OSErrors as ``socket.recv`` does. For a connection that reads.
        """
        data = (connection.made_transport or connection.transport).recv(RECEIVE_BYTES)
        self.received_bytes += len(data)
        reader = connection.reader
        if reader.phase is not _HEAD_PHASE or reader.rest or not data.endswith(_END):
            return data
        try:
            found = parse_head_fast(data[:-4], reader.template, reader.limits)
            if found is None:
                return data
            # The first empty line is the last: there is neither a body here nor a next request.
            environ, length, flags = found
            if length:
                return data
            if connection.trusted:
                self._trust.set_scheme(environ)
        except ProtocolError:
            return data  # it is refused in the usual way
        environ["wsgi.input"] = io.BytesIO()
        reader.flags = flags
        line = data[: data.find(b"\r")]
        self.serving = connection
        connection.complete_at = connection.loop.now
        outcome = _copy_context().run(self._serve, connection, environ, flags, line)
        self.serving = None
        connection.served(outcome)
        return None
