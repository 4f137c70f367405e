"""One server under one load: processor time for each request, from the whole process tree."""

import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Sample:
    """``processor_us`` is user and system time for each request in microseconds; ``errors`` is wrk's own text."""

    processor_us: float
    requests_s: float
    p99_ms: float
    memory_mib: float
    errors: str


def processes(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += processes(int(child))
    return found


def processor_s(pids: list[int]) -> float:
    """User and system time of processes so far, in seconds."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory_mib(pids: list[int]) -> float:
    """Proportional set size of processes, in MiB."""
    kib = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            kib += int(found.group(1)) if found else 0
    return kib / 1024


def free_port() -> int:
    """A port on which no process listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether a server responds with HTTP on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return sock.recv(5) == b"HTTP/"
    return False


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], port: int, folder: Path) -> Iterator[int | None]:
    """The pid of a started server that responds, or None when it does not start."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            ["taskset", "-c", "0", *command], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 15
        ready = False
        while not ready and process.poll() is None and time.monotonic() < deadline:
            ready = answers(port)
            time.sleep(0.05)
        yield process.pid if ready else None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def load(port: int, seconds: float, connections: int, script: Path) -> str:
    """What wrk prints; it runs on the second core, the server on the first."""
    command = [
        "taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "--timeout", "10s",
        "-s", str(script), f"http://127.0.0.1:{port}/",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def sample(pid: int, port: int, seconds: float, connections: int, script: Path) -> Sample | None:
    """Load a running server; None when it answered nothing."""
    load(port, 1, connections, script)
    pids = processes(pid)
    before = processor_s(pids)
    printed = load(port, seconds, connections, script)
    spent = processor_s(pids) - before
    count = re.search(r"(\d+) requests in", printed)
    if not count or not int(count.group(1)):
        return None
    latency = re.search(r"^\s+99%\s+([\d.]+)(us|ms|s)$", printed, re.MULTILINE)
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    errors = re.findall(r"(?:Socket errors|Non-2xx or 3xx responses): .*", printed)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    return Sample(
        processor_us=spent / int(count.group(1)) * 1e6,
        requests_s=float(rate.group(1)) if rate else 0.0,
        p99_ms=float(latency.group(1)) * scale[latency.group(2)] if latency else 0.0,
        memory_mib=memory_mib(pids),
        errors="; ".join(errors),
    )
