"""What the settings say of requests, as the values that the layers below take."""

from wsgicluster.http.limits import HeadLimits
from wsgicluster.settings import Settings
from wsgicluster.wsgi.trust import Forwarding, Trust


def head_limits(settings: Settings) -> HeadLimits:
    """The limits on heads, and on the lengths that they announce."""
    return HeadLimits(
        line_bytes=settings.limit_request_line,
        fields=settings.limit_request_fields,
        field_bytes=settings.limit_request_field_size,
        body_bytes=settings.limit_request_body,
    )


def trust(settings: Settings) -> Trust:
    """Whom to believe, and what."""
    forwarding = Forwarding(settings.forwarded_hops, settings.forwarded_fields)
    return Trust(settings.forwarded_allow_ips, settings.secure_scheme_headers, forwarding)
