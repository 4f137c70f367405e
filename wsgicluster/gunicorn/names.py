"""Names that configuration files import from Gunicorn besides its worker classes: constants, classes and functions.

The classes are for annotations and as values of settings; what makes objects of them is the server.
"""

import os
from collections.abc import Callable
from typing import Any

from wsgicluster.wsgi.loader import load_callable

SERVER = "gunicorn"
SERVER_SOFTWARE = "gunicorn"
version_info = (26, 2, 0)
"""The version whose settings are known here."""
__version__ = ".".join(map(str, version_info))


class _OfServer:
    """A class of which only a server makes objects."""

    def __init__(self, *_arguments: object, **_named_arguments: object) -> None:
        raise TypeError("a class of Gunicorn: a configuration file can name it, but not make objects of it")


class ArbiterView(_OfServer):
    """What hooks call ``server``."""


class ConfigView(_OfServer):
    """What hooks find as ``server.cfg`` and ``worker.cfg``."""


class GunicornRequest(_OfServer):
    """What hooks call ``req``."""


_HEAD = ("HTTP/1.1 200 OK\r\n", "Server: gunicorn\r\n", "Date: now\r\n", "Connection: close\r\n")
_SERVER = "Server: "


class GunicornResponse(_OfServer):
    """What hooks call ``resp``.

    Files derive a class from it, and put that in its place, to name what serves in another way or not at all. It is
    never called for a response: `named_server` finds out once what it makes of the field Server.
    """

    def __init_subclass__(cls, **_arguments: object) -> None:
        if [name for name in vars(cls) if not name.startswith("__")] != ["default_headers"]:
            raise _not_called(cls)

    def default_headers(self, *_arguments: object, **_named_arguments: object) -> list[str]:
        """The lines that a response begins with."""
        return list(_HEAD)

    @classmethod
    def named_server(cls) -> str | None:
        """What the class names the server, empty if it does not; None for Gunicorn's own. Raises TypeError."""
        if cls is GunicornResponse:
            return None
        lines = cls.default_headers(object.__new__(cls))
        servers = [line for line in lines if line.startswith(_SERVER)]
        others = [line for line in lines if line not in servers]
        if others != [line for line in _HEAD if not line.startswith(_SERVER)] or len(servers) > 1:
            raise _not_called(cls)
        return servers[0].removeprefix(_SERVER).strip() if servers else ""


def _not_called(response: type) -> TypeError:
    return TypeError(
        f"{response.__name__} is derived from Gunicorn's Response, which is not called here; "
        "server_header sets or omits the header field Server, other fields are set by the application"
    )


def getcwd() -> str:
    """The current folder by the user's name for it."""
    present, named = os.getcwd(), os.environ.get("PWD", "")
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, present) else present
    except OSError:  # PWD is stale
        return present


def import_app(spec: str) -> Callable[..., Any]:
    """The application that ``module:attribute`` names. Raises AppLoadError."""
    return load_callable(spec)


def bytes_to_str(value: str | bytes) -> str:
    """The text of latin-1 bytes; a text as it is."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


def to_bytestring(value: str | bytes, encoding: str = "utf8") -> bytes:
    """The bytes of a text; bytes as they are."""
    return value.encode(encoding) if isinstance(value, str) else value
