"""What the settings, and the worker's place among others, say of requests: values that the layers below take."""

import dataclasses
import os
from typing import Any

from wsgicluster.http.connection import RequestReader
from wsgicluster.http.limits import EVERY_NAME, HeadLimits, Leniency, Underscores
from wsgicluster.http.uwsgi import UwsgiReader
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.settings import Settings
from wsgicluster.wsgi.environ import place_of
from wsgicluster.wsgi.request_id import RequestIds
from wsgicluster.wsgi.trace_context import TraceContexts
from wsgicluster.wsgi.trust import Forwarding, Trust


def head_limits(settings: Settings) -> tuple[HeadLimits, HeadLimits]:
    """The limits on heads, and on the lengths that they announce: from strangers, and from peers who are trusted."""
    strangers = HeadLimits(
        line_bytes=settings.limit_request_line,
        fields=settings.limit_request_fields,
        field_bytes=settings.limit_request_field_size,
        body_bytes=settings.limit_request_body,
        underscores=Underscores(settings.header_map),
        leniency=Leniency(
            methods=settings.permit_unconventional_http_method,
            capitalize_methods=settings.casefold_http_method,
            versions=settings.permit_unconventional_http_version,
            folding=settings.permit_obsolete_folding,
            spaces=settings.strip_header_spaces,
        ),
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


def traces(settings: Settings) -> TraceContexts | None:
    """How requests get their traces, if they do."""
    return None if settings.trace == "off" else TraceContexts(settings.trace == "accept", settings.trace_header)


def fast_paths_fit(settings: Settings) -> bool:
    """Whether fast paths may take requests: these know only HTTP, and of what is forwarded only the scheme."""
    return not settings.forwarded_hops and settings.protocol == "http" and not settings.raw_socket


def trust(settings: Settings) -> Trust:
    """Whom to trust, and in what."""
    forwarding = Forwarding(settings.forwarded_hops, settings.forwarded_fields)
    return Trust(settings.forwarded_allow_ips, settings.secure_scheme_headers, forwarding)


def worker_facts(settings: Settings, assignment: Assignment, multithread: bool) -> dict[str, Any]:
    """What stands in all environs of this worker, and of this worker only."""
    return {
        # As the application's import has left it.
        "SCRIPT_NAME": place_of(os.environ),
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": settings.workers_most > 1,
        "wsgicluster.slot": assignment.slot,
        "wsgicluster.ready": assignment.board.is_ready,
    }
