"""A periodic job whose runner is killed again and again: runs, ticks that were missed, and runs at the same time.

    python benchmarks/periodic.py [--seconds 60] [--kill-every 7] [--jobs-worker]

Starts a server with this file as its application. Each run of the job says when it begins and when it ends, on the
clock that all processes of a machine share; the figures come last. Exit code 1 when two runs have met, or more than
one tick was missed for a kill.
"""

import argparse
import contextlib
import dataclasses
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from wsgicluster import cluster  # noqa: E402

INTERVAL_S = 1.0
RUN_S = 0.3

# -- the application


def say(what: str) -> None:
    """Append a line whole: writes of processes that append do not mix."""
    with open("runs.log", "a", buffering=1) as file:
        file.write(f"{time.monotonic()} {os.getpid()} {what}\n")


@cluster.every(INTERVAL_S)
def job() -> None:
    say("begins")
    time.sleep(RUN_S)
    say("ends")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


# -- the measurement


@dataclasses.dataclass
class Run:
    """One run: when it began and ended, ``inf`` until then; one that was killed ended with its process."""

    pid: int
    began: float
    ended: float = float("inf")


def runs_in(path: Path, kills: dict[int, float]) -> list[Run]:
    """All runs, oldest first; ``kills`` says when a process was killed."""
    runs: list[Run] = []
    for line in path.read_text().splitlines():
        at, pid, what = line.split()
        if what == "begins":
            runs.append(Run(int(pid), float(at)))
        else:
            next(run for run in reversed(runs) if run.pid == int(pid)).ended = float(at)
    for run in runs:
        if run.ended == float("inf"):
            run.ended = kills.get(run.pid, run.ended)
    return runs


def main() -> int:
    """Measure, print, judge."""
    from tests.conftest import LiveServer, wait_until

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kill-every", type=float, default=7.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--jobs-worker", action="store_true")
    options = parser.parse_args()
    luck = random.Random(7)
    kills: dict[int, float] = {}
    in_a_run = 0
    with tempfile.TemporaryDirectory(prefix="wsgicluster-periodic-") as name, contextlib.ExitStack() as owned:
        log = Path(name) / "runs.log"
        flags = ["--jobs-worker"] if options.jobs_worker else []
        arguments = ["-b", "127.0.0.1:0", "benchmarks.periodic:app", "-w", str(options.workers), *flags]
        live = LiveServer(Path(name), arguments, {"PYTHONPATH": str(ROOT)})
        owned.callback(live.end)
        live.start().wait_listening()
        wait_until(log.exists, 15, "the first run")
        first = runs_in(log, kills)[0].began
        end = first + options.seconds
        while (next_kill := first + options.kill_every * (len(kills) + 1)) < end:
            # Somewhere in an interval: in about a third of the cases the job runs.
            time.sleep(max(0.0, next_kill + luck.uniform(0.0, INTERVAL_S) - time.monotonic()))
            runner = runs_in(log, kills)[-1]
            in_a_run += runner.ended == float("inf")
            os.kill(runner.pid, signal.SIGKILL)
            kills[runner.pid] = time.monotonic()
        time.sleep(max(0.0, end - time.monotonic()))
        runs = [run for run in runs_in(log, kills) if run.began < end - INTERVAL_S / 2]
        code = live.stop()
    ticks = round(options.seconds / INTERVAL_S)
    together = sum(after.began < before.ended for before, after in itertools.pairwise(runs))
    gaps = [after.began - before.began for before, after in itertools.pairwise(runs)]
    where = "in the jobs worker" if options.jobs_worker else f"in one of {options.workers} workers"
    print(
        f"every({INTERVAL_S:g}) for {options.seconds:g} s {where}, {len(kills)} kills of the process that ran it last, "
        f"{in_a_run} of them in a run: {len(runs)} runs of {ticks} ticks, {ticks - len(runs)} missed; "
        f"runs at the same time: {together}; longest time from one run to the next {max(gaps):.2f} s; exit code {code}"
    )
    return int(bool(together or code) or ticks - len(runs) > len(kills))


if __name__ == "__main__":
    sys.exit(main())
