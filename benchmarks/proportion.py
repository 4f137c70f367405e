"""Whether what a server costs grows in proportion to what it does, and to nothing else.

    python benchmarks/proportion.py [--parts requests,connections,workers,bodies] [--kinds sync,gthread,gevent]

``requests``
    Processor time for each request, and memory, in a run of ``--requests`` (default: a million): both are level.
``connections``
    Processor time for each request with 1 to 2,000 clients that all ask, and with so many that wait beside sixteen that
    ask; what an idle second takes, and the memory of a connection.
``workers``
    With 1 to 64 workers: start and reload of all, and the arbiter's processor time in an idle second, and in one under
    load: at most linear.
``bodies``
    Processor time for each MiB, and the highest memory of the worker, for 1 KiB to 1 GiB in either direction.

Prints a line for each figure. The exit code is 1 when one is out of proportion; what that means, the constants below
say. Reloads with changed settings are measured by ``reloads.py --settings``.
"""

import argparse
import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import free_port, load, processes, processor_s
from scenarios import SCENARIOS

HERE = Path(__file__).resolve().parent
DEADLINE_S = 120.0
LOOK_S = 0.005

FLAT = 1.05
"""The last requests of a long run cost at most so many times as much as the first."""
MEMORY_MIB = 1.0
"""What memory may grow by where it is level."""
WAITING = 1.1
"""A request costs at most so many times as much where 2,000 other clients wait as where one does."""
ASKING = 2.0
"""The same where 2,000 ask, instead of 100: as many instructions, but what belongs to them is not in the caches."""
LINEAR = 1.5
"""What one more worker adds beyond 16 is at most so many times what one adds below that. Small times are noisy."""
LITTLE_MS = 0.02
"""Where one more worker adds less than that, noise decides the ratio."""
LARGE = 2.0
"""A MiB of the largest body costs at most so many times as much as one of a body of 32 MiB, which is cached."""
BODY_MIB = 8.0
"""What a body of 1 GiB takes beyond one of 1 MiB."""
SLICE_S = 5.0

CONNECTIONS = (1, 10, 100, 500, 1000, 2000)
WORKERS = (1, 4, 16, 64)
SIZES = (1 << 10, 1 << 15, 1 << 20, 1 << 25, 1 << 30)
ASKING_BESIDE = 16

Complaints = list[str]


@dataclasses.dataclass(frozen=True)
class Server:
    """One that serves on a port of this machine, and writes its log to a file."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    boot_s: float

    @property
    def pid(self) -> int:
        """The arbiter's."""
        return self.process.pid

    def worker(self) -> int:
        """The pid of its only worker."""
        (pid,) = processes(self.pid)[1:]
        return pid


