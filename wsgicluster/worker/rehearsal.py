"""The rehearsal: requests that the first worker of a generation makes of its own application before it serves.

They take no way that a client's would: no socket, no listener. What the answers mean for the generation is not
decided here.
"""

import io
import time
from typing import Any

from wsgicluster.cluster.assignment import Assignment
from wsgicluster.errors import ProtocolError, RehearsalError
from wsgicluster.http.connection import RequestReader
from wsgicluster.http.head import HTTP_11
from wsgicluster.logs import Logs
from wsgicluster.scoreboard import CLIENT_OFFSET, STORE_REQUEST, Cell
from wsgicluster.settings import Settings
from wsgicluster.worker.cycle import Application
from wsgicluster.worker.rules import head_limits
from wsgicluster.wsgi.contact import Contact
from wsgicluster.wsgi.environ import ErrorStream, connection_template, listener_template
from wsgicluster.wsgi.files import FileRegion
from wsgicluster.wsgi.input import StoredBody
from wsgicluster.wsgi.loader import summary_of, trace_of
from wsgicluster.wsgi.response import Response, Stamp

MARK = "wsgicluster.smoke"
"""True in the environs of these requests, for applications that want to tell them from others."""

SHOWN_CHARACTERS = 200
_SHOWN_BYTES = 4 * SHOWN_CHARACTERS
_BROKEN = 500
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})


class Answer:
    """A transport that only keeps how an answer begins."""

    def __init__(self) -> None:
        self.first = b""

    def send(self, data: bytes) -> None:
        """Take some bytes."""
        if len(self.first) < _SHOWN_BYTES:
            self.first += data[:_SHOWN_BYTES]

    def send_pair(self, head: bytes, body: bytes) -> None:
        """Take two buffers one after the other."""
        self.send(head)
        self.send(body)

    def send_file(self, head: bytes, region: FileRegion) -> None:
        """Take a head; what is in the file is of no interest."""
        self.send(head)

    def may_keep(self) -> bool:
        """There is no connection."""
        return False

    def lost_client(self) -> bool:
        """Nobody who could leave."""
        return False

    def shown(self) -> str:
        """The first characters of the body, on one line."""
        body = self.first.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")
        line = " ".join("".join(c if c.isprintable() else " " for c in body).split())
        return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."


class Rehearsal:
    """The requests that ``smoke`` asks for; ``facts`` are the worker's entries in every environ."""

    def __init__(self, settings: Settings, assignment: Assignment, logs: Logs, facts: dict[str, Any]) -> None:
        self._settings = settings
        self._page = assignment.page
        self._limits = head_limits(settings)[0]
        address: Any = assignment.listeners[0].getsockname() if assignment.listeners else ""
        self._host = _host(address)
        listener = listener_template(address, ErrorStream(logs.error.error), {**facts, MARK: True})
        self._template = connection_template(listener, ("127.0.0.1", 0))

    def run(self, application: Application) -> RehearsalError | None:
        """Make the requests one after the other; answers what is wrong with the first that is not answered well."""
        try:
            for target in self._settings.smoke:
                self._begin(target)
                self._ask(application, target)
        except RehearsalError as error:
            return error
        finally:
            self._end()
        return None

    def _begin(self, target: str) -> None:
        """Show the request on the worker's page, where a supervisor finds it should it never end."""
        now = time.monotonic()
        self._beat(now)
        STORE_REQUEST(self._page.raw, CLIENT_OFFSET, b"smoke", f"GET {target}".encode("latin-1"))
        self._page.floats[Cell.STARTED] = now

    def _end(self) -> None:
        self._page.floats[Cell.STARTED] = 0.0
        self._beat(time.monotonic())

    def _beat(self, now: float) -> None:
        if self._settings.timeout > 0:
            self._page.floats[Cell.DEADLINE] = now + self._settings.timeout

    def _request(self, target: str) -> tuple[dict[str, Any], int]:
        """Environ and flags, made of a head such as a client would send."""
        scheme, host, path = self._parts(target)
        reader = RequestReader(self._template, self._limits, lambda length: StoredBody(None, length))
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: wsgicluster-smoke\r\nAccept: */*\r\n\r\n"
        try:
            reader.receive(head.encode("latin-1"))
        except ProtocolError as error:
            raise RehearsalError(f"smoke: GET {target} is no request: {error.detail}") from error
        environ = reader.environ
        environ["wsgi.input"] = io.BytesIO()
        environ["wsgi.url_scheme"] = scheme
        return environ, reader.flags

    def _parts(self, target: str) -> tuple[str, str, str]:
        """Scheme, host and path of what may be a path alone."""
        if target.startswith("/"):
            return "https" if self._settings.has_tls else "http", self._host, target
        scheme, _, rest = target.partition("://")
        host, slash, path = rest.partition("/")
        return scheme, host, slash + path

    def _ask(self, application: Application, target: str) -> None:
        environ, flags = self._request(target)
        answer = Answer()
        # As to a client of HTTP/1.0, so that no chunk heads stand in what is shown.
        response = Response(answer, flags & ~HTTP_11, Stamp(time.time()))
        contact = Contact()
        contact.enter(environ)
        contact.answer = response
        try:
            _exhaust(response, application(environ, response.start_response))
        except BaseException as error:
            # The application's boundary: whatever it raises, it does not work.
            what = f"smoke: GET {target} failed: {summary_of(error)}"
            raise RehearsalError(what, trace_of(error)) from error
        finally:
            contact.close()
        if int(response.status[:3]) >= _BROKEN:
            said = answer.shown()
            raise RehearsalError(f"smoke: GET {target} was answered {response.status}{': ' if said else ''}{said}")


def _exhaust(response: Response, result: Any) -> None:
    """Read an answer to its end, and close it."""
    try:
        for block in result:
            response.write(block)
        response.finish()
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()


def _host(address: Any) -> str:
    """What a client on this machine would write into ``Host``."""
    if not isinstance(address, tuple):
        return "localhost"
    name = "localhost" if address[0] in _WILDCARDS else address[0]
    return f"[{name}]:{address[1]}" if ":" in name else f"{name}:{address[1]}"
