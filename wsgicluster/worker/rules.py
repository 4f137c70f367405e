"""What the settings say of requests, as the values that the layers below take."""

import dataclasses

from wsgicluster.http.connection import RequestReader
from wsgicluster.http.limits import EVERY_NAME, HeadLimits, Underscores
from wsgicluster.http.uwsgi import UwsgiReader
from wsgicluster.settings import Settings
from wsgicluster.wsgi.request_id import RequestIds
from wsgicluster.wsgi.trust import Forwarding, Trust


def head_limits(settings: Settings) -> tuple[HeadLimits, HeadLimits]:
    """The limits on heads, and on the lengths that they announce: from strangers, and from peers who are trusted."""
    strangers = HeadLimits(
        line_bytes=settings.limit_request_line,
        fields=settings.limit_request_fields,
        field_bytes=settings.limit_request_field_size,
        body_bytes=settings.limit_request_body,
        underscores=Underscores(settings.header_map),
    )
    names = frozenset(name for name in settings.forwarder_headers if "_" in name or name == EVERY_NAME)
    return strangers, dataclasses.replace(strangers, forwarder_names=names)


def reader_class(settings: Settings) -> type[RequestReader]:
    """What makes requests of the bytes of a connection."""
    return UwsgiReader if settings.protocol == "uwsgi" else RequestReader


def request_ids(settings: Settings) -> RequestIds | None:
    """How requests are named, if they are."""
    if settings.request_id == "off":
        return None
    return RequestIds(settings.request_id_header, settings.request_id == "accept")


def trust(settings: Settings) -> Trust:
    """Whom to believe, and what."""
    forwarding = Forwarding(settings.forwarded_hops, settings.forwarded_fields)
    return Trust(settings.forwarded_allow_ips, settings.secure_scheme_headers, forwarding)
