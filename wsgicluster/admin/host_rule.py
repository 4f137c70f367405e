"""Under which names the admin worker is reached: those that belong to it. Pure.

A page of any site may have its own name point to this address (DNS rebinding), and would then be allowed by a browser
to read what is here. The browser still sends that name in the field Host. Addresses need no such care: no site chooses
what they point to.
"""

import http
import ipaddress
from collections.abc import Callable, Iterable

from wsgicluster.admin.exchange import AdminRequest, AdminResponse, error_response

_LOOPBACK = "localhost"
_SHOWN_CHARACTERS = 80

Respond = Callable[[AdminRequest], AdminResponse]


def name_in(field: str) -> str:
    """The host that a field Host names, in lower case, without port, brackets and the dot of the root."""
    host = field.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def is_address(host: str) -> bool:
    """Whether it is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class HostRule:
    """Requests are served that name an IP address, the loopback interface or one of ``names``, or no host at all."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)

    def allows(self, field: str) -> bool:
        """Whether a request with this field Host is served; browsers always send one."""
        host = name_in(field)
        return (
            not host or host in self._names or host.endswith(f".{_LOOPBACK}") or host == _LOOPBACK or is_address(host)
        )

    def guard(self, respond: Respond) -> Respond:
        """The same, but for requests that name another host."""

        def guarded(request: AdminRequest) -> AdminResponse:
            field = request.field("Host")
            if self.allows(field):
                return respond(request)
            name = name_in(field)[:_SHOWN_CHARACTERS]
            message = (
                f"this server is not known as {name!r}: allow the name with admin_host (--admin-host {name}), or use "
                "the IP address"
            )
            return error_response(http.HTTPStatus.MISDIRECTED_REQUEST, message)

        return guarded
