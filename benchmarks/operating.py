"""What operators get from a server in trouble, and what they cost one that is well.

    python benchmarks/operating.py [--only SECTION]... [--samples N]

``hung``: how soon probes, lists and stacks are there while a request hangs in every worker. ``clients``: a reload, and
the end of a hung worker, without and with 1,000 idle control clients and one that sends commands without pause.
``growth``: memory and descriptors of the arbiter and the admin worker over scrapes and lists. ``sums``: whether a
Prometheus that is installed sums up exactly what was sent, over 20 reloads and 20 workers killed. Exit code 1 when a
bound is exceeded.
"""

import argparse
import contextlib
import http.client
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scheduling_servers import children_of, wait_for  # noqa: E402

from tests.conftest import LiveServer  # noqa: E402
from tests.live.prometheus import ARGUMENTS, COUNTING, check_sums  # noqa: E402
from wsgicluster.control.client import ControlConnection  # noqa: E402

WORKERS = 4
IDLE_CLIENTS = 1_000
TIMEOUT_S = 2
HUNG_BOUND_MS = 100.0
GROWTH_BOUND_KIB = 256
ROUNDS = 20

# -- the application


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    if environ["PATH_INFO"] == "/hang":
        time.sleep(3600)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


# -- the server


class Server:
    """One with an admin worker, until `close`."""

    def __init__(self, *arguments: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = pathlib.Path(self._folder.name, "log")
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "wsgicluster", "operating:application", "-b", "127.0.0.1:0", "-w", str(WORKERS),
                 "--admin", "127.0.0.1:0", "--control-socket", self.control, *arguments],
                cwd=ROOT / "benchmarks", stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        self.pid = self._process.pid
        wait_for(lambda: self.said(f"{WORKERS} workers serve"), "the server has started")
        wait_for(lambda: self.said("Admin worker .* is ready"), "the admin worker is ready")
        self.port, self.admin_port = (self._port_behind(words) for words in ("Listening at", "Admin worker at"))

    @property
    def control(self) -> str:
        """The path of the control socket."""
        return os.path.join(self._folder.name, "control")

    def log(self) -> str:
        """All of it so far."""
        return self._log.read_text()

    def said(self, pattern: str) -> int:
        """How often the log says this."""
        return len(re.findall(pattern, self.log()))

    def _port_behind(self, words: str) -> int:
        found = re.search(words + r".*?127\.0\.0\.1:(\d+)", self.log())
        if found is None:
            raise SystemExit(f"the log has no address behind {words!r}:\n{self.log()}")
        return int(found[1])

    def hang(self, count: int) -> list[socket.socket]:
        """Clients of which each keeps one worker busy."""
        clients = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", self.port))
            client.sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
            clients.append(client)
        return clients

    def busy(self) -> int:
        """How many workers have a request in progress."""
        with ControlConnection(self.control) as control:
            return sum(bool(worker["oldest_request"]) for worker in control.call("status")["workers"])

    def close(self) -> None:
        """End it, and what hangs in it."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()
        self._folder.cleanup()


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    server = Server(*arguments)
    try:
        yield server
    finally:
        server.close()


def get(port: int, path: str) -> bytes:
    """The body of a 200 of the admin worker."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status not in (200, 503):
        raise SystemExit(f"{path}: {response.status}")
    return body


# -- the sections


def hung(samples: int) -> Iterator[tuple[str, bool]]:
    """Each question asked so many times, every time on a new connection, while all workers hang."""
    with serving("--timeout", "0") as server:
        clients = server.hang(WORKERS)
        wait_for(lambda: server.busy() == WORKERS, "a request hangs in every worker")

        def command(name: str, **args: Any) -> object:
            with ControlConnection(server.control) as control:
                return control.call(name, args)

        questions: dict[str, Callable[[], object]] = {
            "/livez": lambda: get(server.admin_port, "/livez"),
            "/readyz": lambda: get(server.admin_port, "/readyz"),
            "/metrics": lambda: get(server.admin_port, "/metrics"),
            "list and requests": lambda: command("status"),
            "stacks": lambda: command("stacks", slot=1),
        }
        for name, ask in questions.items():
            taken = []
            for _ in range(samples):
                began = time.perf_counter()
                ask()
                taken.append((time.perf_counter() - began) * 1e3)
                time.sleep(0.01)
            p99 = sorted(taken)[int(len(taken) * 0.99) - 1]
            yield f"hung: {name}: median {statistics.median(taken):.1f} ms, p99 {p99:.1f} ms", p99 <= HUNG_BOUND_MS
        for client in clients:
            client.close()


