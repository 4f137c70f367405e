"""How much memory a server takes and how soon it serves, beside Gunicorn.

    python benchmarks/lean.py [--rounds N] [--workers N,N]

For each server: the proportional set size of its whole tree once each worker has answered requests, the time from the
command to the first response and the processor time until then, and the time from the kill of the only worker to the
next response. Medians; the servers take turns, so that a noisy minute meets both.
"""

import argparse
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import servers
from measure import answers, free_port, memory_mib, processes, processor_s

APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "1")])
    return [b"x"]
"""
REQUESTS_EACH = 100
DEADLINE_S = 30.0
LOOK_S = 0.001

OURS, GUNICORN = "wsgicluster", "gunicorn"
PROGRAMS = {
    OURS: [sys.executable, "-m", "wsgicluster"],
    GUNICORN: [str(servers.PEERS / "bin" / "gunicorn"), "--no-control-socket"],
}


def wait_for_response(port: int, process: subprocess.Popen[bytes]) -> None:
    """Ask until the server responds. Raises RuntimeError when it does not, or has ended."""
    deadline = time.monotonic() + DEADLINE_S
    while not answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not respond")
        time.sleep(LOOK_S)


@contextlib.contextmanager
def started(name: str, folder: Path, workers: int, *flags: str) -> Iterator[tuple[subprocess.Popen[bytes], int, float]]:
    """A server that has responded: its process, its port, and how long that took in seconds."""
    port = free_port()
    command = [
        *PROGRAMS[name],
        "-w",
        str(workers),
        "-b",
        f"127.0.0.1:{port}",
        "--chdir",
        str(folder),
        *flags,
        "lean:app",
    ]
    # As a package that is installed: the compiled files of modules are there, whatever the environment says.
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ)
    try:
        wait_for_response(port, process)
        yield process, port, time.monotonic() - began
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def wait_for_workers(process: subprocess.Popen[bytes], workers: int) -> list[int]:
    """All processes of the tree, once there are so many workers. Raises RuntimeError when they do not come."""
    deadline = time.monotonic() + DEADLINE_S
    while len(found := processes(process.pid)) <= workers:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} has not so many workers")
        time.sleep(LOOK_S)
    return found


def memory(name: str, folder: Path, workers: int, *flags: str) -> float:
    """The proportional set size of the tree, in MiB."""
    with started(name, folder, workers, *flags) as (process, port, _):
        wait_for_workers(process, workers)
        for _ in range(REQUESTS_EACH * workers):
            with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                while sock.recv(1024):
                    pass
        return memory_mib(processes(process.pid))


def times(name: str, folder: Path) -> dict[str, float]:
    """Of a start with one worker and of the next worker, in milliseconds."""
    with started(name, folder, 1) as (process, port, boot_s):
        found = wait_for_workers(process, 1)
        spent_s = processor_s(found)
        began = time.monotonic()
        os.kill(found[-1], signal.SIGKILL)
        wait_for_response(port, process)
        respawn_s = time.monotonic() - began
    return {"boot": boot_s * 1000, "boot, processor time": spent_s * 1000, "respawn": respawn_s * 1000}


def main() -> int:
    """Print a line for each figure: ours, Gunicorn's, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", default="4,16", help="comma-separated (default: 4,16)")
    options = parser.parse_args()
    servers.install()
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: {name: [] for name in PROGRAMS})
    with tempfile.TemporaryDirectory(prefix="wsgicluster-lean-") as place:
        folder = Path(place)
        (folder / "lean.py").write_text(APPLICATION)
        for _ in range(options.rounds):
            for name in PROGRAMS:
                for what, value in times(name, folder).items():
                    figures[f"{what} (ms)"][name].append(value)
                for workers in map(int, options.workers.split(",")):
                    for flags in ((), ("--preload",)):
                        what = " ".join((f"memory, {workers} workers", *flags, "(MiB)"))
                        figures[what][name].append(memory(name, folder, workers, *flags))
    for what, found in figures.items():
        ours, theirs = (statistics.median(found[name]) for name in (OURS, GUNICORN))
        print(f"{what:42} {OURS} {ours:7.1f}  {GUNICORN} {theirs:7.1f}  ratio {ours / theirs:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
