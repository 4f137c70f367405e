"""The servers and clients that `benchmarks/scheduling.py` measures with; the application is in that file."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).parent.parent
START_S = 60.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """The pids of all processes whose parent this is, that have not exited."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(path.parent.name))
    return sorted(found)


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until something is so. Raises SystemExit when it is not in time."""
    ends = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > ends:
            raise SystemExit(f"not in time: {what}")
        time.sleep(0.02)


class Server:
    """One that serves the application of the benchmark."""

    def __init__(self, process: subprocess.Popen[bytes], log: Callable[[], str], pidfile: pathlib.Path) -> None:
        self._process = process
        self._log = log
        self._pidfile = pidfile
        self.port = 0

    @property
    def pid(self) -> int:
        """The arbiter, also after an upgrade."""
        return int(self._pidfile.read_text())

    @property
    def workers(self) -> list[int]:
        """The pids of all children."""
        return children_of(self.pid)

    def said(self, pattern: str) -> int:
        """How often the log says this."""
        return len(re.findall(pattern, self._log()))

    def wait_started(self, workers: int) -> None:
        """Wait until it serves. Raises SystemExit when it does not."""

        def has_started() -> bool:
            if self._process.poll() is not None:
                raise SystemExit(f"the server has not started:\n{self._log()}")
            return self.said(f"{workers} workers serve") > 0

        wait_for(has_started, "the server has started")
        self.port = int(self._log().partition("http://127.0.0.1:")[2].split()[0])

    def upgrade(self, during: Callable[[], object]) -> None:
        """Replace it by a new server with USR2 and TERM; ``during`` is called all the while."""
        old, served = self.pid, self.said("workers serve")
        os.kill(old, signal.SIGUSR2)
        while self.said("workers serve") == served:
            during()
        os.kill(old, signal.SIGTERM)
        while self._process.poll() is None:
            during()
        wait_for(lambda: self._pidfile.exists() and self.pid != old, "the pid file has been renamed")

    def processor_s(self) -> float:
        """What all its children have used so far."""
        total_ns = 0
        for pid in self.workers:
            with contextlib.suppress(OSError):
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                # Run time in nanoseconds where the kernel tells, or in ticks.
                schedule = pathlib.Path(f"/proc/{pid}/schedstat")
                own_ns = int(schedule.read_text().split()[0]) if schedule.exists() else 0
                total_ns += own_ns or (int(fields[11]) + int(fields[12])) * 10**9 // TICKS_A_SECOND
        return total_ns / 1e9

    def descriptors(self) -> int:
        """How many are open in all its processes."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (self.pid, *self.workers))

    def stop(self) -> None:
        """End it, whatever server it is by now."""
        pid = self.pid if self._pidfile.exists() else self._process.pid
        # With a new server where an upgrade has failed on its way.
        for each in (*(child for child in children_of(pid) if children_of(child)), pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGTERM)
        if pid == self._process.pid:
            self._process.wait()
        else:
            wait_for(lambda: not self._pidfile.exists(), "the server has stopped")


@contextlib.contextmanager
def serving(*arguments: str, workers: int = 4) -> Iterator[Server]:
    """A server with these arguments, ended afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        log, pidfile = pathlib.Path(folder, "log"), pathlib.Path(folder, "pid")
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "wsgicluster", "scheduling:application", "-b", "127.0.0.1:0",
                 "-w", str(workers), "-p", str(pidfile), "--defer-accept", "0", *arguments],
                cwd=ROOT / "benchmarks", stderr=output,
                env={**os.environ, "PYTHONPATH": str(ROOT), "WSGICLUSTER_KEEPALIVE_SLOW": "5"},
            )  # fmt: skip
        server = Server(process, log.read_text, pidfile)
        try:
            server.wait_started(workers)
            yield server
        finally:
            server.stop()
            if process.poll() is None:
                process.wait()


NGINX = """
worker_processes 1;
daemon off;
error_log {folder}/error.log;
pid {folder}/pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    upstream app {{ server 127.0.0.1:{upstream}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $http_x_forwarded_for;
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(upstream: int) -> Iterator[int]:
    """An nginx that keeps a few connections to the server for all its clients; its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "nginx.conf")
        config.write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
        process = subprocess.Popen(["nginx", "-p", folder, "-c", str(config)], stderr=subprocess.DEVNULL)

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        try:
            wait_for(listens, "nginx listens")
            yield port
        finally:
            process.terminate()
            process.wait()


def connect(port: int) -> socket.socket:
    """A client."""
    client = socket.create_connection(("127.0.0.1", port), 30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def answer_of(client: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of the next response. Raises ConnectionError at an end before it."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = client.recv(4096)
        if not data:
            raise ConnectionError("the connection has ended")
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def ask(client: socket.socket, extra: bytes = b"") -> bytes:
    """One request on a connection that is to be kept; the body of its response."""
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + extra + b"\r\n")
    return answer_of(client)[1]