class Flood:
    """A control client that sends commands without pause and reads no reply, while it is entered."""

    def __init__(self, path: str) -> None:
        self.sent_bytes = 0
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Flood":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        lines = b'{"id": 1, "command": "status", "args": {}}\n' * 500
        while not self._stop.is_set():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.settimeout(0.1)
                client.connect(self._path)
                while not self._stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        self.sent_bytes += client.send(lines)


def supervision(server: Server) -> tuple[float, float]:
    """How long a reload takes, and how long beyond its time a hung request is left, in seconds."""
    done, began = server.said("Reload complete"), time.monotonic()
    os.kill(server.pid, signal.SIGHUP)
    wait_for(lambda: server.said("Reload complete") > done, "the reload is complete")
    reload_s = time.monotonic() - began
    began = time.monotonic()
    [client] = server.hang(1)
    client.settimeout(60)
    with contextlib.suppress(ConnectionResetError):
        client.recv(1)
    return reload_s, time.monotonic() - began - TIMEOUT_S


def clients(_samples: int) -> Iterator[tuple[str, bool]]:
    """The same acts of supervision, without control clients and with too many of them."""
    with serving("--timeout", str(TIMEOUT_S)) as server, contextlib.ExitStack() as owned:
        supervision(server)
        alone = supervision(server)
        refused = 0
        for _ in range(IDLE_CLIENTS):
            client = owned.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(server.control)
            except OSError:
                refused += 1  # the queue of the socket is full
        with Flood(server.control) as flood:
            crowded = supervision(server)
        idle = f"{IDLE_CLIENTS} idle clients ({refused} of them not even accepted)"
        beside = f"{idle}, {flood.sent_bytes >> 10} KiB of commands"
        for name, before, after in zip(("a reload", "the end of a hung request, late by"), alone, crowded, strict=True):
            # A second more is what a busy machine may take for it; a beat that was missed costs more.
            yield f"clients: {name} {before:.2f} s alone, {after:.2f} s beside {beside}", after < before + 1.0


def growth(samples: int) -> Iterator[tuple[str, bool]]:
    """Memory and descriptors before and after."""
    with serving() as server:
        [admin] = [
            pid for pid in children_of(server.pid) if "admin" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()
        ]

        def ask(times: int) -> None:
            for _ in range(times):
                get(server.admin_port, "/metrics")
                with ControlConnection(server.control) as control:
                    control.call("status")

        def size(pid: int) -> tuple[int, int]:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            return int(status.partition("VmRSS:")[2].split()[0]), len(os.listdir(f"/proc/{pid}/fd"))

        # Each grows once by some 500 KiB, after about 1,000, and then no more.
        ask(1500)
        before = {"arbiter": size(server.pid), "admin worker": size(admin)}
        ask(samples)
        wait_for(lambda: size(server.pid)[1] <= before["arbiter"][1], "the last client has left")
        after = {"arbiter": size(server.pid), "admin worker": size(admin)}
        for name, (kib, descriptors) in before.items():
            now_kib, now_descriptors = after[name]
            asked = f"growth: {name} over {samples} scrapes and {samples} lists"
            yield (
                f"{asked}: {kib} -> {now_kib} KiB, {descriptors} -> {now_descriptors} descriptors",
                now_kib - kib <= GROWTH_BOUND_KIB and now_descriptors <= descriptors,
            )


def sums(_samples: int) -> Iterator[tuple[str, bool]]:
    """What Prometheus sums up, and what a reader sees who never pauses."""
    with tempfile.TemporaryDirectory(prefix="wsgicluster-sums-") as name:
        folder = pathlib.Path(name)
        (folder / "app.py").write_text(COUNTING)
        live = LiveServer(folder, ["-b", "127.0.0.1:0", *ARGUMENTS], {}).start().wait_listening()
        began = time.monotonic()
        try:
            found, is_well = check_sums(live, folder / "prometheus", ROUNDS), True
        except AssertionError as error:
            found, is_well = repr(error), False
        finally:
            live.end()
        taken_s = time.monotonic() - began
        yield f"sums: {ROUNDS} reloads and {ROUNDS} workers killed in {taken_s:.0f} s: {found}", is_well


SECTIONS = {"hung": hung, "clients": clients, "growth": growth, "sums": sums}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--samples", type=int, default=1000)
    wanted = parser.parse_args()
    all_well = True
    for name in wanted.only or SECTIONS:
        for line, is_well in SECTIONS[name](wanted.samples):
            print(line if is_well else f"{line}  EXCEEDED", flush=True)
            all_well = all_well and is_well
    return 0 if all_well else 1


if __name__ == "__main__":
    sys.exit(main())
