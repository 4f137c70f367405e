"""Many reloads of a small application: ``python benchmarks/reloads.py --reloads 1000 --kind preload``.

Each reload brings new code, under load. At the end the arbiter's memory and descriptors, what the server has in shared
memory, zombies, temp files and lost requests are shown. Exit code 1 when anything has grown, is left over or was lost.

With ``--cluster`` each request counts, writes to the store and sends messages, the configuration file has
handlers of events, there are a jobs worker and a periodic job, and ``least-connections`` decides who serves.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.apps import versioned  # noqa: E402
from tests.conftest import LiveServer, children_of, steady_descriptors, wait_until  # noqa: E402
from tests.live.chaos import KINDS, heartbeat_files, memory_kib  # noqa: E402
from tests.live.client import Load  # noqa: E402

WARM_UP = 20
"""Reloads before the first measurement: Python's allocator takes what it needs once."""

GROWTH_KIB = 1024

USES_THE_CLUSTER = """
from wsgicluster import cluster

plain, counter = application, cluster.counter("requests")


@cluster.on_message("note")
def note(message):
    return message.value


@cluster.every(1)
def tick():
    cluster.store.add("ticks")


def application(environ, start_response):
    number = counter.add() or counter.value
    cluster.store.set(f"key {number % 50}", {"version": VERSION, "number": number}, ttl=5)
    try:
        cluster.send(1 + number % 2, number, topic="note")
        if not number % 10:
            cluster.broadcast("version", VERSION, retain=True)
            cluster.request(1 + number % 2, "x" * 5000, 5, topic="note")
            cluster.send("steward", VERSION, topic="note")
    except cluster.ClusterError:
        pass  # there is no worker in that slot now, or its mailbox is full
    return plain(environ, start_response)
"""
"""Appended to the application."""

HANDLERS = """
from wsgicluster import cluster

_events = {}


def _count(event):
    _events[event.name] = _events.get(event.name, 0) + 1
    cluster.store.set("events", _events)


for _name in ("fork", "online", "listening", "ready", "draining", "disconnect", "exit", "reload"):
    cluster.on(_name, _count)


@cluster.on_message("note")
def note(message):
    cluster.counter("notes").add()
"""
"""The configuration file."""

CLUSTER = ("--jobs-worker", "--scheduling", "least-connections")


def shared_kib(live: LiveServer) -> int:
    """What the arbiter's files without a name, and the server's folder in shared memory, take."""
    blocks = 0
    for number in os.listdir(f"/proc/{live.pid}/fd"):
        path = f"/proc/{live.pid}/fd/{number}"
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(path).startswith(("/memfd:", "/dev/shm/")):
                blocks += os.stat(path).st_blocks
            if os.path.isdir(path):
                blocks += sum(entry.stat().st_blocks for entry in os.scandir(path))
    return blocks // 2


def reload(live: LiveServer, number: int, more: str) -> None:
    """One reload with new code, to its end."""
    new = live.folder / "app.py.new"
    new.write_text(versioned.good(str(number)) + more)
    new.replace(live.folder / "app.py")
    os.kill(live.pid, 1)
    live.wait_log("Reload complete", 30, count=number)


def main() -> int:
    """Reload, measure, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--kind", choices=[*KINDS], default="sync")
    parser.add_argument("--cluster", action="store_true", help="use messages, the store, events, jobs and a policy")
    options = parser.parse_args()
    more = USES_THE_CLUSTER if options.cluster else ""
    shared_before = heartbeat_files()
    with tempfile.TemporaryDirectory(prefix="wsgicluster-reloads-") as name, contextlib.ExitStack() as owned:
        folder = Path(name)
        temporary = folder / "temporary"
        temporary.mkdir()
        (folder / "app.py").write_text(versioned.good("0") + more)
        (folder / "wsgicluster.conf.py").write_text(HANDLERS if options.cluster else "")
        arguments = ["-b", "127.0.0.1:0", "app", "-w", "2", *KINDS[options.kind], *(CLUSTER if options.cluster else ())]
        live = LiveServer(folder, arguments, {"TMPDIR": str(temporary)}).start().wait_listening()
        owned.callback(live.end)
        live.wait_log("2 workers serve")
        children = 2 + (options.kind == "preload") + 2 * options.cluster
        with Load(live.port, clients=2) as load:
            for number in range(1, WARM_UP + 1):
                reload(live, number, more)
            live.wait_children(children, 30)
            before = memory_kib(live.pid), steady_descriptors(live.pid), shared_kib(live)
            began = time.monotonic()
            for number in range(WARM_UP + 1, WARM_UP + options.reloads + 1):
                reload(live, number, more)
            seconds = time.monotonic() - began
            live.wait_children(children, 30)
            after = memory_kib(live.pid), steady_descriptors(live.pid), shared_kib(live)
        wait_until(lambda: not children_of(live.pid, zombies=True), 5, "no zombie")
        code = live.stop()
        left = [*map(str, live.members()), *os.listdir(temporary), *(heartbeat_files() - shared_before)]
    what = f"{options.kind} with the cluster" if options.cluster else options.kind
    print(
        f"{what}: {options.reloads} reloads in {seconds:.0f} s; "
        f"arbiter's memory {before[0]} -> {after[0]} KiB, descriptors {before[1]} -> {after[1]}, "
        f"shared memory {before[2]} -> {after[2]} KiB; "
        f"{len(load.answers)} requests answered, {len(load.losses)} lost; "
        f"left over: {left or 'nothing'}; exit code {code}"
    )
    has_grown = any(now - then > GROWTH_KIB for then, now in zip(before[::2], after[::2], strict=True))
    return int(bool(left or load.losses or code or has_grown or after[1] != before[1]))


if __name__ == "__main__":
    sys.exit(main())
