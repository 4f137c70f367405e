"""The memory of workers of a preloaded Django project, with and without a refork.

    python benchmarks/refork.py [--workers N] [--requests N] [--refork-after N] [--applications smallest,site]

Varied requests, each on a connection of its own: first so many that a worker has served ``--refork-after``, and with
that setting until all workers are replaced; then ``--requests``. Private memory is that of pages which no other
process has (``Private_Clean`` and ``Private_Dirty`` of ``smaps_rollup``), the median of the workers and the mold's; the
tree's is its proportional set size. In MiB.
"""

import argparse
import contextlib
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import answers, free_port, memory_mib, processes

FOLDER = Path(__file__).resolve().parent
APPLICATIONS = {"smallest": "applications:django_app", "site": "django_site.wsgi:application"}
CLIENTS = 32
DEADLINE_S = 300.0
LANGUAGES = ("en", "de", "fr", "es-ES,es;q=0.9")


def path(application: str, moments: random.Random) -> str:
    """One of the paths of an application, with words that no request before has had."""
    word = "".join(moments.choice("abcdefghij") for _ in range(moments.randint(3, 40)))
    if application == "smallest":
        return f"/?q={word}&n={moments.random()}"
    section = f"/section/{moments.randrange(40)}/?query={word}"
    return moments.choice(
        [
            section,
            f"{section}&since=2026-01-0{moments.randint(1, 9)}",
            f"/api/{moments.randrange(1000)}/{word}",
            "/admin/login/?next=/admin/",
            "/accounts/password_reset/",
            f"/nowhere/{word}",
        ]
    )


def ask(port: int, application: str, moments: random.Random) -> None:
    """Make one request, and read its response to the end."""
    head = (
        f"GET {path(application, moments)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Accept-Language: {moments.choice(LANGUAGES)}\r\nUser-Agent: {'m' * moments.randint(10, 120)}\r\n"
        f"Cookie: a={moments.random()}; b={'x' * moments.randint(1, 400)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
        sock.sendall(head.encode())
        while sock.recv(65536):
            pass


def load(port: int, application: str, count: int) -> None:
    """Make so many requests, several at a time."""

    def client(number: int) -> None:
        moments = random.Random(number)
        for _ in range(count // CLIENTS):
            ask(port, application, moments)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def started(application: str, options: argparse.Namespace, *flags: str) -> Iterator[tuple[int, int, Path]]:
    """A server that has responded: its pid, its port, and its log."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [
            sys.executable, "-m", "wsgicluster", APPLICATIONS[application], "--preload", "-w", str(options.workers),
            "-b", f"127.0.0.1:{port}", "--chdir", str(FOLDER), "--log-file", str(log), *flags,
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait(lambda: answers(port), "a response")
            yield process.pid, port, log
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def wait(condition: Callable[[], object], what: str) -> None:
    """Until that is so. Raises RuntimeError when it is not in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not in time: {what}")
        time.sleep(0.05)


def private_mib(pid: int) -> float:
    """The memory of pages that no other process has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) / 1024


def measure(application: str, options: argparse.Namespace, refork: bool) -> tuple[float, float, float]:
    """Private memory of a worker and of the mold, and that of the whole tree."""
    after = options.refork_after
    with started(application, options, *(("--refork-after", str(after)) if refork else ())) as (pid, port, log):
        # Of which at least one worker has its share.
        load(port, application, after * options.workers + CLIENTS)
        if refork:
            wait(lambda: log.read_text().count("recycled after a refork") >= options.workers, "all are replaced")
        load(port, application, options.requests)
        time.sleep(1.0)  # what is released after idleness is
        titles = {each: Path(f"/proc/{each}/cmdline").read_text() for each in processes(pid)}
        workers = [private_mib(each) for each, title in titles.items() if ": worker" in title]
        (mold,) = [private_mib(each) for each, title in titles.items() if ": mold" in title]
        assert len(workers) == options.workers, titles
        return statistics.median(workers), mold, memory_mib(list(titles))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--refork-after", type=int, default=1000)
    parser.add_argument("--applications", default="smallest,site")
    options = parser.parse_args()
    lines = [f"{'application':<11}  {'refork':<6}  worker   mold    tree"]
    for application in options.applications.split(","):
        for refork in (False, True):
            worker, mold, tree = measure(application, options, refork)
            lines.append(f"{application:<11}  {'yes' if refork else 'no':<6}  {worker:6.1f} {mold:6.1f} {tree:7.1f}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
