"""The parts of the environ that do not come from the request (PEP 3333, "environ Variables")."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from wsgicluster.wsgi.error_stream import ErrorStream
from wsgicluster.wsgi.files import FileWrapper

ROOMY_BYTES = 800
"""So large is a dict that has room for what a browser's request adds to a template, and not for twice as much."""


def place_of(environ: Mapping[str, str]) -> str:
    """The path that the application is mounted at: ``SCRIPT_NAME`` of an environment, as in Gunicorn, or ``""``."""
    place = environ.get("SCRIPT_NAME", "").strip("/")
    # Bytes as latin-1 characters, as in PATH_INFO.
    return os.fsencode(f"/{place}").decode("latin-1") if place else ""


def listener_template(address: Any, errors: ErrorStream, facts: dict[str, Any]) -> dict[str, Any]:
    """The part of the environ that is the same for all connections of one listener.

    ``address`` is the socket's own name: ``(host, port, ...)``, or the path of a Unix socket.
    ``facts`` are the worker's entries (``wsgi.multithread`` and others).
    """
    if isinstance(address, tuple):
        name, port = address[0], str(address[1])
    else:
        name, port = "localhost", "80"
    template = {
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
    # Its copies have the same room: to grow in the middle of a request costs more than all its entries do. A dict
    # grows when its table is used up, which entries do even if they are taken out again.
    for _ in range(sys.getsizeof(template)):
        if sys.getsizeof(template) >= ROOMY_BYTES:
            break
        template[""] = None
        template.popitem()
    return template


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
