"""The short way through the sync worker in plain Python: receive, parse, serve, in as few steps as can be.

It takes what most clients send, a whole head and no body in one read, and gives back everything else as it
was received, before it has had any effect. The compiled twin, `wsgicluster.worker._exchange`, takes more.
"""

import io
from typing import Any

from wsgicluster.errors import ProtocolError
from wsgicluster.http.connection import Phase
from wsgicluster.http.core import parse_head
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.cycle import Cycle
from wsgicluster.wsgi.contact import Answer, Contact
from wsgicluster.wsgi.trust import Trust

RECEIVE_BYTES = 64 * 1024

_HEAD_PHASE = Phase.HEAD
_END = b"\r\n\r\n"


class PlainExchange:
    """The exchanges of one worker; ``received_bytes`` counts, ``serving`` is the connection being answered."""

    def __init__(self, cycle: Cycle, trust: Trust) -> None:
        self.received_bytes = 0
        self.serving: Connection | None = None
        self._serve = cycle.serve
        self._trust = trust

    def answer_to(self, _contact: Contact) -> Answer | None:
        """None: the cycle tells every contact itself."""
        return None

    def receive(self, connection: Connection, _peer: Any) -> bytes | memoryview | None:
        """Receive; None when a request came and was answered, else the bytes (empty at the end of the stream).

        Raises BlockingIOError and other OSErrors as ``socket.recv`` does. For a connection that reads.
        """
        data = connection.sock.recv(RECEIVE_BYTES)
        size = len(data)
        self.received_bytes += size
        reader = connection.reader
        end = size - 4
        # What ends with its head's end has neither a body nor a next request behind it.
        if reader.phase is not _HEAD_PHASE or reader.rest or end < 1 or data.find(_END) != end or data[0] == 13:
            return data
        try:
            environ, length, flags = parse_head(data, 0, end, reader.template, reader.limits)
            if length:
                return data
            if connection.trusted:
                self._trust.set_scheme(environ)
        except ProtocolError as error:
            connection.refuse(error)
            return None
        environ["wsgi.input"] = io.BytesIO()
        reader.flags = flags
        self.serving = connection
        outcome = self._serve(connection, environ, flags, data[: data.find(b"\r")])
        self.serving = None
        connection.served(outcome)
        return None
