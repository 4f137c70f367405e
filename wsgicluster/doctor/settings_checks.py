"""Checks of settings that are valid, but cause problems in operation."""

import ipaddress
from collections.abc import Iterator

from wsgicluster.doctor.facts import Facts, Finding
from wsgicluster.settings import FdAddress, Settings, TcpAddress

PROXY_IDLE_S = 60
"""How long nginx and the load balancers of AWS keep an idle connection by default."""
KEEPALIVE_S = 65
"""Added to it for requests that are in transit at that moment."""
SPARE_STOP_S = 5
"""For the rest of a stop beside the wait: clients in the backlog, workers that have to be killed."""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def strangers_may_connect(settings: Settings) -> bool:
    """Whether an address can be reached from other machines; a descriptor's is not known, and may be."""
    return any(
        isinstance(address, FdAddress) or (isinstance(address, TcpAddress) and not _is_loopback(address.host))
        for address in settings.bind
    )


def trust(facts: Facts) -> Iterator[Finding]:
    """All peers are trusted where other machines can connect."""
    settings = facts.settings
    if not strangers_may_connect(settings):
        return
    trusted = {
        "forwarded_allow_ips": (
            True,
            "claim that it used https" + (", and any address" if settings.forwarded_hops else ""),
        ),
        "proxy_allow_ips": (settings.proxy_protocol != "off", "claim any address with the PROXY protocol"),
        "uwsgi_allow_ips": (settings.protocol == "uwsgi", "set every variable of the environ"),
    }
    for name, (counts, what) in trusted.items():
        if counts and "*" in getattr(settings, name):
            yield Finding(
                name,
                f"* lets every client that can reach {_addresses(settings)} {what}",
                "name the proxies' addresses or networks",
            )


def _addresses(settings: Settings) -> str:
    return " or ".join(str(address) for address in settings.bind)


def header_map(facts: Facts) -> Iterator[Finding]:
    """Header fields with underscores that are accepted."""
    if facts.settings.header_map == "dangerous":
        yield Finding(
            "header_map",
            "dangerous lets clients set fields that only proxies are trusted with, such as X_Forwarded_For",
            "use drop, and forwarder_headers for the names that a proxy needs",
        )


def keepalive(facts: Facts) -> Iterator[Finding]:
    """Connections that the server may close while a proxy reuses them."""
    keepalive_s = facts.settings.keepalive
    if 0 < keepalive_s < KEEPALIVE_S:
        yield Finding(
            "keepalive",
            f"{keepalive_s:g} s is shorter than a proxy keeps idle connections ({PROXY_IDLE_S} s for nginx and AWS): "
            "what it sends in the moment of their end is reset",
            f"use {KEEPALIVE_S} or more, above the proxy's own idle time; or 0 to keep none",
        )


def timeout(facts: Facts) -> Iterator[Finding]:
    """No limit for hung requests, or one that a stop does not wait for."""
    settings = facts.settings
    if settings.timeout == 0:
        yield Finding("timeout", "0 never replaces a worker that hangs", "set it to the time of the longest request")
    elif settings.timeout > settings.graceful_timeout:
        yield Finding(
            "graceful_timeout",
            f"a request may take {settings.timeout:g} s (timeout), but is aborted {settings.graceful_timeout:g} s "
            "after a stop or reload",
            f"use {settings.timeout:g} or more",
        )


def stop_time(facts: Facts) -> Iterator[Finding]:
    """A service manager that kills the server before it has stopped."""
    settings, stop_s = facts.settings, facts.surroundings.manager_stop_s
    delay_s = settings.drain_delay
    needed_s = delay_s + settings.graceful_timeout
    if stop_s is None or stop_s > needed_s:
        return
    delay = f"the server keeps serving for {delay_s:g} s (drain_delay) and then " if delay_s else ""
    yield Finding(
        "graceful_timeout",
        f"{facts.surroundings.manager} is killed {stop_s:g} s after a stop begins, while {delay}requests may take "
        f"{settings.graceful_timeout:g} s",
        f"set TimeoutStopSec={needed_s + SPARE_STOP_S:g} in the unit, or a shorter graceful_timeout"
        + (" or drain_delay" if delay else ""),
    )


def slow_clients(facts: Facts) -> Iterator[Finding]:
    """Slow clients without a limit."""
    settings = facts.settings
    for name in ("head_timeout", "body_timeout", "write_timeout"):
        if getattr(settings, name) == 0 and strangers_may_connect(settings):
            yield Finding(name, "0 lets a slow client occupy a connection without a limit", "set a limit, such as 30")


def reload(facts: Facts) -> Iterator[Finding]:
    """A development server that other machines can reach."""
    settings = facts.settings
    if settings.reload and strangers_may_connect(settings):
        yield Finding(
            "reload",
            f"workers are replaced whenever a file changes, and other machines can connect to {_addresses(settings)}",
            "do not use it in production; deploy with HUP",
        )


def recycling(facts: Facts) -> Iterator[Finding]:
    """Workers that are recycled at the same time."""
    settings = facts.settings
    if settings.max_requests and not settings.max_requests_jitter and settings.workers_most > 1:
        yield Finding(
            "max_requests_jitter",
            f"all {settings.workers} workers reach max_requests at about the same time, and boot together",
            f"use {max(1, settings.max_requests // 10)}",
        )


def daemon(facts: Facts) -> Iterator[Finding]:
    """In the background, where a service manager watches the foreground."""
    if facts.settings.daemon and facts.surroundings.manager:
        yield Finding(
            "daemon",
            f"{facts.surroundings.manager} considers a server in the background as exited",
            "remove it",
        )


def remarks(facts: Facts) -> Iterator[Finding]:
    """Remarks from reading the settings."""
    for remark in facts.remarks:
        topic, _, rest = remark.partition(": ")
        yield Finding(topic, rest, "correct or remove it")


CHECKS = (trust, header_map, keepalive, timeout, stop_time, slow_clients, reload, recycling, daemon, remarks)
