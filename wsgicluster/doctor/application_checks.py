"""Checks of what the application does when it is loaded, and of the effect in workers."""

from collections.abc import Iterator

from wsgicluster.counting import count_of
from wsgicluster.doctor.facts import Facts, Finding, Traces
from wsgicluster.doctor.surroundings_checks import size
from wsgicluster.settings.types.worker import kind_row
from wsgicluster.system.signals import WORKER_ACTIONS

SLOW_PART = 0.5
"""A load that takes more than this part of ``timeout`` fails on a busy machine."""
NEAR_PART = 0.8
"""A worker that starts above this part of ``max_memory`` soon exceeds it."""

_DRIVERS = {
    "psycopg2": "call psycogreen.gevent.patch_psycopg() first, or use psycopg 3",
    "MySQLdb": "use PyMySQL, which is written in Python",
}


def loaded(facts: Facts) -> Iterator[Finding]:
    """The application cannot be loaded, or is not a WSGI application."""
    application, name = facts.application, facts.settings.wsgi_app
    if application.failure:
        yield Finding(
            "application", application.failure, f"correct it; wsgicluster --check-config {name} checks it again"
        )


def preloaded(facts: Facts) -> Iterator[Finding]:
    """Objects that exist before the fork, which workers would share or lose."""
    if not facts.settings.preload_app:
        return
    application = facts.application
    late = "open it on the first request of a worker, or do not use preload_app"
    yield from _each(application.opened, "is opened before the fork and would be shared by all workers", late)
    if not kind_row(facts.settings.worker_class).loop_in_each_worker:
        yield from _each(application.loops, "is created before the fork and would be shared by all workers", late)
    yield from _each(
        application.threads,
        "is started before the fork and would not run in workers",
        "start it on the first request of a worker, or do not use preload_app",
    )
    yield from _each(
        application.locks,
        "is locked when the application is loaded, and would stay locked in all workers",
        "release it before the import ends, or do not use preload_app",
    )


def _each(traces: Traces, what: str, remedy: str) -> Iterator[Finding]:
    for trace in traces:
        yield Finding("preload_app", f"{trace} {what}", remedy)


def children(facts: Facts) -> Iterator[Finding]:
    """Processes without a supervisor."""
    number = 1 if facts.settings.preload_app else facts.settings.workers_most
    when = "by each worker" if number > 1 else "before the first request"
    for trace in facts.application.children:
        yield Finding(
            "application",
            f"{trace} is started {when}, and is not ended with its worker",
            "run it as a separate service",
        )


def handlers(facts: Facts) -> Iterator[Finding]:
    """Handlers for signals that workers or the arbiter use."""
    own = tuple(number.name for number in WORKER_ACTIONS)
    for trace in facts.application.handlers:
        if trace.what.startswith(own):
            effect = "which a worker uses itself: the handler is replaced"
        else:
            effect = "which is for the arbiter, but may be sent to workers as well"
        yield Finding(
            "signals",
            f"the application handles {trace}, {effect}",
            "clean up with atexit, which a worker runs when it exits",
        )


def debug(facts: Facts) -> Iterator[Finding]:
    """Error pages that show code and settings to clients."""
    for mode in facts.application.debug:
        yield Finding(
            "application", f"{mode} is on, which shows code and settings to clients in error pages", "turn it off"
        )


def greenlets(facts: Facts) -> Iterator[Finding]:
    """gevent's patches in workers of another kind, or gevent with drivers that block it."""
    application, kind = facts.application, facts.settings.worker_class
    if kind_row(kind).cooperative:
        for driver in application.blocking_drivers:
            yield Finding(
                "worker_class",
                f"{driver} waits in C, which blocks gevent: one query delays all requests of a worker",
                _DRIVERS[driver],
            )
    elif application.patched:
        yield Finding(
            "worker_class",
            f"the application calls gevent's monkey.patch_all(), but worker_class is {kind}",
            "use -k gevent, or remove the patch",
        )


def memory(facts: Facts) -> Iterator[Finding]:
    """The application needs more memory than there is, or than max_memory."""
    settings, resident = facts.settings, facts.application.resident_bytes
    limit = facts.surroundings.memory_limit_bytes
    needed = resident * (1 if settings.preload_app else settings.workers_most)
    if needed > limit:
        yield Finding(
            "workers",
            f"{count_of(settings.workers_most, 'worker needs', 'workers need')} about {size(needed)} "
            f"({size(resident)} each before the first request), "
            f"but only {size(limit)} are available",
            f"use {max(1, int(limit * NEAR_PART / resident))} or fewer, or preload_app to share what is loaded",
        )
    if settings.max_memory and resident > NEAR_PART * settings.max_memory:
        yield Finding(
            "max_memory",
            f"a worker takes {size(resident)} before its first request, and is replaced above "
            f"{size(settings.max_memory)}",
            f"use {size(2 * resident)} or more",
        )


def slow(facts: Facts) -> Iterator[Finding]:
    """The application takes nearly as long to load as a worker has to boot."""
    load_s, timeout_s = facts.application.load_s, facts.settings.timeout
    if timeout_s and load_s > SLOW_PART * timeout_s:
        yield Finding(
            "timeout",
            f"the application takes {load_s:.3g} s to load, and a worker has {timeout_s:g} s to boot",
            f"use {2 * load_s:.0f} or more, or load less at import",
        )


CHECKS = (loaded, preloaded, children, handlers, debug, greenlets, memory, slow)
