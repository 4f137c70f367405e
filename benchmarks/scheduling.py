"""Scheduling policies: which share of the clients each worker gets, and what a policy costs.

    python benchmarks/scheduling.py [--only SECTION]... [--pairs N] [--requests N] [--kills N] [--passes N]

Starts servers of its own, with this file as their application, and prints the figures last. Sections are ``shares``,
``costs``, ``stickiness`` (which clients move while workers are replaced, added and killed, also behind nginx where that
is installed), ``stopped`` (one worker by SIGSTOP), ``kills`` and ``passes`` (descriptors).

Costs are processor time of all workers together for each request, measured by pairs: ``shared`` and the policy in turn,
on the same machine at the same time; the median of the differences counts.
"""

import argparse
import collections
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from scheduling_servers import Server, ask, connect, serving
from scheduling_stability import kills, passes, stickiness, stopped

CLIENTS = 200
AT_ONCE = 40
POLICIES = {
    "round-robin": ("--scheduling", "round-robin"),
    "weighted 3:2:1:1": ("--weights", "3,2,1,1"),
    "least-connections": ("--scheduling", "least-connections"),
    "sticky by header": ("--sticky", "header:X-User"),
}

# -- the application


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    body = b"%d" % environ["wsgicluster.slot"]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def shares(port: int) -> list[float]:
    """Which part of many kept connections at once each worker has."""
    clients = [connect(port) for _ in range(CLIENTS)]
    count = collections.Counter(ask(client, b"X-User: u%d\r\n" % number) for number, client in enumerate(clients))
    for client in clients:
        client.close()
    return [count[b"%d" % slot] / CLIENTS for slot in range(1, 5)]


def kept_cost(server: Server, requests: int) -> float:
    """Microseconds for each request of a kept connection."""
    clients = [connect(server.port) for _ in range(8)]
    for client in clients:
        ask(client)
    before = server.processor_s()
    for number in range(requests):
        ask(clients[number % 8])
    spent = server.processor_s() - before
    for client in clients:
        client.close()
    return spent / requests * 1e6


def new_cost(server: Server, requests: int) -> float:
    """Microseconds for each request on a connection of its own."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    before = server.processor_s()
    for _ in range(requests // AT_ONCE):
        # Many at once, as on a server with work to do: what is measured shall not be how often processes are woken.
        clients = [connect(server.port) for _ in range(AT_ONCE)]
        for client in clients:
            client.sendall(request)
        for client in clients:
            while client.recv(4096):
                pass
            client.close()
    return (server.processor_s() - before) / requests * 1e6


def by_pairs(cost: Callable[[Server, int], float], both: Sequence[Server], pairs: int, requests: int) -> list[float]:
    """Differences between the second server and the first."""
    found = []
    for number in range(pairs):
        order = (0, 1) if number % 2 else (1, 0)
        measured = {which: cost(both[which], requests) for which in order}
        found.append(measured[1] - measured[0])
    return found


def all_shares() -> Iterator[str]:
    """The shares under each policy."""
    for name, arguments in POLICIES.items():
        with serving(*arguments) as server:
            found = shares(server.port)
        wanted = (3 / 7, 2 / 7, 1 / 7, 1 / 7) if name.startswith("weighted") else (0.25,) * 4
        off = max(abs(share - equal) for share, equal in zip(found, wanted, strict=True))
        shown = ", ".join(f"{share:.1%}" for share in found)
        yield f"{name}: shares of {CLIENTS} kept connections at once: {shown}; at most {off:.1%} from what is wanted"


def costs(pairs: int, requests: int) -> Iterator[str]:
    """What each policy costs beyond none."""
    for name, arguments in POLICIES.items():
        with serving() as shared, serving(*arguments) as other:
            kept = by_pairs(kept_cost, (shared, other), pairs, requests)
            new = by_pairs(new_cost, (shared, other), pairs, requests)
        yield (
            f"{name}: more processor time than shared for a request: on a kept connection "
            f"{statistics.median(kept):+.1f} us, on one of its own {statistics.median(new):+.1f} us"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    sections: dict[str, Callable[[argparse.Namespace], Iterator[str]]] = {
        "shares": lambda _: all_shares(),
        "costs": lambda wanted: costs(wanted.pairs, wanted.requests),
        "stickiness": lambda _: stickiness(),
        "stopped": lambda _: stopped(POLICIES),
        "kills": lambda wanted: kills(POLICIES, wanted.kills),
        "passes": lambda wanted: passes(wanted.passes),
    }
    parser.add_argument("--only", action="append", choices=sections, default=[])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--passes", type=int, default=100_000)
    wanted = parser.parse_args()
    lines = [line for name in wanted.only or sections for line in sections[name](wanted)]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
