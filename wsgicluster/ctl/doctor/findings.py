"""What a status, the settings in force and the surroundings of a server say about its health. Pure.

A finding says what is the case, with its figures, and what to do. What only the application's code tells is left to
``wsgicluster --doctor``, which loads it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from wsgicluster.control.surroundings import LiveSurroundings
from wsgicluster.ctl.tables import bytes_text, seconds_text
from wsgicluster.dataclass import dataclass

NEAR = 0.9
"""A share of a limit from which it is near."""
SLOW_QUEUE_S, SLOW_SHARE = 0.1, 0.01
"""A wait of this length in front of the application, for so many requests, is one that users feel."""
MANY_REQUESTS = 1000
"""With fewer, shares of requests say little."""
FAILED_SHARE = 0.01
QUICK_RECYCLE = 1000
SYNC_WORKERS_EACH = 4
_ABNORMAL = ("crashed", "timed_out", "out_of_memory", "killed_from_outside", "boot_failed")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([KMG]?)")
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class LiveFinding:
    """``subject`` is a setting or a part of the server."""

    subject: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.what}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class LiveFacts:
    """``status`` as ``list --json`` has it, ``settings`` as text by name."""

    status: Mapping[str, Any]
    settings: Mapping[str, str]
    surroundings: LiveSurroundings

    def number(self, setting: str) -> float:
        """A setting that is a number, or a size with its unit; 0 for what is neither."""
        found = _NUMBER.fullmatch(self.settings.get(setting, ""))
        return float(found[1]) * _SIZES[found[2]] if found else 0


def findings(facts: LiveFacts) -> list[LiveFinding]:
    """All of them, the most urgent first."""
    return [found for check in CHECKS for found in check(facts)]


def missing_workers(facts: LiveFacts) -> Iterator[LiveFinding]:
    """Slots without a worker because theirs die, or cannot be started."""
    server, workers = facts.status["server"], facts.status["workers"]
    if not server["degraded"]:
        return
    ready = {each["slot"] for each in workers if each["state"] == "ready"}
    slots = [str(slot) for slot in range(1, server["workers"]["wanted"] + 1) if slot not in ready]
    counts = server["workers"]
    yield LiveFinding(
        "workers",
        f"{counts['ready']} of {counts['wanted']} are ready; slots that wait for another attempt: "
        f"{', '.join(slots) or 'none'}",
        "wsgiclusterctl logs --level error says why their workers exit",
    )


def last_reload(facts: LiveFacts) -> Iterator[LiveFinding]:
    """A reload that has failed: the server runs other code than the one that is installed."""
    last = facts.status["server"]["last_reload"]
    if last is not None and last["result"] in ("aborted", "refused"):
        yield LiveFinding(
            "reload",
            f"the last one was {last['result']}: {last['reason']}; workers still run the code from before",
            "correct the cause, and run wsgiclusterctl reload --wait",
        )


def exits(facts: LiveFacts) -> Iterator[LiveFinding]:
    """Workers that have exited without having been asked to."""
    counted = facts.status["server"]["exits"]
    found = [f"{counted[word]} {word.replace('_', ' ')}" for word in _ABNORMAL if counted.get(word)]
    if found:
        yield LiveFinding(
            "exits",
            f"since the start, of workers: {', '.join(found)}",
            "wsgiclusterctl show SLOT has the last ones, with the request that was in progress",
        )


def hung_requests(facts: LiveFacts) -> Iterator[LiveFinding]:
    """Requests that have run for longer than half of the time after which their worker is ended."""
    limit_s = facts.number("timeout")
    for each in facts.status["workers"]:
        oldest = each.get("oldest_request")
        if oldest and limit_s and oldest["seconds"] > limit_s / 2:
            yield LiveFinding(
                "timeout",
                f"worker {each['slot']} runs {oldest['method']} {oldest['path']} for {seconds_text(oldest['seconds'])} "
                f"of {limit_s:g} s",
                f"wsgiclusterctl stacks {each['slot']} shows where it is",
            )


def descriptors(facts: LiveFacts) -> Iterator[LiveFinding]:
    """Processes that have nearly as many files open as they may."""
    limits = facts.surroundings.open_file_limits
    for name, each in _processes(facts):
        limit, used = limits.get(each.get("pid") or 0), each.get("open_fds")
        if limit and used and used > NEAR * limit:
            yield LiveFinding(
                "descriptors",
                f"{name} has {used} of {limit} files and connections open",
                "raise the limit (LimitNOFILE= of systemd, ulimit -n), or look for a leak in /proc/PID/fd",
            )


def _processes(facts: LiveFacts) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "the arbiter", facts.status["server"]
    for each in facts.status["workers"]:
        yield f"worker {each['slot']}", each


def memory(facts: LiveFacts) -> Iterator[LiveFinding]:
    """Memory near a limit: the container's or the service's, and ``max_memory`` of workers."""
    limit, used = facts.surroundings.memory_limit_bytes, facts.surroundings.memory_used_bytes
    if limit and used and used > NEAR * limit:
        yield LiveFinding(
            "memory",
            f"the control group of the server uses {bytes_text(used)} of {bytes_text(limit)}",
            "use fewer workers, set max_memory, or raise the limit (MemoryMax= of systemd, the container's)",
        )
    most = facts.number("max_memory")
    large = [
        str(each["slot"]) for each in facts.status["workers"] if most and (each.get("rss_bytes") or 0) > NEAR * most
    ]
    if large:
        yield LiveFinding(
            "max_memory",
            f"the workers of slots {', '.join(large)} are near {bytes_text(int(most))}, and will be replaced soon",
            "wsgiclusterctl memory SLOT finds what grows; if they need it, raise max_memory",
        )


def queue(facts: LiveFacts) -> Iterator[LiveFinding]:
    """Requests that wait for a worker, or were given up for it."""
    totals = facts.status["server"]["totals"]
    buckets, bounds = totals["queue"]["buckets"], facts.status["server"]["bounds_seconds"]
    # A bucket holds what is above the bound in front of its own.
    late = sum(count for count, above in zip(buckets[1:], bounds, strict=True) if above >= SLOW_QUEUE_S)
    if sum(buckets) >= MANY_REQUESTS and late > SLOW_SHARE * sum(buckets):
        yield LiveFinding(
            "queue",
            f"{late} of {sum(buckets)} requests have waited for {seconds_text(SLOW_QUEUE_S)} or longer before they ran",
            "add workers, or threads where requests wait for others (a database, an API)",
        )
    if totals["shed"]:
        yield LiveFinding(
            "queue_timeout",
            f"{totals['shed']} requests were not run, since they had waited too long or their clients had left",
            "add workers, or find what takes them so long with wsgiclusterctl profile SLOT",
        )


def listen_queue(facts: LiveFacts) -> Iterator[LiveFinding]:
    """Connections that did not fit the kernel's queue, and a backlog that the kernel does not grant."""
    limit, wanted = facts.surroundings.backlog_limit, facts.number("backlog")
    if limit is not None and limit < wanted:
        yield LiveFinding(
            "backlog",
            f"the kernel lets {limit} connections wait, not {wanted:.0f}",
            f"run sysctl -w net.core.somaxconn={wanted:.0f} (a container has its own), or use {limit}",
        )
    if facts.surroundings.overflows:
        yield LiveFinding(
            "backlog",
            f"a listen queue was full {facts.surroundings.overflows} times since the machine or container was started, "
            "of this server or another one there",
            "if the number grows: add workers, or raise backlog and net.core.somaxconn",
        )


