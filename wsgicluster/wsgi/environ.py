"""The parts of the environ that do not come from the request (PEP 3333, "environ Variables")."""

from collections.abc import Callable, Iterable
from typing import Any

from wsgicluster.wsgi.files import FileWrapper


class ErrorStream:
    """``wsgi.errors``: a text stream whose lines go to the error log."""

    def __init__(self, write_line: Callable[[str], object]) -> None:
        self._write_line = write_line
        self._partial = ""

    def write(self, text: str) -> int:
        """Log the complete lines; the rest waits for its end or for `flush`."""
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._write_line(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log what has no line end yet."""
        if self._partial:
            self._write_line(self._partial)
            self._partial = ""


def listener_template(address: Any, errors: ErrorStream, facts: dict[str, Any]) -> dict[str, Any]:
    """What is the same for all connections of one listener.

    ``address`` is the socket's own name: ``(host, port, ...)``, or the path of a Unix socket.
    ``facts`` are the worker's own entries (``wsgi.multithread`` and the like).
    """
    if isinstance(address, tuple):
        name, port = address[0], str(address[1])
    else:
        name, port = "localhost", "80"
    return {
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_SOFTWARE": "wsgicluster",
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": errors,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        **facts,
    }


def connection_template(template: dict[str, Any], peer: Any) -> dict[str, Any]:
    """A listener's template with one peer's address: ``(host, port, ...)``, or anything else for a Unix socket."""
    environ = template.copy()
    if isinstance(peer, tuple):
        environ["REMOTE_ADDR"] = peer[0]
        environ["REMOTE_PORT"] = str(peer[1])
    else:
        environ["REMOTE_ADDR"] = ""
        environ["REMOTE_PORT"] = ""
    return environ
