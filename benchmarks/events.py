"""Events: how many a second reach a handler, and how long after a worker's exit its handler runs.

    python benchmarks/events.py [--events N] [--exits N]

How many: this process makes and sends them as the arbiter does, another one receives them and calls a handler as the
steward does. How long: workers of a server are killed one after the other; the time is that from the kill to the first
line of the handler, on the clock that all processes of a machine share. The figures come last.
"""

import argparse
import contextlib
import logging
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.conftest import LiveServer, wait_until  # noqa: E402
from wsgicluster.arbiter.children.event_outbox import MOST_EVENTS, EventOutbox  # noqa: E402
from wsgicluster.cluster.subscriptions import Subscription  # noqa: E402
from wsgicluster.ipc.events import ExitEvent  # noqa: E402
from wsgicluster.steward.delivery import Delivery  # noqa: E402

HANDLERS = """
import time
from wsgicluster import cluster

@cluster.on("exit")
def _exited(event):
    now = time.monotonic()
    with open("exits.log", "a") as file:
        file.write(f"{event.pid} {now}\\n")
"""

APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def deliver(descriptor: int, count: int) -> None:
    """What the steward does with so many events; prints the processor time that it has taken."""
    seen = 0

    def handler(_event: object) -> None:
        nonlocal seen
        seen += 1

    events = socket.socket(fileno=descriptor)
    events.setblocking(False)
    delivery = Delivery(events, lambda: [Subscription("exit", None, handler)], [], logging.getLogger())
    print("ready", flush=True)
    began = time.process_time()
    delivery.start()
    while seen < count:
        time.sleep(0.001)
    print(time.process_time() - began, flush=True)
    os._exit(0)


def throughput(count: int) -> tuple[float, float, float]:
    """Seconds until a handler has had so many events, and the processor time of sender and receiver."""
    outbox = EventOutbox(logging.getLogger())
    outbox.open()
    outbox.receive_end.set_inheritable(True)
    number = outbox.receive_end.fileno()
    command = [sys.executable, __file__, "--deliver", str(number), "--events", str(count)]
    with subprocess.Popen(command, pass_fds=[number], stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None, "it is a pipe"
        receiver.stdout.readline()
        began, mine = time.monotonic(), time.process_time()
        for sent in range(count):
            event = ExitEvent(
                at=time.time(), reason="stop requested", asked=True, by="operator", role="worker", slot=sent % 16,
                generation=1, pid=sent, code=0, requests=sent, age_s=1.5, rss_bytes=1 << 25,
            )  # fmt: skip
            outbox.add(event)
            # The arbiter drops what is beyond, and tries again a tenth of a second later.
            while outbox.waiting >= MOST_EVENTS:
                time.sleep(0.0005)
                outbox.send()
        mine = time.process_time() - mine
        while outbox.waiting:
            time.sleep(0.0005)
            outbox.send()
        theirs = float(receiver.stdout.readline())
        seconds = time.monotonic() - began
    assert not outbox.dropped, "it was waited for"
    outbox.close()
    return seconds, mine, theirs


def latencies(exits: int) -> list[float]:
    """Seconds from each of so many kills to the handler of the exit."""
    found = []
    with tempfile.TemporaryDirectory(prefix="wsgicluster-events-") as name, contextlib.ExitStack() as owned:
        folder = Path(name)
        (folder / "app.py").write_text(APPLICATION)
        (folder / "wsgicluster.conf.py").write_text(HANDLERS)
        live = LiveServer(folder, ["-b", "127.0.0.1:0", "app:app", "-w", "2"], {})
        owned.callback(live.end)
        live.start().wait_log("Steward .* is ready")
        log = folder / "exits.log"
        log.touch()
        for number in range(exits):
            live.wait_log(r"Worker \d+ .* is ready", count=2 + number)
            steward = live.log().split("Steward (pid ")[1].split(",")[0]
            # The one that was ready last: a worker that has lived long enough is replaced at once.
            pid = next(pid for pid in live.children() if str(pid) != steward)
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            line = wait_until(
                lambda pid=pid: next((x for x in log.read_text().splitlines() if x.startswith(f"{pid} ")), ""),  # type: ignore[misc]
                15,
                f"the event of {pid}",
            )
            found.append(float(line.split()[1]) - killed)
    return sorted(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--exits", type=int, default=40)
    parser.add_argument("--deliver", type=int, default=-1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.deliver >= 0:
        deliver(options.deliver, options.events)
    seconds, mine, theirs = min(throughput(options.events) for _ in range(3))
    late = latencies(options.exits)
    print(
        f"events a second to a handler: {options.events / seconds:,.0f}; processor time for each: "
        f"{mine / options.events * 1e6:.0f} us in the arbiter, {theirs / options.events * 1e6:.0f} us in the steward"
    )
    print(
        f"from a worker's end to the handler of its exit, {len(late)} times: median "
        f"{statistics.median(late) * 1e3:.1f} ms, longest {late[-1] * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    main()
