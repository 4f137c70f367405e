"""The metrics of a server: a table of what each is called, what it means, and how it is read from a status.

A metric is a row: what is exposed, and the page in the documentation, come from the table. Names follow the conventions
of Prometheus: base units, counters (and nothing else) end in ``_total``, moments are timestamps and no ages. Labels
have few values, and none that a client chooses. Pure.
"""

import datetime
import enum
import itertools
import math
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from wsgicluster.dataclass import dataclass

PREFIX = "wsgicluster_"

Status: TypeAlias = Mapping[str, Any]
"""As ``ctl list --json`` has it, with what `wsgicluster.admin.scrape_facts` adds: ``now`` and others."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a histogram holds: how many were in each bucket, beyond the last of the bounds as well, and their sum."""

    bounds: Sequence[float]
    buckets: Sequence[int]
    sum: float

    def cumulative(self) -> list[tuple[float, int]]:
        """Each bound, and how many were at most that; the last one is infinite, and has all of them."""
        return list(zip((*self.bounds, math.inf), itertools.accumulate(self.buckets), strict=True))


Sample: TypeAlias = tuple[Sequence[str], float | Distribution]
"""The values of the labels, and the value; a `Distribution` for histograms, and for nothing else."""


class MetricKind(enum.Enum):
    """What a metric's values do."""

    COUNTER = "counter"
    """They only rise, for as long as the server runs."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    """Counters by size, and their sum."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row. ``read`` gives the samples, none for what the server or the system does not tell."""

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    help: str
    read: Callable[[Status], Iterable[Sample]]

    @property
    def full_name(self) -> str:
        """As it is exposed."""
        return PREFIX + self.name


SERVER_STATES = {
    "starting": "starting",
    "serving": "serving",
    "reloading": "serving",
    "degraded": "serving",
    "draining": "leaving",
    "stopping": "stopping",
}
"""The server's state in a status to that in the metric, which has none for a reload or for missing workers."""
WORKER_STATES = ("booting", "ready", "held", "draining", "killed")
_STATES_OF_WORKERS = {"forked": "booting"}


def seconds_of(moment: str) -> float:
    """A moment as RFC 3339 has it, in seconds since the epoch."""
    return datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def _server(read: Callable[[Mapping[str, Any]], float | None]) -> Callable[[Status], Iterable[Sample]]:
    """A value without labels, of what is known of the server."""

    def samples(status: Status) -> Iterable[Sample]:
        value = read(status["server"])
        return [] if value is None else [((), value)]

    return samples


def _slot_totals(name: str) -> Callable[[Status], Iterable[Sample]]:
    """A counter of each slot that there has ever been."""

    def samples(status: Status) -> Iterable[Sample]:
        for each in status["slots"]:
            yield (str(each["slot"]),), float(each["totals"][name])

    return samples


def _of_slots(read: Callable[[Mapping[str, Any]], float | None]) -> Callable[[Status], Iterable[Sample]]:
    """A value of each slot that there has ever been, where it has one."""

    def samples(status: Status) -> Iterable[Sample]:
        for each in status["slots"]:
            value = read(each)
            if value is not None:
                yield (str(each["slot"]),), float(value)

    return samples


def _slot_parts(name: str) -> Callable[[Status], Iterable[Sample]]:
    """Counters of each slot by a word."""

    def samples(status: Status) -> Iterable[Sample]:
        for each in status["slots"]:
            for word, value in each["totals"][name].items():
                yield (str(each["slot"]), word), float(value)

    return samples


def _slot_times(name: str) -> Callable[[Status], Iterable[Sample]]:
    """A histogram of each slot."""

    def samples(status: Status) -> Iterable[Sample]:
        bounds = status["server"]["bounds_seconds"]
        for each in status["slots"]:
            found = each["totals"][name]
            yield (str(each["slot"]),), Distribution(bounds, found["buckets"], found["seconds"])

    return samples


def _queue(status: Status) -> Iterable[Sample]:
    server = status["server"]
    found = server["totals"]["queue"]
    yield (), Distribution(server["bounds_seconds"], found["buckets"], found["seconds"])


def _tally(name: str) -> Callable[[Status], Iterable[Sample]]:
    """How often something has happened to workers, by a word."""

    def samples(status: Status) -> Iterable[Sample]:
        for word, value in status["server"][name].items():
            yield (word,), float(value)

    return samples


def _scalings(status: Status) -> Iterable[Sample]:
    for direction, reasons in status["server"]["scalings"].items():
        for reason, value in reasons.items():
            yield (direction, reason), float(value)


