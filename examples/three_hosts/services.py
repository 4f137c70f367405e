"""What runs on the hosts: Redis, HAProxy, and a server on each of the three web hosts."""

import contextlib
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from examples.three_hosts.network import Network, program

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
PROXY, REDIS, CLIENT = "10.77.0.1", "10.77.0.2", "10.77.0.3"
WEB = {"web-1": "10.77.0.11", "web-2": "10.77.0.12", "web-3": "10.77.0.13"}

T = TypeVar("T")


class NotInTime(Exception):
    """A step did not come to its end; the text says what was waited for."""


def wait_for(condition: Callable[[], T], what: str, timeout_s: float = 30.0) -> T:
    """The first true value of a condition. Raises NotInTime."""
    ends = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > ends:
            raise NotInTime(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)
    return found


class WebHost:
    """One host with a server: its own folder, the same files as the others."""

    def __init__(self, network: Network, name: str, folder: pathlib.Path, runs: pathlib.Path) -> None:
        self.name = name
        self._network = network
        self._folder = folder / name
        self._runs = runs
        self._log_path = self._folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._folder.mkdir()
        for file in ("shop.py", "wsgicluster.conf.py"):
            shutil.copy(HERE / file, self._folder)
        network.add_host(name, WEB[name])

    def deploy(self, version: int) -> None:
        """Put another version of the application there, for the next start or reload."""
        (self._folder / "version.txt").write_text(f"{version}\n", "ascii")

    def start(self) -> None:
        """Start the server, and do not wait for it."""
        environ = {
            "WSGICLUSTER_NODE_NAME": self.name,
            "SHOP_RUNS": str(self._runs),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process = self._network.start(self.name, [sys.executable, "-m", "wsgicluster"], self._folder, environ)

    def log(self) -> str:
        """All that the server has said."""
        return self._log_path.read_text("utf-8", "replace") if self._log_path.exists() else ""

    def wait_log(self, text: str, count: int = 1) -> None:
        """Wait until the log has a text so many times."""
        wait_for(lambda: self.log().count(text) >= count, f"{self.name} says {text!r}")

    def reload(self) -> None:
        """Have the server load the application anew, and wait until the new workers serve."""
        done = self.log().count("Reload complete")
        self._running().send_signal(signal.SIGHUP)
        self.wait_log("Reload complete", done + 1)

    def begin_stop(self) -> None:
        """Ask the server to stop, which tells HAProxy first."""
        self._running().terminate()

    def quit(self) -> int:
        """Stop the server at once; its exit code."""
        self._running().send_signal(signal.SIGQUIT)
        return self.wait_end()

    def wait_end(self) -> int:
        """Wait until the server has ended; its exit code."""
        return self._running().wait(60)

    def kill(self) -> None:
        """Kill all that runs there."""
        self._network.kill(self.name)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was not started"
        return self._process


class Redis:
    """A Redis server without a disk: what is in it ends with it."""

    def __init__(self, network: Network, folder: pathlib.Path) -> None:
        self._network = network
        self._folder = folder / "redis"
        self._folder.mkdir()
        network.add_host("redis", REDIS)

    def start(self) -> None:
        """Start it, and wait until it responds."""
        command = [program("redis-server"), "--bind", REDIS, "--protected-mode", "no", "--save", ""]
        self._network.start("redis", command, self._folder)
        wait_for(self._responds, "Redis responds")

    def _responds(self) -> bool:
        code = (
            f"import socket as k; s = k.create_connection(({REDIS!r}, 6379)); s.send(b'PING\\r\\n'); print(s.recv(5))"
        )
        try:
            return "PONG" in self._network.run("redis", [sys.executable, "-Sc", code])
        except subprocess.SubprocessError:
            return False  # it does not listen yet

    def kill(self) -> None:
        """Kill it."""
        self._network.kill("redis")


class Proxy:
    """HAProxy, and what it thinks of the hosts."""

    def __init__(self, network: Network, folder: pathlib.Path) -> None:
        self._network = network
        self._folder = folder / "proxy"
        self._folder.mkdir()
        self._stats = self._folder / "stats.sock"
        network.add_host("proxy", PROXY)

    def start(self) -> None:
        """Start it; it takes requests as soon as a host is ready."""
        command = [program("haproxy"), "-db", "-f", str(HERE / "haproxy.cfg")]
        self._network.start("proxy", command, self._folder, {"STATS": str(self._stats)})
        wait_for(self.states, "HAProxy responds")

    def states(self) -> dict[str, str]:
        """The state of each host: ``UP``, ``DOWN``, ``DRAIN`` and what comes between."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self._stats))
            sock.sendall(b"show stat\n")
            with sock.makefile() as file:
                names, *rows = [line.removeprefix("# ").rstrip(",\n").split(",") for line in file if line.strip()]
            fields = [dict(zip(names, row, strict=False)) for row in rows]
            return {each["svname"]: each["status"] for each in fields if each["svname"] in WEB}
        return {}

    def wait_state(self, host: str, state: str) -> float:
        """Wait until HAProxy has a host in a state; how many seconds that took."""
        began = time.monotonic()
        wait_for(lambda: self.states().get(host, "").startswith(state), f"HAProxy has {host} as {state}")
        return time.monotonic() - began
