"""How long many clients that come at the same time, and then ask without a pause, wait for their first responses.

    python benchmarks/arrivals.py [--servers a,b] [--clients N] [--rounds N]

Servers and their peers are those of ``run.py``, each with one worker on the first processor. Prints, in milliseconds,
the median over all clients and the wait of the last one, each the median of the rounds.
"""

import argparse
import contextlib
import os
import select
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

from measure import free_port, running
from servers import COMMANDS

LONGEST_S = 20.0
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def first_responses_s(port: int, clients: int) -> list[float]:
    """When each client has had its first response, since they came, the quickest first."""
    with contextlib.ExitStack() as stack:
        epoll = stack.enter_context(select.epoll())
        sockets: dict[int, socket.socket] = {}
        first: dict[int, float] = {}
        began = time.monotonic()
        for _ in range(clients):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            sockets[client.fileno()] = client
            epoll.register(client, select.EPOLLOUT)
        while len(first) < clients:
            if time.monotonic() - began > LONGEST_S:
                raise TimeoutError(f"{clients - len(first)} of {clients} clients have had no response in {LONGEST_S} s")
            for descriptor, events in epoll.poll(1.0):
                client = sockets[descriptor]
                if events & select.EPOLLOUT:
                    epoll.modify(descriptor, select.EPOLLIN)
                else:
                    client.recv(65536)
                    first.setdefault(descriptor, time.monotonic() - began)
                client.send(REQUEST)
        return sorted(first.values())


def main() -> None:
    """Measure each server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default="sync,gthread,gevent", help="of those that run.py knows")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    for name in options.servers.split(","):
        port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            with running(COMMANDS[name]("hello", port), environment, port, Path(folder)) as pid:
                if pid is None:
                    print(f"{name:20s} does not start", file=sys.stderr)
                    continue
                waits = [first_responses_s(port, options.clients) for _ in range(options.rounds)]
        median = statistics.median(statistics.median(each) for each in waits)
        last = statistics.median(each[-1] for each in waits)
        print(f"{name:20s} median {median * 1e3:7.0f} ms   last {last * 1e3:7.0f} ms", flush=True)


if __name__ == "__main__":
    main()
