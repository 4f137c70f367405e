"""The intake policy: which clients and requests a worker accepts, defers, serves or passes on; rules over plain values.

Pure: what happens is an `Occasion`, how things stand is a `Snapshot`, what to do is a `Decision`, times are parameters.
The acceptor, the runners, the drain and the slow request monitor carry decisions out and decide nothing themselves.
A policy that chooses a slot for a connection, once it has been accepted or its head has been read, is another
rule over these values whose decision is `PassOn`.
"""

import enum
import math
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

# How many clients at a time.

INLINE_BATCH = 1
"""New connections that stay open, which a worker with one thread takes in one turn. Their next requests would wait
behind those of the others, while a sibling may have nothing to do."""

OFFLOADED_BATCH = 4
"""The same for a worker whose loop does not run requests: enough to be busy with, and not so many that siblings would
have nothing to do."""

ALONE_BATCH = 64
"""The same where there are no siblings to leave any to: the loop gets a turn when the threads pause, and the last of
several hundred clients that come at once would wait for as many pauses."""

OPEN_FOR_ONE_MORE = 32
"""How many open connections are reason for one more new one in a turn: the last client in the queue of a busy worker
would wait for long."""

ACCEPT_S = 0.0005
"""How long one turn takes new connections that are answered and closed at once, however many there are."""

HANDED_A_TURN = 16
"""Connections taken over from siblings in one turn."""

HANDED_OFF_AT_ONCE = 64
"""Connections that are looked at, and given to siblings, at a time while a request keeps the only thread busy."""

# How long to wait for room, here or elsewhere.

SLOW_S = 0.005
"""A request that has run for longer is slow: no other one is to wait behind it while a sibling has room."""

HAND_OFF_S = 0.0008
"""A request that has a worker's only thread for this long keeps others from an idle sibling. To wait for less costs
less than to move."""

LONGEST_LOOK_S = 0.008
"""How often at least a worker is checked for a slow request that has one quick request after another, while clients
wait."""

CROWDED_S = 0.005
"""A client whom no worker has had room for in this time is accepted nevertheless, if not too many like it wait
already: all are busy, and the clients they keep shall not be the only ones that are served."""

QUICK_CROWDED_S = 0.001
"""The same while no request is slow: siblings that have not taken a client in this time are busy, too."""

LEFT_S = 0.25
"""How long a full worker leaves what comes to siblings whose pages show room. They may not have run since; and what
siblings pass on may be what it has just given away itself."""

HOLD_S = 0.05
"""How often a worker far beyond a limit checks whether its siblings still take what is new."""

SIBLINGS_S = 1.0
"""How often a worker that works alone checks whether it has siblings."""

# What makes room.

SILENT_S = 1.0
"""A client that has sent and read nothing for this long makes room for others."""

KEPT_SILENT_S = 5.0
"""The same for one that has had a response, while there are clients that have had none and may be up to no good."""

RESERVED_PART = 8
"""One in so many descriptors is left to the application: a worker whose clients hold all of them could accept no
client, and the requests that it has could open no file."""

CONNECTIONS_PART = 4
"""A worker leaves clients in the queue for its reserve of descriptors only where it is their connections that use up
the limit: at least one in so many. Otherwise the application does, and would never have a client again."""

ACCEPT_PAUSE_S = 0.1
"""How long a worker without descriptors waits before it looks for some again."""

QUEUE_LOOK_S = 0.05
"""The client of a request that has waited for this long may have left: one look more pays for itself."""

# How a worker leaves.

SILENCE_S = 1.0
"""How long a kept connection may stay silent before a stopping server closes it."""

RETRY_S = 0.02
"""How often a worker that leaves tries again to pass on what no sibling had room for."""

STOP_NOTICE_GRACE_S = 0.1
"""TERM may come from outside, to all processes at once: the arbiter gets this long to say that the server stops."""

STOP_GRACE_S = 1.5
"""So long once it has said that the server will: first it waits, for up to a second, for connections that have begun,
and a worker that has exited by then leaves them without a response."""


class Occasion(enum.Enum):
    """What there is to decide."""

    CLIENTS_WAIT = enum.auto()
    """At a listener there are clients that no worker has accepted."""
    REQUEST_COMES = enum.auto()
    """On an open connection something has come, and every place that could run it is taken."""
    REQUEST_RUNS = enum.auto()
    """A request has the worker's only thread; on other connections something has come."""


