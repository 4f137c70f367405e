"""What the application has done when it was loaded, and what that means in workers."""

from collections.abc import Iterator

from wsgicluster.doctor.facts import Facts, Finding, Traces
from wsgicluster.doctor.inspection import TAKEN
from wsgicluster.doctor.surroundings_checks import size

SLOW_PART = 0.5
"""A load that takes more than this part of ``timeout`` fails on a busy machine."""
NEAR_PART = 0.8
"""A worker that begins above this part of ``max_memory`` is soon beyond it."""

_DRIVERS = {
    "psycopg2": "call psycogreen.gevent.patch_psycopg() first, or use psycopg 3",
    "MySQLdb": "use PyMySQL, which is written in Python",
}


def loaded(facts: Facts) -> Iterator[Finding]:
    """No application, or one of another kind."""
    application, name = facts.application, facts.settings.wsgi_app
    if application.failure:
        yield Finding(
            "application", application.failure, f"correct it; wsgicluster --check-config {name} tries it again"
        )
    elif application.misfit:
        yield Finding(
            "application",
            f"{name}: {application.misfit}",
            "name a callable of PEP 3333; a2wsgi.ASGIMiddleware makes one of an ASGI application",
        )


def preloaded(facts: Facts) -> Iterator[Finding]:
    """What is there before the fork, and what becomes of it behind it."""
    if not facts.settings.preload_app:
        return
    application = facts.application
    late = "open it on the first request of a worker, or leave preload_app out"
    yield from _each(application.opened, "is opened before the fork and would be shared by all workers", late)
    if facts.settings.worker_class != "gevent":  # which makes its loop anew in each worker
        yield from _each(application.loops, "is made before the fork and would be shared by all workers", late)
    yield from _each(
        application.threads,
        "is started before the fork, and workers would not have it",
        "start it on the first request of a worker, or leave preload_app out",
    )
    yield from _each(
        application.locks,
        "is held when the application is loaded, and would be held in all workers for ever",
        "release it before the import ends, or leave preload_app out",
    )


def _each(traces: Traces, what: str, remedy: str) -> Iterator[Finding]:
    for trace in traces:
        yield Finding("preload_app", f"{trace} {what}", remedy)


def children(facts: Facts) -> Iterator[Finding]:
    """Processes that nobody supervises."""
    number = 1 if facts.settings.preload_app else facts.settings.workers
    who = "by every worker anew" if number > 1 else "before there is a request"
    for trace in facts.application.children:
        yield Finding(
            "application",
            f"{trace} is started {who}, and nobody ends it with its worker",
            "run it as a service of its own",
        )


def handlers(facts: Facts) -> Iterator[Finding]:
    """Signals that are a worker's own."""
    own = tuple(number.name for number in TAKEN)
    for trace in facts.application.handlers:
        if trace.what.startswith(own):
            effect = "which a worker needs itself and takes back"
        else:
            effect = "which is the arbiter's to answer, but may reach workers as well"
        yield Finding(
            "signals",
            f"the application handles {trace}, {effect}",
            "have atexit clean up: a worker runs it when it leaves",
        )


def debug(facts: Facts) -> Iterator[Finding]:
    """Pages that tell strangers about the code."""
    for mode in facts.application.debug:
        yield Finding(
            "application", f"{mode} is on, which shows code and settings to whoever sees an error", "turn it off"
        )


def greenlets(facts: Facts) -> Iterator[Finding]:
    """gevent in the wrong place, or with what it cannot see."""
    application, kind = facts.application, facts.settings.worker_class
    if kind == "gevent":
        for driver in application.blocking_drivers:
            yield Finding(
                "worker_class",
                f"{driver} waits in C, where gevent cannot see it: one query holds up all requests of a worker",
                _DRIVERS[driver],
            )
    elif application.patched:
        yield Finding(
            "worker_class",
            f"the application calls gevent's monkey.patch_all(), but workers are of the kind {kind}",
            "use -k gevent, or leave the patch out",
        )


def memory(facts: Facts) -> Iterator[Finding]:
    """Less memory than the loaded application takes, in all workers or in one."""
    settings, resident = facts.settings, facts.application.resident_bytes
    limit = facts.surroundings.memory_limit_bytes
    needed = resident * (1 if settings.preload_app else settings.workers)
    if needed > limit:
        yield Finding(
            "workers",
            f"{settings.workers} workers need about {size(needed)} ({size(resident)} each before the first request), "
            f"and there are {size(limit)}",
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
    """A load that is nearly too long."""
    load_s, timeout_s = facts.application.load_s, facts.settings.timeout
    if timeout_s and load_s > SLOW_PART * timeout_s:
        yield Finding(
            "timeout",
            f"the application takes {load_s:.3g} s to load, and a worker has {timeout_s:g} s to boot",
            f"use {2 * load_s:.0f} or more, or load less at import",
        )


CHECKS = (loaded, preloaded, children, handlers, debug, greenlets, memory, slow)
