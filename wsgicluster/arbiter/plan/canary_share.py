"""How many of the connections that clients keep go to a worker on probation, so that it is tried with its share.

Pure: counts of connections in, counts out. Clients and proxies that keep their connections make no new ones, and would
never meet the worker.
"""

import math
from collections.abc import Collection, Mapping

SHARE_EVERY_S = 0.25
"""How often connections are given at most: those of the last time have arrived by then, and are counted."""


def gifts(canary: int, others: Mapping[int, int], donors: Collection[int]) -> dict[int, int]:
    """How many connections each of the ``donors`` gives to a worker that has ``canary``, none left out that gives any.

    ``others`` are those of the old workers by their keys. The share is that of one worker of all; half a connection is
    not given. Those that have many give more. Where only some give, they keep half of what they and the
    new one have.
    """
    given = {key: others[key] for key in donors if others[key] > 0}
    there = sum(given.values())
    share = (canary + sum(others.values())) / (len(others) + 1)
    # With one donor for all it would soon have none left.
    most = there if len(donors) == len(others) else (there + canary + 1) // 2 - canary
    wanted = min(math.ceil(share - 0.5) - canary, most)
    if wanted <= 0:
        return {}
    found = {key: wanted * count // there for key, count in given.items()}
    left = wanted - sum(found.values())
    for key in sorted(given, key=lambda key: (wanted * given[key] % there, given[key]), reverse=True)[:left]:
        found[key] += 1
    return {key: count for key, count in found.items() if count}
