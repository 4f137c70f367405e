"""Readers that ask, as soon as a head is complete, whether its request is served here.

Any reader can become one, and an ordinary one again, whatever it is in the middle of: they have the same slots. Who
else may serve a request, and how it gets there, is not known here.
"""

from collections.abc import Callable
from typing import Any

from wsgicluster.http.connection import RequestReader, RoutedAway
from wsgicluster.http.uwsgi import UwsgiReader

Route = Callable[[dict[str, Any], bytes], bool]
"""Called with the environ of a head, and with all bytes that have been received and not been answered; True when the
connection was given to another process with these."""


class RoutedReader(RequestReader):
    """A reader that asks ``route`` at each head but the first after ``placed`` was set: that one stays.

    Raises RoutedAway when the connection was given away; what was received of the request is forgotten here.
    """

    __slots__ = ()

    def _read_head(self, data: bytes, searched: int) -> bool:
        complete = super()._read_head(data, searched)
        _ask(self, data, complete)
        return complete


class RoutedUwsgiReader(UwsgiReader):
    """The same for the uwsgi protocol."""

    __slots__ = ()

    def _read_head(self, data: bytes, searched: int) -> bool:
        complete = super()._read_head(data, searched)
        _ask(self, data, complete)
        return complete


def _ask(reader: RoutedReader | RoutedUwsgiReader, data: bytes, complete: bool) -> None:
    if not complete and reader.idle:
        return  # there is no whole head yet
    route = reader.route
    if reader.placed or route is None:
        reader.placed = False
    elif route(reader.environ, data):
        reader.close()
        reader.rest = b""
        raise RoutedAway


def ask_at_heads(reader: RequestReader, route: Route) -> None:
    """From its next head on, have a reader ask."""
    reader.placed = False
    reader.route = route
    reader.__class__ = RoutedUwsgiReader if isinstance(reader, UwsgiReader) else RoutedReader


def ask_no_more(reader: RequestReader) -> None:
    """Make it an ordinary reader."""
    reader.__class__ = UwsgiReader if isinstance(reader, UwsgiReader) else RequestReader
    reader.route = None
