"""Many reloads of a small application: ``python benchmarks/reloads.py --reloads 1000 --kind preload``.

Each reload brings new code, under load. At the end the arbiter's memory and descriptors, what the server has in shared
memory, zombies, temp files and lost requests are shown. Exit code 1 when anything has grown, is left over or was lost.

With ``--cluster`` each request counts, writes to the store and sends messages, the configuration file has
handlers of events, there are a jobs worker and a periodic job, and ``least-connections`` decides who serves.

With ``--settings`` each reload also changes the configuration: time limits, the environment, the access log's file, the
number of workers, and an address of two.
"""

import argparse
import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path

from measure import free_port

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

SETTINGS = """
bind = ["127.0.0.1:{port}", "unix:{folder}/{turn}.sock"]
workers = {workers}
timeout, keepalive, graceful_timeout = 20 + {turn}, 2 + {turn}, 20 + {turn}
raw_env = ["NUMBER={number}", "ONLY_{turn}=" + "x" * 1000]
accesslog = "{folder}/access-{turn}.log"
access_log_format = "{turn} %(h)s %(r)s"
"""
"""Appended to the configuration file."""

TURNS = 5
"""So many different ones, in turn. `WARM_UP` and the reloads are multiples: what is compared has the same settings."""

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


def write(folder: Path, name: str, text: str) -> None:
    """Replace a file at once: a worker may be reading it."""
    new = folder / f"{name}.new"
    new.write_text(text)
    new.replace(folder / name)


def configure(folder: Path, number: int, port: int, first: str) -> None:
    """Other settings than those of the number before."""
    turn = number % TURNS
    values = {"port": port, "folder": folder, "turn": turn, "workers": 2 + turn % 2, "number": number}
    write(folder, "wsgicluster.conf.py", first + SETTINGS.format(**values))


def reload(live: LiveServer, number: int, more: str) -> None:
    """One reload with new code, to its end."""
    write(live.folder, "app.py", versioned.good(str(number)) + more)
    os.kill(live.pid, 1)
    live.wait_log("Reload complete", 30, count=number)


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of the arbiter, in KiB; ``shared_kib`` is what the server has in shared memory."""

    memory_kib: int
    descriptors: int
    shared_kib: int

    @classmethod
    def of(cls, live: LiveServer) -> "Figures":
        """Once nothing is on the way any more."""
        return cls(memory_kib(live.pid), steady_descriptors(live.pid), shared_kib(live))

    def have_grown(self, before: "Figures") -> bool:
        """Whether more is there than before, beyond what the allocator may keep."""
        more_kib = max(self.memory_kib - before.memory_kib, self.shared_kib - before.shared_kib)
        return more_kib > GROWTH_KIB or self.descriptors != before.descriptors


def start(folder: Path, options: argparse.Namespace, port: int, first: str, more: str) -> LiveServer:
    """The server that is reloaded; with ``--settings``, the file alone says where it listens."""
    temporary = folder / "temporary"
    temporary.mkdir()
    write(folder, "app.py", versioned.good("0") + more)
    write(folder, "wsgicluster.conf.py", first)
    if options.settings:
        configure(folder, 0, port, first)
    fixed = () if options.settings else ("-b", "127.0.0.1:0", "-w", "2")
    arguments = [*fixed, "app", *KINDS[options.kind], *(CLUSTER if options.cluster else ())]
    return LiveServer(folder, arguments, {"TMPDIR": str(temporary)}).start().wait_listening()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--kind", choices=[*KINDS], default="sync")
    parser.add_argument("--cluster", action="store_true", help="use messages, the store, events, jobs and a policy")
    parser.add_argument("--settings", action="store_true", help="change the configuration with each reload")
    options = parser.parse_args()
    options.reloads += -options.reloads % TURNS
    return options


def main() -> int:
    """Reload, measure, judge."""
    options = arguments()
    first, more = (HANDLERS, USES_THE_CLUSTER) if options.cluster else ("", "")
    shared_before = heartbeat_files()
    with tempfile.TemporaryDirectory(prefix="wsgicluster-reloads-") as name, contextlib.ExitStack() as owned:
        folder, port = Path(name), free_port()
        live = start(folder, options, port, first, more)
        owned.callback(live.end)
        live.wait_log("2 workers serve")
        children = 2 + (options.kind == "preload") + 2 * options.cluster

        def reload_up_to(last: int) -> Figures:
            for number in range(reloaded[-1] + 1, last + 1):
                if options.settings:
                    configure(folder, number, port, first)
                reload(live, number, more)
            reloaded.append(last)
            live.wait_children(children, 30)
            return Figures.of(live)

        reloaded = [0]
        with Load(live.port, clients=2) as load:
            before = reload_up_to(WARM_UP)
            began = time.monotonic()
            after = reload_up_to(WARM_UP + options.reloads)
            seconds = time.monotonic() - began
        wait_until(lambda: not children_of(live.pid, zombies=True), 5, "no zombie")
        code = live.stop()
        left = [*map(str, live.members()), *os.listdir(folder / "temporary"), *(heartbeat_files() - shared_before)]
    what = " with ".join(
        [options.kind, *(["the cluster"] * options.cluster), *(["changed settings"] * options.settings)]
    )
    print(
        f"{what}: {options.reloads} reloads in {seconds:.0f} s; "
        f"arbiter's memory {before.memory_kib} -> {after.memory_kib} KiB, "
        f"descriptors {before.descriptors} -> {after.descriptors}, "
        f"shared memory {before.shared_kib} -> {after.shared_kib} KiB; "
        f"{len(load.answers)} requests answered, {len(load.losses)} lost; "
        f"left over: {left or 'nothing'}; exit code {code}"
    )
    return int(bool(left or load.losses or code or after.have_grown(before)))


if __name__ == "__main__":
    sys.exit(main())
