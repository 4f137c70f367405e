"""Hosts of a network as network namespaces of this machine: each has its own addresses, ports and cable.

The cables end in a switch, a bridge in a namespace of its own, so that nothing is added to the machine's own network.
Everything is called after the process that made it, which removes it; one that was killed is cleared up by the next.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence

NEEDED = ("ip", "setpriv")
_NAMESPACES = pathlib.Path("/run/netns")
_PREFIX = "three-hosts-"
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


class NotPossible(Exception):
    """This machine lacks something; the text says what, and the remedy."""


def program(name: str) -> str:
    """The path of a program. Raises NotPossible."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise NotPossible(f"{name} is not installed here: install it with the system's package manager")
    return found


def check_possible(*programs: str) -> None:
    """See whether this process may make namespaces, and whether these programs are there. Raises NotPossible."""
    for name in (*NEEDED, *programs):
        program(name)
    if os.geteuid() != 0:
        raise NotPossible("network namespaces need root: run this with sudo")


def _ip(*words: str) -> None:
    done = subprocess.run([program("ip"), *words], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise NotPossible(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")


def _clear_up_after_the_dead() -> None:
    """Remove namespaces of earlier runs that were killed: those whose names have the id of no process."""
    for path in _NAMESPACES.glob(f"{_PREFIX}*"):
        found = re.fullmatch(rf"{_PREFIX}(\d+)-[a-z0-9-]+", path.name)
        if found and not pathlib.Path("/proc", found[1]).exists():
            _ip("netns", "delete", path.name)


class Network:
    """A switch and the hosts on it, in 10.77.0.0/24; all of it is removed at the end of the context."""

    def __init__(self) -> None:
        self._hosts: list[str] = []
        self._processes: dict[str, list[subprocess.Popen[bytes]]] = {}
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> "Network":
        _clear_up_after_the_dead()
        try:
            self._add_namespace("switch")
            self._in("switch", "link", "add", "name", "bridge", "type", "bridge")
            self._in("switch", "link", "set", "bridge", "up")
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End what was started here, and remove what was made."""
        try:
            for host in list(self._processes):
                self.kill(host)
        finally:
            self._ends.close()

    def _name(self, host: str) -> str:
        return f"{_PREFIX}{os.getpid()}-{host}"

    def _in(self, host: str, *words: str) -> None:
        _ip("-n", self._name(host), *words)

    def _add_namespace(self, host: str) -> None:
        # Before it is made: an interrupt may come in between.
        self._ends.callback(self._delete_namespace, host)
        _ip("netns", "add", self._name(host))
        self._in(host, "link", "set", "lo", "up")

    def _delete_namespace(self, host: str) -> None:
        if (_NAMESPACES / self._name(host)).exists():
            _ip("netns", "delete", self._name(host))

    def add_host(self, host: str, address: str) -> None:
        """Add a host with an address, and a cable from it to the switch."""
        self._add_namespace(host)
        self._in("switch", "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", self._name(host))
        self._in("switch", "link", "set", host, "master", "bridge", "up")
        self._in(host, "address", "add", f"{address}/24", "dev", "eth0")
        self._in(host, "link", "set", "eth0", "up")

    def cut(self, host: str) -> None:
        """Pull the host's cable out of the switch: packets are lost, and neither end of a connection learns of it."""
        self._in("switch", "link", "set", host, "down")

    def join(self, host: str) -> None:
        """Put it back."""
        self._in("switch", "link", "set", host, "up")

    def delay(self, host: str, milliseconds: int) -> None:
        """Have the host's packets take longer by so much; 0 ends that."""
        verb = ("add", "dev", host, "root", "netem", "delay", f"{milliseconds}ms")
        words = verb if milliseconds else ("del", "dev", host, "root")
        command = [program("tc"), "-n", self._name("switch"), "qdisc", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        if done.returncode:
            raise NotPossible(f"`tc qdisc` failed (is the kernel's module sch_netem there?): {done.stderr.strip()}")

    def start(
        self, host: str, command: Sequence[str], folder: pathlib.Path, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program on a host; what it prints goes to the host's log in its folder. It ends with this process."""
        with (folder / f"{host}.log").open("ab") as log:
            process = subprocess.Popen(
                # The kernel ends it if this process is killed and can clear up nothing.
                [*self._on(host), program("setpriv"), "--pdeathsig", "KILL", *command],
                cwd=folder,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that Ctrl+C ends this process alone, which ends the others in order
            )
        self._processes.setdefault(host, []).append(process)
        return process

    def run(self, host: str, command: Sequence[str], timeout_s: float = 20) -> str:
        """Run a program on a host to its end, and return what it prints. Raises CalledProcessError."""
        whole = [*self._on(host), *command]
        return subprocess.run(whole, capture_output=True, text=True, timeout=timeout_s, check=True).stdout

    def _on(self, host: str) -> list[str]:
        return [program("ip"), "netns", "exec", self._name(host)]

    def kill(self, host: str) -> None:
        """Kill whatever runs on a host, all at once, as a loss of power does."""
        found = subprocess.run(
            [program("ip"), "netns", "pids", self._name(host)], capture_output=True, text=True, timeout=10, check=True
        )
        for pid in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):  # ended since
                os.kill(int(pid), signal.SIGKILL)
        for process in self._processes.pop(host, []):
            process.wait(10)
