"""Many reloads of a small application: ``python benchmarks/reloads.py --reloads 1000 --kind preload``.

Each reload brings new code, under load. At the end the arbiter's memory and descriptors, zombies, temp files and lost
requests are shown. Exit code 1 when anything has grown, is left over or was lost.
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
from tests.conftest import LiveServer, children_of, descriptors_of, wait_until  # noqa: E402
from tests.live.chaos import KINDS, heartbeat_files, memory_kib  # noqa: E402
from tests.live.client import Load  # noqa: E402

WARM_UP = 20
"""Reloads before the first measurement: Python's allocator takes what it needs once."""

GROWTH_KIB = 1024


def reload(live: LiveServer, number: int) -> None:
    """One reload with new code, to its end."""
    new = live.folder / "app.py.new"
    new.write_text(versioned.good(str(number)))
    new.replace(live.folder / "app.py")
    os.kill(live.pid, 1)
    live.wait_log("Reload complete", 30, count=number)


def main() -> int:
    """Reload, measure, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--kind", choices=[*KINDS], default="sync")
    options = parser.parse_args()
    shared_before = heartbeat_files()
    with tempfile.TemporaryDirectory(prefix="wsgicluster-reloads-") as name, contextlib.ExitStack() as owned:
        folder = Path(name)
        temporary = folder / "temporary"
        temporary.mkdir()
        (folder / "app.py").write_text(versioned.good("0"))
        arguments = ["-b", "127.0.0.1:0", "app", "-w", "2", *KINDS[options.kind]]
        live = LiveServer(folder, arguments, {"TMPDIR": str(temporary)}).start().wait_listening()
        owned.callback(live.end)
        live.wait_log("2 workers serve")
        children = 2 + (options.kind == "preload")
        with Load(live.port, clients=2) as load:
            for number in range(1, WARM_UP + 1):
                reload(live, number)
            live.wait_children(children, 30)
            before = memory_kib(live.pid), len(descriptors_of(live.pid))
            began = time.monotonic()
            for number in range(WARM_UP + 1, WARM_UP + options.reloads + 1):
                reload(live, number)
            seconds = time.monotonic() - began
            live.wait_children(children, 30)
            after = memory_kib(live.pid), len(descriptors_of(live.pid))
        wait_until(lambda: not children_of(live.pid, zombies=True), 5, "no zombie")
        code = live.stop()
        left = [*map(str, live.members()), *os.listdir(temporary), *(heartbeat_files() - shared_before)]
    print(
        f"{options.kind}: {options.reloads} reloads in {seconds:.0f} s; "
        f"arbiter's memory {before[0]} -> {after[0]} KiB, descriptors {before[1]} -> {after[1]}; "
        f"{len(load.answers)} requests answered, {len(load.losses)} lost; "
        f"left over: {left or 'nothing'}; exit code {code}"
    )
    return int(bool(left or load.losses or code or after[0] - before[0] > GROWTH_KIB or after[1] != before[1]))


if __name__ == "__main__":
    sys.exit(main())