def _by_slot(
    read: Callable[[Mapping[str, Any]], float | None], join: Callable[[float, float], float] = float.__add__
) -> Callable[[Status], Iterable[Sample]]:
    """A value for each slot. Two workers have one slot while one replaces the other: ``join`` makes one of theirs."""

    def samples(status: Status) -> Iterable[Sample]:
        found: dict[str, float] = {}
        for worker in status["workers"]:
            value = read(worker)
            if value is not None:
                slot = str(worker["slot"])
                found[slot] = join(found[slot], float(value)) if slot in found else float(value)
        return [((slot,), value) for slot, value in found.items()]

    return samples


def _range_end(index: int) -> Callable[[Mapping[str, Any]], float | None]:
    """One end of the range of workers, where there is one: it is 2..16, or the like."""

    def read(server: Mapping[str, Any]) -> float | None:
        found = server["workers"]["range"]
        return None if found is None else float(found.split("..")[index])

    return read


def _states(status: Status) -> Iterable[Sample]:
    server = status["server"]
    present = SERVER_STATES[server["state"]]
    for state in dict.fromkeys(SERVER_STATES.values()):
        yield (state,), float(state == present)
    yield ("degraded",), float(bool(server["degraded"]))


def _workers(status: Status) -> Iterable[Sample]:
    found = [_STATES_OF_WORKERS.get(each["state"], each["state"]) for each in status["workers"]]
    return [((state,), float(found.count(state))) for state in WORKER_STATES]


def _info(status: Status) -> Iterable[Sample]:
    server = status["server"]
    yield (server["version"], platform.python_version(), server["worker_class"], server["scheduling"]), 1.0


def _connections(status: Status) -> Iterable[Sample]:
    for state in ("idle", "active"):

        def open_ones(worker: Mapping[str, Any], state: str = state) -> float | None:
            found: Mapping[str, int] = worker.get("connections", {})
            return found.get(state)

        for (slot,), value in _by_slot(open_ones)(status):
            yield (slot, state), value


def _oldest(status: Status) -> Iterable[Sample]:
    def start(worker: Mapping[str, Any]) -> float | None:
        oldest = worker.get("oldest_request")
        return status["now"] - oldest["seconds"] if oldest else None

    return _by_slot(start, min)(status)


def _last_exit(slot: Mapping[str, Any]) -> float | None:
    at = slot["last_exit_at"]
    return seconds_of(at) if at else None


