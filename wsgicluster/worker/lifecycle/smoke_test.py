"""The smoke test: requests that the first worker of a generation makes of its own application before it serves.

They take no way that a client's would: no socket, no listener. What the responses mean for the generation is not
decided here.
"""

import io
import math
import time
from _thread import get_ident
from typing import Any

from wsgicluster.errors import ProtocolError, SmokeTestError
from wsgicluster.http.connection import RequestReader
from wsgicluster.http.head import HTTP_11
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.scoreboard import CLIENT_OFFSET, STORE_REQUEST, Cell
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.worker.from_settings import head_limits
from wsgicluster.worker.request.cycle import Application
from wsgicluster.wsgi.client_callables import ClientCallables
from wsgicluster.wsgi.environ import connection_template, listener_template
from wsgicluster.wsgi.error_stream import ErrorStream
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


class CapturedResponse:
    """A transport that only keeps how an answer begins."""

    def __init__(self) -> None:
        self.first = b""

    def send(self, data: bytes) -> None:
        """Take some bytes."""
        if len(self.first) < _SHOWN_BYTES:
            self.first += data[:_SHOWN_BYTES]

    def send_last(self, data: bytes) -> None:
        """Take the end."""
        self.send(data)

    def send_pair(self, head: bytes, body: bytes) -> None:
        """Take two buffers one after the other."""
        self.send(head)
        self.send(body)

    def send_file(self, head: bytes, region: FileRegion) -> None:
        """Take a head; what is in the file is of no interest."""
        self.send(head)

    def reset_if_cut(self) -> None:
        """There is no connection."""

    def may_keep(self) -> bool:
        """There is no connection."""
        return False

    def lost_client(self) -> bool:
        """There is no client who could leave."""
        return False

    def shown(self) -> str:
        """The first characters of the body, on one line."""
        body = self.first.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")
        line = " ".join("".join(c if c.isprintable() else " " for c in body).split())
        return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."


class SmokeTest:
    """The requests that ``smoke`` asks for; ``facts`` are the worker's entries in every environ."""

    def __init__(self, settings: Settings, assignment: Assignment, logs: Logs, facts: dict[str, Any]) -> None:
        self._settings = settings
        self._page = assignment.page
        self._limits = head_limits(settings)[0]
        address: Any = assignment.listeners[0].getsockname() if assignment.listeners else ""
        self._host = _host(address)
        self._errors = ErrorStream(logs)
        listener = listener_template(address, self._errors, {**facts, MARK: True})
        self.thread_id = get_ident()
        self._template = connection_template(listener, ("127.0.0.1", 0))

    def run(self, application: Application) -> SmokeTestError | None:
        """Make the requests one after the other; returns what is wrong with the first that fails."""
        try:
            for target in self._settings.smoke:
                self._begin(target)
                self._ask(application, target)
        except SmokeTestError as error:
            return error
        finally:
            self._errors.end_all()
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

    def extend_deadline(self, deadline: float) -> None:
        """Let the request run until then, by the monotonic clock; ``math.inf`` is without limit."""
        if self._settings.timeout > 0:
            self._page.floats[Cell.DEADLINE] = deadline if deadline < math.inf else 0.0

    def _request(self, target: str) -> tuple[dict[str, Any], int]:
        """Environ and flags, made of a head such as a client would send."""
        scheme, host, path = self._parts(target)
        reader = RequestReader(self._template, self._limits, lambda length: StoredBody(None, length))
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: wsgicluster-smoke\r\nAccept: */*\r\n\r\n"
        try:
            reader.receive(head.encode("latin-1"))
        except ProtocolError as error:
            raise SmokeTestError(f"smoke: GET {target} is not a valid request: {error.detail}") from error
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
        answer = CapturedResponse()
        # As to a client of HTTP/1.0, so that no chunk heads stand in what is shown.
        response = Response(answer, flags & ~HTTP_11, Stamp(time.time()))
        contact = ClientCallables()
        contact.enter(environ)
        contact.answer = response
        contact.runner = self
        try:
            _exhaust(response, application(environ, response.start_response))
        except BaseException as error:
            # The application's boundary: whatever it raises, it does not work.
            what = f"smoke: GET {target} failed: {summary_of(error)}"
            raise SmokeTestError(what, trace_of(error)) from error
        finally:
            contact.close()
        if int(response.status[:3]) >= _BROKEN:
            said = answer.shown()
            raise SmokeTestError(f"smoke: GET {target} was answered {response.status}{': ' if said else ''}{said}")


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
