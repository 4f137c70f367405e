"""The servers that an application is served by, one after the other."""

import contextlib
import dataclasses
import http.client
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
START_S = 30

KINDS = {
    "sync": ("-k", "sync"),
    "gthread": ("-k", "gthread", "--threads", "4"),
    "gevent": ("-k", "gevent"),
}


@dataclasses.dataclass(frozen=True)
class Server:
    """A program and a kind of its workers; ``pure`` leaves the compiled modules out."""

    program: str
    kind: str
    pure: bool = False

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.program} {self.kind}{' plain' if self.pure else ''}"


SERVERS = (
    *(Server("gunicorn", kind) for kind in KINDS),
    *(Server("wsgicluster", kind) for kind in KINDS),
    Server("wsgicluster", "sync", pure=True),
)


@dataclasses.dataclass(frozen=True)
class Running:
    """A server that listens; ``folder`` is the application's own, new for each server."""

    url: str
    port: int
    folder: pathlib.Path
    log_path: pathlib.Path

    def log(self) -> str:
        """All that it has said."""
        return self.log_path.read_text("utf-8", "replace")


def free_port() -> int:
    """A port on which no process listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Whether a server says anything, be it an error of the application's."""
    try:
        with urllib.request.urlopen(url, timeout=5, context=ssl._create_unverified_context()):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False


@contextlib.contextmanager
def running(
    server: Server, python: pathlib.Path, folder: pathlib.Path, target: str, *flags: str, workers: int = 2
) -> Iterator[Running]:
    """Start a server with the interpreter of an application's environment; ended behind the block."""
    port = free_port()
    command = [str(python), "-m", server.program, target, "-b", f"127.0.0.1:{port}", "-w", str(workers)]
    command += [*KINDS[server.kind], "-t", "120", *flags]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks/real'}", "STATE": str(folder)}
    if server.pure:
        environ["WSGICLUSTER_PURE"] = "1"
    log_path = folder / f"{server.name.replace(' ', '-')}-{port}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        scheme = "https" if "--certfile" in flags else "http"
        ends = time.monotonic() + START_S
        # A connection alone says little: Gunicorn listens on while its workers fail to boot, again and again.
        while not answers(f"{scheme}://127.0.0.1:{port}/"):
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"{server.name} does not start: {log_path.read_text('utf-8', 'replace')[-300:]}")
            time.sleep(0.1)
        yield Running(f"{scheme}://127.0.0.1:{port}", port, folder, log_path)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