def failures(facts: LiveFacts) -> Iterator[LiveFinding]:
    """Many requests that the application has failed."""
    totals = facts.status["server"]["totals"]
    requests, failed = totals["requests"], totals["failed"]
    if requests >= MANY_REQUESTS and failed > FAILED_SHARE * requests:
        yield LiveFinding(
            "application",
            f"it has failed {failed} of {requests} requests ({100 * failed / requests:.1f} %)",
            "wsgiclusterctl logs --level error has the tracebacks",
        )


def wasteful(facts: LiveFacts) -> Iterator[LiveFinding]:
    """Settings that cost more than they give, here."""
    requests = facts.number("max_requests")
    if 0 < requests < QUICK_RECYCLE:
        yield LiveFinding(
            "max_requests",
            f"each worker is replaced after {requests:.0f} requests, and boots again for it",
            "use max_memory, which replaces those that grow, or a higher number",
        )
    processors, workers = facts.surroundings.processors, facts.status["server"]["workers"]["wanted"]
    if processors and facts.status["server"]["worker_class"] == "sync" and workers > SYNC_WORKERS_EACH * processors + 1:
        yield LiveFinding(
            "workers",
            f"{workers} sync workers have {processors} processors",
            f"use {SYNC_WORKERS_EACH * processors + 1} or fewer; threads or gevent take less memory",
        )
    if facts.settings.get("reload") == "true":
        yield LiveFinding("reload", "workers watch all source files, as for development", "leave it out in production")


def root(facts: LiveFacts) -> Iterator[LiveFinding]:
    """The application with all rights."""
    if facts.surroundings.user == 0 and facts.settings.get("user") in ("0", "root"):
        yield LiveFinding(
            "user", "the application runs as root", "name a user (-u www-data), or start the server as one"
        )


CHECKS = (
    missing_workers,
    last_reload,
    exits,
    hung_requests,
    descriptors,
    memory,
    queue,
    listen_queue,
    failures,
    wasteful,
    root,
)