def _of_pool(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    """A number of the threads of one worker, if it has such."""
    return lambda worker: worker.get("pool", {}).get(name)


def _busy_threads(worker: Mapping[str, Any]) -> float | None:
    return worker.get("in_progress") if "pool" in worker else None


def _listeners(name: str) -> Callable[[Status], Iterable[Sample]]:
    """A number of each address."""

    def samples(status: Status) -> Iterable[Sample]:
        return [((each["listener"],), float(each[name])) for each in status["server"]["listeners"]]

    return samples


def _certificates(status: Status) -> Iterable[Sample]:
    expiry = status.get("certificate_expiry")
    return [((each["listener"],), expiry) for each in status["server"]["listeners"]] if expiry is not None else []


def _beside(name: str) -> Callable[[Status], Iterable[Sample]]:
    """A value without labels, of what stands beside what is known of the server."""

    def samples(status: Status) -> Iterable[Sample]:
        value = status.get(name)
        return [] if value is None else [((), float(value))]

    return samples


def _reload_successful(server: Mapping[str, Any]) -> float:
    last = server["last_reload"]
    return float(last is None or last["result"] not in ("aborted", "refused"))


def _reload_at(server: Mapping[str, Any]) -> float | None:
    last = server["last_reload"]
    return None if last is None else seconds_of(last["at"])


_C, _G, _H = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM
_SLOT = ("slot",)

METRICS: tuple[Metric, ...] = (
    Metric(
        "build_info", _G, ("version", "python", "worker_class", "scheduling"),
        "Always 1; the labels say what runs.", _info,
    ),
    Metric(
        "start_timestamp_seconds", _G, (), "When the arbiter was started; an upgrade starts a new one.",
        _server(lambda server: seconds_of(server["started"])),
    ),
    Metric(
        "state", _G, ("state",),
        "1 for the state of the server, 0 for the others; degraded, besides, is 1 while workers are missing because "
        "they die or cannot be started.", _states,
    ),
    Metric(
        "workers_wanted", _G, (), "How many workers there are to be.",
        _server(lambda server: server["workers"]["wanted"]),
    ),
    Metric(
        "workers_min", _G, (), "The least of workers that there are to be; absent where their number is fixed.",
        _server(_range_end(0)),
    ),
    Metric(
        "workers_max", _G, (), "The most of workers that there are to be; absent where their number is fixed.",
        _server(_range_end(1)),
    ),
    Metric("workers", _G, ("state",), "Workers by state; held ones take no new connections.", _workers),
    Metric(
        "generation", _G, (), "The generation that serves: 1 after the start, higher after reloads, 0 before any.",
        _server(lambda server: server["generation"]),
    ),
    Metric(
        "requests_total", _C, ("slot", "code"),
        "Requests that are over, by the class of the response's status; none: not even a head was sent.",
        _slot_parts("responses"),
    ),
    Metric(
        "request_failures_total", _C, ("slot", "reason"),
        "Requests that failed: the application raised (exception), or returned what cannot be sent (bad_iterable), the "
        "client had left (client_left), or graceful_timeout was over (cut).", _slot_parts("failures"),
    ),
    Metric(
        "requests_shed_total", _C, ("slot", "reason"),
        "Valid requests that were not run: they had waited too long (queue_timeout), their clients had left meanwhile "
        "(client_left), the worker had to exit (stop), or had no descriptor for them (no_descriptor).",
        _slot_parts("sheds"),
    ),
    Metric(
        "bad_requests_total", _C, ("slot", "reason"),
        "Requests that were refused before the application saw them: invalid (malformed), too slow (head_timeout, "
        "body_timeout), too_large, unsupported, no or invalid TLS or PROXY header (tls, preamble), or internal errors.",
        _slot_parts("bad_requests"),
    ),
    Metric(
        "request_duration_seconds", _H, _SLOT,
        "How long requests took, from the beginning of their run to the last byte given to the kernel or stored.",
        _slot_times("duration"),
    ),
    Metric(
        "application_duration_seconds", _H, _SLOT, "How much of that the application took, its iterable included.",
        _slot_times("application"),
    ),
    Metric(
        "request_queue_seconds", _H, (), "How long requests that were complete have waited for their run.", _queue,
    ),
    Metric("received_bytes_total", _C, _SLOT, "Bytes received from clients.", _slot_totals("bytes_in")),
    Metric("sent_bytes_total", _C, _SLOT, "Bytes of bodies sent to clients.", _slot_totals("bytes_out")),
    Metric(
        "connections_accepted_total", _C, _SLOT,
        "Connections that the slot's workers have accepted, those included that they then gave to others.",
        _slot_totals("accepted"),
    ),
    Metric(
        "connections_closed_total", _C, ("slot", "reason"),
        "Connections that have ended for a worker: the client closed it (client), its last response was sent "
        "(response), no request came in time (idle), a response could not be completed (aborted), TLS or PROXY header "
        "were wrong (preamble), it made room for others (evicted), the worker exits (stop), or another one continues "
        "(handed_over).", _slot_parts("closed"),
    ),
    Metric(
        "handoffs_total", _C, ("slot", "result"),
        "Connections that were given to other workers, taken from them, or lost for want of a descriptor.",
        _slot_parts("hand_offs"),
    ),
    Metric(
        "connections_evicted_total", _C, _SLOT, "Idle connections that were closed to make room for others.",
        _slot_totals("evicted"),
    ),
    Metric(
        "probes_total", _C, _SLOT,
        "Requests of health_path and ready_path, which count as no requests otherwise.", _slot_totals("probes"),
    ),
    Metric(
        "messages_received_total", _C, (), "Messages of wsgicluster.cluster that processes have received.",
        _server(lambda server: server["totals"]["messages"]["received"]),
    ),
    Metric(
        "messages_dropped_total", _C, (), "Messages that were invalid, or had no room in the queue of a process.",
        _server(lambda server: server["totals"]["messages"]["dropped"]),
    ),
    Metric(
        "messages_late_replies_total", _C, (), "Replies to messages for which no process waited any more.",
        _server(lambda server: server["totals"]["messages"]["late_replies"]),
    ),
    Metric(
        "forged_cookies_total", _C, (),
        "Cookies of sticky scheduling that this server has not signed, or whose slot there is no more.",
        _server(lambda server: server["totals"]["forged_cookies"]),
    ),
    Metric(
        "worker_cpu_seconds_total", _C, ("slot", "mode"), "Processor time of the slot's workers: user or system.",
        _slot_parts("cpu_seconds"),
    ),
    Metric("worker_exits_total", _C, ("reason",), "Workers that have exited, by reason.", _tally("exits")),
    Metric(
        "worker_boots_total", _C, ("result",),
        "Boots of workers by how they ended; called_off: the worker was to stop before it was ready.", _tally("boots"),
    ),
    Metric(
        "scaling_steps_total", _C, ("direction", "reason"),
        "Changes of the number of workers wanted: because of the load (busy, queue, wait, idle), or requested.",
        _scalings,
    ),
    Metric("reloads_total", _C, ("result",), "Reloads by how they ended.", _tally("reloads")),
    Metric(
        "requests_in_progress", _G, _SLOT, "Requests that the application works on.",
        _by_slot(lambda worker: worker.get("in_progress")),
    ),
    Metric(
        "oldest_request_start_timestamp_seconds", _G, _SLOT,
        "When the oldest request in progress began; absent while there is none.", _oldest,
    ),
    Metric("connections", _G, ("slot", "state"), "Open connections: with a request in progress (active), or not.",
           _connections),
    Metric(
        "worker_start_timestamp_seconds", _G, _SLOT, "When the newest worker of the slot was started.",
        _by_slot(lambda worker: seconds_of(worker["started"]), max),
    ),
    Metric(
        "worker_last_exit_timestamp_seconds", _G, _SLOT, "When a worker of the slot has exited last; absent before.",
        _of_slots(_last_exit),
    ),
    Metric(
        "worker_boot_seconds", _G, _SLOT, "How long the last boot of the slot took that has succeeded.",
        _of_slots(lambda slot: slot["boot_seconds"]),
    ),
    Metric(
        "worker_backoff_seconds", _G, _SLOT,
        "How long the slot still waits for its next worker, after some that died or could not boot; 0: it does not.",
        _of_slots(lambda slot: slot["backoff_seconds"]),
    ),
    Metric(
        "loop_lag_seconds", _G, _SLOT,
        "How late the loop of the slot's worker has woken last; always 0 in sync workers, and without requests.",
        _by_slot(lambda worker: worker.get("lag_seconds"), max),
    ),
    Metric(
        "worker_resident_bytes", _G, _SLOT, "Resident memory of the slot's workers, shared pages included.",
        _by_slot(lambda worker: worker.get("rss_bytes")),
    ),
    Metric(
        "worker_proportional_bytes", _G, _SLOT,
        "Memory of the slot's workers, with their part of what processes share; at most 10 seconds old.",
        _by_slot(lambda worker: worker.get("pss_bytes")),
    ),
    Metric(
        "worker_memory_limit_bytes", _G, (),
        "Resident memory above which a worker is replaced: max_memory, to which max_memory_jitter may add; absent "
        "without it.",
        _server(lambda server: server["memory_limit_bytes"]),
    ),
    Metric(
        "worker_open_fds", _G, _SLOT, "Open descriptors of the slot's workers.",
        _by_slot(lambda worker: worker.get("open_fds")),
    ),
    Metric(
        "worker_threads", _G, _SLOT, "Threads of the slot's workers, those of the server included.",
        _by_slot(lambda worker: worker.get("threads")),
    ),
    Metric(
        "worker_threads_limit", _G, _SLOT, "Threads of the slot's workers that may run requests; of gthread only.",
        _by_slot(_of_pool("threads")),
    ),
    Metric(
        "worker_threads_busy", _G, _SLOT, "How many of those run a request.", _by_slot(_busy_threads),
    ),
    Metric(
        "worker_thread_queue", _G, _SLOT, "Requests that wait for one of those threads.", _by_slot(_of_pool("queue")),
    ),
    Metric(
        "listener_queue", _G, ("listener",), "Connections that wait in the kernel to be accepted, by address.",
        _listeners("queue"),
    ),
    Metric(
        "listener_queue_limit", _G, ("listener",), "How many connections may wait there before the kernel drops more.",
        _listeners("limit"),
    ),
    Metric(
        "listen_overflows_total", _C, (),
        "Connections that the kernel has dropped since such a queue was full, of all programs in the network "
        "namespace.",
        _beside("listen_overflows"),
    ),
    Metric(
        "certificate_expiry_timestamp_seconds", _G, ("listener",),
        "When the certificate of certfile expires; absent without TLS, or with ssl_context.", _certificates,
    ),
    Metric(
        "last_reload_successful", _G, (), "0 while the last reload was refused or aborted, else 1.",
        _server(_reload_successful),
    ),
    Metric(
        "last_reload_timestamp_seconds", _G, (), "When the last reload began or ended; absent before any.",
        _server(_reload_at),
    ),
    Metric(
        "scrape_errors_total", _C, (), "Scrapes that have failed, because the arbiter did not answer in time.",
        _beside("scrape_errors"),
    ),
    Metric(
        "arbiter_cpu_seconds_total", _C, (), "Processor time of the arbiter.",
        _server(lambda server: server.get("cpu_seconds")),
    ),
    Metric(
        "arbiter_resident_bytes", _G, (), "Resident memory of the arbiter.",
        _server(lambda server: server.get("rss_bytes")),
    ),
    Metric(
        "arbiter_open_fds", _G, (), "Open descriptors of the arbiter.", _server(lambda server: server.get("open_fds"))
    ),
)  # fmt: skip
"""All that are read from a status."""

OWN_METRICS: tuple[tuple[str, MetricKind, str], ...] = (
    ("scrape_duration_seconds", MetricKind.GAUGE, "How long the admin worker has taken to collect these metrics."),
)
"""Those of the admin worker itself: name without the prefix, kind and help."""
