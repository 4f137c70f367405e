"""Messages between workers: how many a second, how long a reply takes, and whether a hung receiver delays the others.

    python benchmarks/messages.py [--messages N] [--requests N] [--broadcasts N]

Starts servers of its own, with this file as their application, and prints the figures last. The times are those of
the processes themselves, on the clock that all processes of a machine share.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from wsgicluster import cluster

ROOT = pathlib.Path(__file__).parent.parent
START_S = 60.0
MEBIBYTE = 1024 * 1024

# -- the application

order = {"next": 0, "wrong": 0}
delays: list[float] = []


@cluster.on_message("numbered")
def numbered(message: cluster.Message) -> None:
    order["wrong"] += message.value != order["next"]
    order["next"] += 1


@cluster.on_message("timed")
def timed(message: cluster.Message) -> None:
    delays.append(time.monotonic() - message.value)


@cluster.on_message("echo")
def echo(message: cluster.Message) -> Any:
    return message.value


@cluster.on_message("hang")
def hang(message: cluster.Message) -> None:
    while not os.path.exists(message.value):
        time.sleep(0.1)


@cluster.on_message("delays")
def report_delays(_message: cluster.Message) -> list[float]:
    return delays


@cluster.on_message("order")
def report_order(_message: cluster.Message) -> dict[str, int]:
    return order


def send_numbered(slot: int, count: int) -> list[float]:
    """Seconds until all are handled, how many of them came out of order, and how often the mailbox was full."""
    full = 0
    began = time.monotonic()
    for number in range(count):
        while True:
            try:
                cluster.send(slot, number, topic="numbered")
                break
            except cluster.QueueFull:
                full += 1
                time.sleep(0.0002)
    # The mailbox is in order: this is answered after all of them.
    found = ask(slot, "order")
    return [time.monotonic() - began, found["wrong"] + count - found["next"], full]


def ask(slot: int, topic: str) -> Any:
    while True:
        try:
            return cluster.request(slot, None, 60.0, topic=topic)
        except cluster.QueueFull:
            time.sleep(0.001)


def request_many(slot: int, count: int) -> list[float]:
    """Seconds of each round trip."""
    found = []
    for number in range(count):
        began = time.perf_counter()
        assert cluster.request(slot, number, 10.0, topic="echo") == number
        found.append(time.perf_counter() - began)
    return found


def request_large(slot: int) -> float:
    """Seconds for a mebibyte there and back."""
    value = os.urandom(MEBIBYTE)
    began = time.perf_counter()
    assert cluster.request(slot, value, 10.0, topic="echo") == value
    return time.perf_counter() - began


def broadcast_timed(workers: int, count: int, path: str) -> list[list[float]]:
    """How late each broadcast came to each worker but the last, which hangs, and for how many each was queued."""
    cluster.send(workers, path, topic="hang")
    with contextlib.suppress(cluster.QueueFull):
        while True:
            cluster.send(workers, 0.0, topic="timed")
    queued = []
    for _ in range(count):
        queued.append(float(cluster.broadcast("timed", time.monotonic())))
        time.sleep(0.01)
    return [queued, *(ask(slot, "delays") for slot in range(1, workers))]


COMMANDS: dict[str, Callable[..., Any]] = {
    "send": send_numbered, "request": request_many, "large": request_large, "broadcast": broadcast_timed,
}  # fmt: skip


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Runs a command in the worker that gets the request; 404 in the one that it would have to send to."""
    name, arguments = json.loads(urllib.parse.unquote(environ["QUERY_STRING"]))
    status = "404 Not Found" if environ["wsgicluster.slot"] == arguments[0] else "200 OK"
    result = COMMANDS[name](*arguments) if status == "200 OK" else None
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(result).encode()]


# -- the measurement


@contextlib.contextmanager
def serving(workers: int) -> Iterator[str]:
    """A server with so many workers; its URL."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket.log")
        with open(path, "wb") as log:
            command = [sys.executable, "-m", "wsgicluster", "benchmarks.messages:app", "-w", str(workers)]
            process = subprocess.Popen([*command, "-b", "127.0.0.1:0", "-t", "0"], cwd=ROOT, stderr=log, stdout=log)
        try:
            ends = time.monotonic() + START_S
            text = ""
            while "Started" not in text:
                if process.poll() is not None or time.monotonic() > ends:
                    raise SystemExit(f"the server has not started:\n{text}")
                time.sleep(0.05)
                text = pathlib.Path(path).read_text("utf-8")
            yield next(word for word in text.split() if word.startswith("http://"))
        finally:
            process.terminate()
            process.wait()


def run(url: str, name: str, *arguments: Any) -> Any:
    """Run a command in a worker other than that in slot ``arguments[0]``, for which it is tried until it is there."""
    query = urllib.parse.quote(json.dumps([name, arguments]))
    while True:
        try:
            with urllib.request.urlopen(f"{url}/?{query}", timeout=300) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            error.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--broadcasts", type=int, default=200)
    parser.add_argument("--workers", type=int, default=16)
    wanted = parser.parse_args()
    with serving(2) as url:
        seconds, wrong, full = run(url, "send", 2, wanted.messages)
        trips = sorted(run(url, "request", 2, wanted.requests))
        large_s = min(run(url, "large", 2) for _ in range(5))
    with serving(wanted.workers) as url, tempfile.TemporaryDirectory() as folder:
        end = pathlib.Path(folder) / "end"
        queued, *each = run(url, "broadcast", wanted.workers, wanted.broadcasts, str(end))
        end.touch()
    late = sorted(delay for found in each for delay in found)
    per_broadcast = [max(found) for found in zip(*each, strict=True)]
    print(f"messages a second, one worker to another: {wanted.messages / seconds:,.0f} (mailbox full {full:.0f} times)")
    print(f"of {wanted.messages:,} numbered messages, lost or out of order: {wrong:.0f}")
    print(f"round trip of a request: median {statistics.median(trips) * 1e6:.0f} us, "
          f"p99 {trips[len(trips) * 99 // 100] * 1e6:.0f} us")  # fmt: skip
    print(f"1 MiB there and back: {large_s * 1e3:.1f} ms")
    print(f"broadcast to {wanted.workers} workers of which one hangs, queued for {min(queued):.0f}: until the last of "
          f"the others has it: median {statistics.median(per_broadcast) * 1e3:.2f} ms, "
          f"p99 {sorted(per_broadcast)[len(per_broadcast) * 99 // 100] * 1e3:.2f} ms, "
          f"worst {late[-1] * 1e3:.2f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
