"""Scheduling policies: which slot serves a new connection, or a request. Pure; what carries it out is elsewhere.

A policy is asked with the turn (a number that no two workers get) and the slots as they are at the moment, and returns
a slot, or None where no slot has a worker that takes clients: the connection then stays where it is. ``shared`` has no
function here: the kernel wakes a worker that waits.
"""

import functools
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple


class SlotLoad(NamedTuple):
    """One slot as its worker's page shows it: requests in progress, and open connections.

    ``takes`` says that its worker accepts clients: it is ready, and does not drain or hold back. ``late`` says that it
    has not come to take what it was given a moment ago, ``hangs`` that this is so for too long.
    """

    slot: int
    takes: bool
    requests: int = 0
    connections: int = 0
    late: bool = False
    hangs: bool = False


@functools.lru_cache(maxsize=8)
def weighted_cycle(weights: tuple[int, ...], slots: int) -> tuple[int, ...]:
    """Slots (from 1) in the order of one whole cycle: each as often as its weight says, spread as evenly as may be.

    Slots beyond the weights weigh 1.
    The smooth weighted round robin that nginx describes: in each step every slot gains its weight, the one with the
    most is taken and pays the sum of all. ``(3, 1)`` is 1, 1, 2, 1 and not 1, 1, 1, 2. A weight of 0 is never taken.
    """
    weights = weights[:slots] + (1,) * (slots - len(weights))
    total = sum(weights)
    gained = [0] * slots
    cycle = []
    for _ in range(total):
        gained = [have + weight for have, weight in zip(gained, weights, strict=True)]
        best = max(range(len(weights)), key=gained.__getitem__)
        gained[best] -= total
        cycle.append(best + 1)
    return tuple(cycle)


def round_robin(turn: int, slots: Sequence[SlotLoad]) -> int | None:
    """The slot whose turn it is; the next one that takes clients if its worker does not."""
    for step in range(len(slots)):
        load = slots[(turn + step) % len(slots)]
        if load.takes:
            return load.slot
    return None


def with_room(slots: Sequence[SlotLoad], requests: int, connections: int) -> list[SlotLoad]:
    """The same slots; those take no client that have so many requests in progress, or connections, already."""
    return [load if _has_room(load, requests, connections) else load._replace(takes=False) for load in slots]


def _has_room(load: SlotLoad, requests: int, connections: int) -> bool:
    return load.requests < requests and load.connections < connections and not load.late


def weighted(turn: int, slots: Sequence[SlotLoad], weights: tuple[int, ...]) -> int | None:
    """The slot whose turn it is by ``weights``, one for each slot; ``slots`` are all of them in order, from 1."""
    cycle = weighted_cycle(weights, len(slots))
    for step in range(len(cycle)):
        load = slots[cycle[(turn + step) % len(cycle)] - 1]
        if load.takes:
            return load.slot
    return None


def least_connections(turn: int, slots: Sequence[SlotLoad]) -> int | None:
    """The slot with the fewest requests in progress, then connections; ties rotate, or the first would have all.

    A slot that is late is the last choice, whatever its page says.
    """
    first = turn % len(slots) if slots else 0
    found = [load for load in (*slots[first:], *slots[:first]) if load.takes]
    return min(found, key=_burden).slot if found else None


_burden = itemgetter(4, 2, 3)
