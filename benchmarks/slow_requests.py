"""How long a kept client waits whose worker is busy with a slow request while another worker is idle.

    python benchmarks/slow_requests.py [--samples N]

Starts servers of its own with two sync workers, with ``hand_off_waiting`` on and off, and this file as their
application. In each sample one client of a worker asks for a slow request and another client of the same worker for a
quick one, either in the middle of it or with it at once. Prints the median and the 99th percentile of the quick
request's time in milliseconds: the lower bound is what an idle worker takes.
"""

import argparse
import contextlib
import os
import pathlib
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent
START_S = 60.0
SLOW_S = 0.04
MIDDLE_S = 0.005, 0.015
"""When, in the middle of a slow request, the other client asks."""

# -- the application


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    path = environ["PATH_INFO"]
    if path == "/sleep":
        time.sleep(SLOW_S)
    elif path == "/compute":
        ends = time.monotonic() + SLOW_S
        while time.monotonic() < ends:
            sum(range(200))
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


# -- a server and its clients


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[int]:
    """The port of a server with these arguments, ended afterwards."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "wsgicluster", "slow_requests:application", "-b", "127.0.0.1:0", "-w", "2",
             "--keepalive-slow", "0", *arguments],
            cwd=ROOT / "benchmarks", stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            ends = time.monotonic() + START_S
            said = ""
            while "2 workers serve" not in said:
                if time.monotonic() > ends or process.poll() is not None:
                    raise SystemExit(f"the server has not started:\n{said}")
                time.sleep(0.05)
                log.seek(0)
                said = log.read()
            yield int(said.partition("http://127.0.0.1:")[2].split()[0])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


class Client:
    """A client that keeps its connection; ``worker`` is the process that has served it last."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.worker = b""
        self.exchange()

    def ask(self, path: str = "/") -> None:
        """Send a request."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def receive(self) -> None:
        """Receive its response."""
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = self._socket.recv(4096)
            if not data:
                raise SystemExit("a connection that was to be kept has ended")
            answer += data
        self.worker = answer.rpartition(b"\r\n\r\n")[2]

    def exchange(self) -> float:
        """A quick request; how long it took."""
        began = time.perf_counter()
        self.ask()
        self.receive()
        return time.perf_counter() - began

    def close(self) -> None:
        """Leave."""
        self._socket.close()


def clients_of_both(port: int) -> list[Client]:
    """One client of each worker."""
    found: dict[bytes, Client] = {}
    while len(found) < 2:
        client = Client(port)
        if found.setdefault(client.worker, client) is not client:
            client.close()
    return list(found.values())


def times_of_kept(port: int, slow_path: str | None, middle: bool, samples: int) -> list[float]:
    """How long a kept client's requests took, each during a slow one of its worker's; with no path, without any."""
    moments = random.Random(1)
    kept, slow = Client(port), clients_of_both(port)
    times = []
    for _ in range(samples):
        if slow_path is None:
            times.append(kept.exchange())
            continue
        # Where it has been handed off to, it stays.
        (other,) = [client for client in slow if client.worker == kept.worker]
        other.ask(slow_path)
        time.sleep(moments.uniform(*MIDDLE_S) if middle else 0.0002)
        times.append(kept.exchange())
        other.receive()
    for client in (kept, *slow):
        client.close()
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=300)
    samples = parser.parse_args().samples
    lines = [f"{'hand_off_waiting':<16}  {'the slow request':<16}  {'quick one':<13}  median ms   p99 ms"]
    for setting, arguments in (("on", ()), ("off", ("--no-hand-off-waiting",))):
        with serving(*arguments) as port:
            for slow_path in (None, "/sleep", "/compute"):
                for middle in (True, False) if slow_path else (False,):
                    times = [each * 1000 for each in times_of_kept(port, slow_path, middle, samples)]
                    what = slow_path.removeprefix("/") + "s" if slow_path else "none"
                    when = "" if not slow_path else "in the middle" if middle else "at once"
                    median, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
                    lines.append(f"{setting:<16}  {what:<16}  {when:<13}  {median:9.2f}  {p99:7.2f}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