class Snapshot(NamedTuple):
    """How one worker stands; times in seconds.

    Of ``capacity`` requests that can run at once ``running`` do, and ``queued`` wait. ``oldest_s`` is how long the
    oldest of them has run. ``siblings_ready`` are the other workers that take what is new, and ``siblings_idle`` those
    of them that run no request. ``over_admitted`` are clients that were accepted without room and have not been served;
    ``siblings_had_time`` says that clients at the listeners have been left to siblings for as long as `Defer` said.
    ``batch`` is how many new clients a worker of this kind takes in one turn. ``meets_probes`` says that the first
    request of a new client may be a probe, which needs no room.
    """

    now: float
    open: int = 0
    most_open: int = sys.maxsize
    running: int = 0
    queued: int = 0
    capacity: int = sys.maxsize
    oldest_s: float = 0.0
    siblings_ready: int = 0
    siblings_idle: int = 0
    held: bool = False
    draining: bool = False
    over_admitted: int = 0
    siblings_had_time: bool = False
    batch: int = OFFLOADED_BATCH
    meets_probes: bool = False

    @property
    def room(self) -> int:
        """How many more requests can run at once."""
        return self.capacity - self.running - self.queued

    @property
    def is_quick(self) -> bool:
        """Whether no request is slow: one that waits here soon runs."""
        return not self.running or self.oldest_s < SLOW_S

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return self.open >= self.most_open


class Accept(NamedTuple):
    """Take so many new clients, those not counted that have left already; ``beyond`` says that there is no room."""

    clients: int
    beyond: bool = False


class Defer(NamedTuple):
    """Leave it where it is, and decide anew at a moment of the monotonic clock, or when there is room."""

    until: float


class Serve(NamedTuple):
    """Serve it here."""


class PassOn(NamedTuple):
    """Give it to a sibling. ``slot`` is which; None leaves that to the first that has room."""

    slot: int | None = None


Decision = Accept | Defer | Serve | PassOn


def decide(occasion: Occasion, snapshot: Snapshot) -> Decision:
    """What to do on an occasion."""
    return RULES[occasion](snapshot)


def accept(snapshot: Snapshot) -> Accept | Defer:
    """New clients are taken as far as there is room for their requests; others stay where all siblings see them."""
    if snapshot.is_full:
        return Defer(snapshot.now + SILENT_S)
    if snapshot.room > 0:
        return Accept(min(snapshot.room, snapshot.most_open - snapshot.open, batch(snapshot.batch, snapshot.open)))
    had_time = snapshot.siblings_had_time or (snapshot.is_quick and snapshot.siblings_ready < 1)
    if had_time and may_over_admit(snapshot):
        most = min(_beyond_in_turn(snapshot) - snapshot.over_admitted, snapshot.most_open - snapshot.open)
        return Accept(max(1, most), beyond=True)
    return Defer(snapshot.now + (QUICK_CROWDED_S if snapshot.is_quick else CROWDED_S))


def _beyond_in_turn(snapshot: Snapshot) -> int:
    """How many new clients are taken in a turn although there is no room."""
    if not snapshot.is_quick:
        return 1
    return batch(snapshot.batch, snapshot.open) if snapshot.siblings_ready else ALONE_BATCH


def batch(least: int, connections: int) -> int:
    """How many new clients are taken in one turn at most, by a worker with so many open connections."""
    return least + connections // OPEN_FOR_ONE_MORE


def may_over_admit(snapshot: Snapshot) -> bool:
    """Whether one more new client may wait here: what waits in this process is lost with it, at the listener not.

    One always may, and half as many as there are requests of kept clients that wait, so that these come not first; all
    that are taken in a turn, while no request is slow. Where one may send a probe, all may: it must not wait behind
    those that need room.
    """
    if snapshot.meets_probes:
        return not snapshot.is_full
    most = max(_beyond_in_turn(snapshot), snapshot.queued // 2)
    return not snapshot.is_full and snapshot.over_admitted < most


def request_comes(snapshot: Snapshot) -> Serve | Defer | PassOn:
    """A request does not wait behind a slow one here while a sibling has room, and moves for no quick one."""
    if snapshot.draining or snapshot.siblings_ready < 1:
        return Serve()
    if not snapshot.held and snapshot.oldest_s < SLOW_S:
        # It stays in its socket for a moment in which it may turn out that none is slow.
        return Defer(snapshot.now + SLOW_S)
    return PassOn()


def request_runs(snapshot: Snapshot) -> Serve | Defer | PassOn:
    """What comes while the only thread is busy goes to an idle sibling; later, to the first that is done before."""
    if snapshot.siblings_ready < 1:
        return Serve()
    left_s = (HAND_OFF_S if snapshot.siblings_idle > 0 else SLOW_S) - snapshot.oldest_s
    return Defer(snapshot.now + left_s) if left_s > 0.0 else PassOn()


RULES: Mapping[Occasion, Callable[[Snapshot], Decision]] = {
    Occasion.CLIENTS_WAIT: accept,
    Occasion.REQUEST_COMES: request_comes,
    Occasion.REQUEST_RUNS: request_runs,
}
"""The rule for each occasion."""


def accept_until(now: float, batch_size: int) -> float:
    """Until when one turn takes new clients: a worker whose only thread serves them goes back to those it has."""
    return now + ACCEPT_S if batch_size == INLINE_BATCH else math.inf