def wait_log(log: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    """Until a log has a text. Raises RuntimeError when the server has ended, or it takes too long."""
    deadline = time.monotonic() + DEADLINE_S
    while text not in (found := log.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"no {text!r} in the log:\n{found[-2000:]}")
        time.sleep(LOOK_S)


@contextlib.contextmanager
def serving(application: str, kind: str, folder: Path, *flags: str, workers: int = 1) -> Iterator[Server]:
    """A server whose workers are all ready."""
    port, log = free_port(), folder / "server.log"
    command = [
        *(sys.executable, "-m", "wsgicluster", "-k", kind, "-w", str(workers), "-b", f"127.0.0.1:{port}"),
        *("--chdir", str(HERE), "--error-logfile", str(log), *flags, f"applications:{application}"),
    ]
    log.write_text("")
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    began = time.monotonic()
    process = subprocess.Popen(command, env=environ)
    try:
        wait_log(log, "Started: ", process)
        yield Server(process, port, log, time.monotonic() - began)
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def run_ms(pid: int) -> float:
    """Processor time of a process's threads so far, in milliseconds, finer than the clock's ticks."""
    found = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        found += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return found / 1e6


def anonymous_mib(pids: list[int]) -> float:
    """Memory that belongs to processes alone, or to each other; what they have of files depends on who else has it."""
    kib = 0
    for pid in pids:
        found = re.search(r"^Anonymous:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        kib += int(found.group(1)) if found else 0
    return kib / 1024


def reaped_ms(pid: int) -> float:
    """Processor time of a process's children that have ended, in milliseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * 1000 / os.sysconf("SC_CLK_TCK")


def tree_ms(pid: int) -> float:
    """Processor time of a process and its descendants, those that have ended included, in milliseconds."""
    return sum(map(run_ms, processes(pid))) + reaped_ms(pid)


def peak_mib(pid: int) -> float:
    """The highest resident size of a process since `forget_peak`."""
    found = re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found.group(1)) / 1024 if found else 0.0


def forget_peak(pid: int) -> None:
    """Let the kernel begin anew with the highest resident size."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def loaded(server: Server, seconds: float, connections: int, script: Path) -> tuple[int, float]:
    """How many requests wrk made, and what one cost the whole tree, in microseconds."""
    before = processor_s(processes(server.pid))
    printed = load(server.port, seconds, connections, script)
    spent = processor_s(processes(server.pid)) - before
    found = re.search(r"(\d+) requests in", printed)
    if not found or not int(found.group(1)) or "Non-2xx" in printed:
        raise RuntimeError(f"no proper responses:\n{printed}")
    return int(found.group(1)), spent / int(found.group(1)) * 1e6


def beyond(what: str, ratio: float, most: float) -> Complaints:
    """What to complain about when a ratio is more than it may be."""
    return [f"{what}: {ratio:.2f} times as much, expected at most {most:g}"] if ratio > most else []


# -- the parts


def requests(kind: str, folder: Path, options: argparse.Namespace) -> Complaints:
    """A long run, in slices; the least disturbed one of the first third is compared with that of the last."""
    script = SCENARIOS["hello"].script(folder)
    costs: list[float] = []
    memories: list[float] = []
    done = 0
    with serving("hello", kind, folder) as server:
        load(server.port, 2, 32, script)
        while done < options.requests or len(costs) < 3:
            count, cost = loaded(server, options.seconds, 32, script)
            done += count
            costs.append(cost)
            memories.append(anonymous_mib(processes(server.pid)))
    third = len(costs) // 3
    first, last = min(costs[:third]), min(costs[-third:])
    print(
        f"{kind}: {done:,} requests: {first:.2f} us each in the first third, {last:.2f} in the last; "
        f"memory {memories[0]:.1f} MiB, {memories[-1]:.1f} at the end"
    )
    complaints = beyond(f"{kind}, processor time for each request", last / first, FLAT)
    if memories[-1] > memories[0] + MEMORY_MIB:
        complaints.append(f"{kind}: memory has grown from {memories[0]:.1f} to {memories[-1]:.1f} MiB")
    return complaints


@contextlib.contextmanager
def waiting_clients(port: int, count: int) -> Iterator[None]:
    """So many clients that have had one response each, and keep their connections."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE_S))
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not client.recv(4096).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("a client was refused")
        yield


def idle_ms(pid: int, seconds: float) -> float:
    """Milliseconds of processor time that a process takes in a second of nothing to do."""
    before, began = run_ms(pid), time.monotonic()
    time.sleep(seconds)
    return (run_ms(pid) - before) / (time.monotonic() - began)


def connections(kind: str, folder: Path, options: argparse.Namespace) -> Complaints:
    """One server for each number of clients, so that none inherits memory of another."""
    script = SCENARIOS["hello"].script(folder)
    flags = ("--worker-connections", str(2 * max(CONNECTIONS)), "--keep-alive", "600")
    asking: dict[int, float] = {}
    beside: dict[int, float] = {}
    memory: dict[int, float] = {}
    for count in CONNECTIONS:
        with serving("hello", kind, folder, *flags) as server:
            load(server.port, 1, ASKING_BESIDE, script)
            memory[count] = anonymous_mib([server.worker()])
            with waiting_clients(server.port, count):
                idle = idle_ms(server.worker(), 2)
                memory[count] = anonymous_mib([server.worker()]) - memory[count]
                beside[count] = min(loaded(server, options.seconds, ASKING_BESIDE, script)[1] for _ in range(2))
            asking[count] = min(loaded(server, options.seconds, count, script)[1] for _ in range(2))
        print(
            f"{kind}, {count} clients: {asking[count]:.2f} us where all ask; where they wait: {beside[count]:.2f} us "
            f"for a request of others, {idle:.2f} ms in an idle second, {memory[count] * 1024 / count:.1f} KiB each"
        )
    most = max(CONNECTIONS)
    return [
        *beyond(f"{kind}, a request beside {most} waiting clients", beside[most] / min(beside[1], beside[10]), WAITING),
        *beyond(f"{kind}, a request of {most} asking clients", asking[most] / asking[100], ASKING),
    ]


START, RELOAD = "start, in all", "reload, in all"
"""How long these take depends on what else the machine does: they are shown, and not judged."""


def measure_workers(server: Server, workers: int, script: Path, seconds: float) -> dict[str, float]:
    """The figures of a server that has just started so many workers, in milliseconds."""
    figures = {START: server.boot_s * 1000, "start, processor time": tree_ms(server.pid)}
    figures["arbiter, idle second"] = idle_ms(server.pid, seconds)
    before, began = run_ms(server.pid), time.monotonic()
    load(server.port, seconds, 64, script)
    figures["arbiter, loaded second"] = (run_ms(server.pid) - before) / (time.monotonic() - began)
    before, arbiter, began = tree_ms(server.pid), run_ms(server.pid), time.monotonic()
    os.kill(server.pid, signal.SIGHUP)
    wait_log(server.log, "Reload complete", server.process)
    figures[RELOAD] = (time.monotonic() - began) * 1000
    while len(processes(server.pid)) != workers + 1:
        if time.monotonic() - began > DEADLINE_S:
            raise RuntimeError("old workers have not ended")
        time.sleep(LOOK_S)
    figures["reload, arbiter's processor time"] = run_ms(server.pid) - arbiter
    figures["reload, processor time"] = tree_ms(server.pid) - before
    return figures


def workers(kind: str, folder: Path, options: argparse.Namespace) -> Complaints:
    """What one more worker adds; the least disturbed of three runs."""
    script = SCENARIOS["hello"].script(folder)
    found: dict[str, dict[int, float]] = {}
    for _ in range(3):
        for count in WORKERS:
            with serving("hello", kind, folder, workers=count) as server:
                for what, value in measure_workers(server, count, script, options.seconds).items():
                    known = found.setdefault(what, {})
                    known[count] = min(value, known.get(count, value))
    complaints = []
    few, some, many = WORKERS[-3:]
    for what, figures in found.items():
        print(f"{kind}, {what}:", ", ".join(f"{value:.2f} with {count}" for count, value in figures.items()))
        early = (figures[some] - figures[few]) / (some - few)
        late = (figures[many] - figures[some]) / (many - some)
        if late > LITTLE_MS and what not in {START, RELOAD}:
            complaints += beyond(f"{kind}, {what}, one more worker", late / max(early, LITTLE_MS), LINEAR)
    return complaints


def receive(client: socket.socket) -> None:
    """Everything, until the server closes. Raises RuntimeError when it is no success."""
    buffer = bytearray(1 << 20)
    size = client.recv_into(buffer)
    if not buffer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"a client was refused: {bytes(buffer[:size])!r}")
    while client.recv_into(buffer):
        pass


def transfer(port: int, way: str, size: int, file: Path) -> None:
    """One body in one of the `WAYS`."""
    head = "{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n"
    block = b"x" * min(size, 1 << 16)
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as client:
        if way == "upload":
            client.sendall(head.format("POST /upload", f"Content-Length: {size}\r\n").encode())
            for _ in range(size // len(block)):
                client.sendall(block)
        elif way == "chunked upload":
            client.sendall(head.format("POST /upload", "Transfer-Encoding: chunked\r\n").encode())
            chunk = b"%x\r\n%b\r\n" % (len(block), block)
            for _ in range(size // len(block)):
                client.sendall(chunk)
            client.sendall(b"0\r\n\r\n")
        else:
            client.sendall(head.format(f"GET /{way}/{str(file)[1:] if way == 'file' else size}", "").encode())
        receive(client)


WAYS = ("upload", "chunked upload", "length", "chunked", "file")


def measure_bodies(kind: str, way: str, size: int, folder: Path) -> tuple[float, float]:
    """Milliseconds for each MiB, the least disturbed of three runs, and the worker's highest memory in MiB."""
    file = folder / "body"
    with file.open("wb") as sparse:
        sparse.truncate(size)
    times = max(1, min(64, (64 << 20) // size))
    costs = []
    with serving("sized", kind, folder, "--timeout", "300") as server:
        transfer(server.port, way, size, file)
        forget_peak(server.worker())
        for _ in range(3):
            before = run_ms(server.worker())
            for _ in range(times):
                transfer(server.port, way, size, file)
            costs.append((run_ms(server.worker()) - before) / (times * size) * (1 << 20))
        return min(costs), peak_mib(server.worker())


def bodies(kind: str, folder: Path, options: argparse.Namespace) -> Complaints:
    """Each way and size on a server of its own."""
    complaints = []
    for way in WAYS:
        costs: dict[int, float] = {}
        peaks: dict[int, float] = {}
        for size in SIZES:
            costs[size], peaks[size] = measure_bodies(kind, way, size, folder)
        print(
            f"{kind}, {way}: milliseconds for each MiB (MiB of memory at most):",
            ", ".join(f"{size >> 10:,} KiB {costs[size]:.3f} ({peaks[size]:.1f})" for size in SIZES),
        )
        complaints += beyond(f"{kind}, {way}, a MiB of the largest body", costs[SIZES[-1]] / costs[SIZES[-2]], LARGE)
        small, large = peaks[1 << 20], peaks[SIZES[-1]]
        if large > small + BODY_MIB:
            complaints.append(f"{kind}, {way}: {large:.1f} MiB for 1 GiB, {small:.1f} MiB for 1 MiB")
    return complaints


PARTS: dict[str, Callable[[str, Path, argparse.Namespace], Complaints]] = {
    "requests": requests,
    "connections": connections,
    "workers": workers,
    "bodies": bodies,
}


def main() -> int:
    """Measure, print, and complain about what is out of proportion."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated (default: all)")
    parser.add_argument("--kinds", default="sync,gthread,gevent", help="comma-separated (default: all)")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the long run (default: 1,000,000)")
    parser.add_argument("--seconds", type=float, default=SLICE_S, help=f"of load at a time (default: {SLICE_S:g})")
    options = parser.parse_args()
    complaints: Complaints = []
    with tempfile.TemporaryDirectory(prefix="wsgicluster-proportion-") as place:
        for part in options.parts.split(","):
            for kind in options.kinds.split(","):
                complaints += PARTS[part](kind, Path(place), options)
                sys.stdout.flush()
    print(*(complaints or ["Everything is in proportion."]), sep="\n")
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
