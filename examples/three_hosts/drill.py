"""The drill: what happens to hosts in a year, in a minute, under load; each step says what it cost."""

import contextlib
import dataclasses
import math
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from examples.three_hosts.figures import Figures, Run, Runs
from examples.three_hosts.load import CLIENTS, Request
from examples.three_hosts.network import Network, check_possible
from examples.three_hosts.services import CLIENT, PROXY, ROOT, WEB, NotInTime, Proxy, Redis, WebHost, wait_for

INTERVAL_S = 1.0
"""Of the application's periodic job."""
LATEST = 500
"""How many of the last requests are looked at for something that is waited for."""
LOG_LINES = 15
"""Of each host, shown when a step does not come to its end."""
PROGRAMS = ("haproxy", "redis-server")


@dataclasses.dataclass(frozen=True)
class Step:
    """One step that is over: what happened, what it cost, and what had to be waited for, in seconds."""

    name: str
    figures: Figures
    waits: dict[str, float]
    may_lose: str = ""
    """A method whose requests may be lost in this step: those that a host had begun when it went."""

    def faults(self) -> list[str]:
        """What was lost and need not have been."""
        return [
            f"{self.name}: {count} {' '.join(what)} lost"
            for what, count in self.figures.lost.items()
            if what[1] != self.may_lose
        ]

    def text(self) -> str:
        """For people."""
        waits = "; ".join(f"{what}: {seconds:.2f} s" for what, seconds in self.waits.items())
        return f"{self.name}\n    {self.figures.text()}" + (f"\n    {waits}" if waits else "")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The whole drill."""

    steps: list[Step]
    runs: Runs
    exit_codes: list[int]

    def faults(self) -> list[str]:
        """What should not have been; empty if all is well."""
        found = [fault for step in self.steps for fault in step.faults()]
        if self.runs.twice or self.runs.together:
            found.append(f"the periodic job: {self.runs.text()}")
        if any(self.exit_codes):
            found.append(f"exit codes of the servers: {self.exit_codes}")
        return found


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long each state lasts, and how many of the hosts get the new versions."""

    pause_s: float = 3.0
    rolled: int = len(WEB)


class Drill:
    """Three hosts behind HAProxy, with Redis, and clients."""

    def __init__(self, network: Network, folder: pathlib.Path, plan: Plan, say: Callable[[str], object]) -> None:
        self._network = network
        self._plan = plan
        self._say = say
        self._requests = folder / "requests.tsv"
        self._found: list[Request] = []
        self._read_bytes = 0
        self._runs = folder / "runs.log"
        self._folder = folder
        self._steps: list[Step] = []
        self._exit_codes: list[int] = []
        self._lost_at = math.inf
        self._redis = Redis(network, folder)
        self._proxy = Proxy(network, folder)
        self._hosts = [WebHost(network, name, folder, self._runs) for name in WEB]
        network.add_host("client", CLIENT)

    def run(self) -> Outcome:
        """All of it."""
        self._start()
        with self._load():
            self.steady()
            self.reload()
            self.replace()
            self.cut_off()
            self.kill()
            self.lose_redis()
        self._exit_codes += [host.quit() for host in self._hosts]
        runs = [Run.of(line) for line in self._runs.read_text().splitlines()]
        return Outcome(self._steps, Runs.of(runs, INTERVAL_S, self._lost_at), self._exit_codes)

    def _start(self) -> None:
        self._redis.start()
        for host in self._hosts:
            host.deploy(1)
            host.start()
        self._proxy.start()
        for host in self._hosts:
            self._proxy.wait_state(host.name, "UP")
        wait_for(self._runs.exists, "the first run of the periodic job")

    @contextlib.contextmanager
    def _load(self) -> Iterator[None]:
        command = [sys.executable, "-m", "examples.three_hosts.load", PROXY, "8000", str(self._requests)]
        clients = self._network.start("client", command, self._folder, {"PYTHONPATH": str(ROOT)})
        wait_for(lambda: len(self._answered()) > 20, "the first responses")
        yield
        clients.send_signal(signal.SIGTERM)
        clients.wait(60)

    def _answered(self) -> list[Request]:
        """All requests so far; the file is read from where it was left, and the last line may be half written."""
        if self._requests.exists():
            with self._requests.open("rb") as file:
                file.seek(self._read_bytes)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read_bytes += len(whole + newline)
            self._found += [Request.of(line) for line in whole.decode("ascii").splitlines()]
        return self._found

    def _since(self, began: float) -> list[Request]:
        """Those of the last ones that began after a time; each client has some among so many."""
        return [each for each in self._answered()[-LATEST:] if each.began >= began]

    @contextlib.contextmanager
    def _step(self, name: str, may_lose: str = "") -> Iterator[dict[str, float]]:
        """A step; what was waited for goes into the dictionary."""
        began, waits = time.monotonic(), dict[str, float]()
        yield waits
        ended = time.monotonic()
        # What began in this step belongs to it, however long it takes.
        wait_for(
            lambda: len({each.client for each in self._since(ended)}) == CLIENTS,
            "each client has its response",
        )
        found = [each for each in self._answered() if began <= each.began < ended]
        self._steps.append(Step(name, Figures.of(found), waits, may_lose))
        self._say(self._steps[-1].text())

    def _tell_price(self, price: int) -> None:
        """Broadcast a price, by way of whichever host HAProxy chooses."""
        code = "import sys, urllib.request as r; r.urlopen(sys.argv[1], sys.argv[2].encode(), timeout=20).read()"
        self._network.run("client", [sys.executable, "-Sc", code, f"http://{PROXY}:8000/price", str(price)])

    def _wait_answers(self, host: str, what: str, fits: Callable[[Request], bool]) -> float:
        """Wait for a response of this host, to a request sent from now on, that fits; how many seconds that took."""
        began = time.monotonic()
        wait_for(
            lambda: any(each.host == host and fits(each) for each in self._since(began)),
            f"{host}: {what}",
        )
        return time.monotonic() - began

    def _pause(self) -> None:
        time.sleep(self._plan.pause_s)

    # The steps

    def steady(self) -> None:
        """Nothing happens."""
        with self._step("three hosts serve version 1"):
            self._pause()

    def reload(self) -> None:
        """A new version on one host after another, in place."""
        with self._step("version 2 by a reload, one host after another") as waits:
            for host in self._hosts[: self._plan.rolled]:
                host.deploy(2)
                began = time.monotonic()
                host.reload()
                waits[host.name] = time.monotonic() - began
            self._pause()

    def replace(self) -> None:
        """A new version on one host after another, each of which is stopped, as for an update of its system."""
        with self._step("version 3 by stopping and starting, one host after another") as waits:
            for host in self._hosts[: self._plan.rolled]:
                host.begin_stop()
                waits[f"{host.name} drains after"] = self._proxy.wait_state(host.name, "DRAIN")
                self._exit_codes.append(host.wait_end())
                host.deploy(3)
                host.start()
                self._proxy.wait_state(host.name, "UP")
                self._wait_answers(host.name, "version 3", lambda each: each.version == "3")
            self._pause()

    def cut_off(self) -> None:
        """A host's cable is pulled and put back; a price that was broadcast meanwhile reaches it then."""
        host = self._hosts[1]
        with self._step(f"{host.name} is cut off", may_lose="POST") as waits:
            self._network.cut(host.name)
            waits["noticed after"] = self._proxy.wait_state(host.name, "DOWN")
            self._tell_price(1)
            self._pause()
        with self._step(f"{host.name} is back") as waits:
            self._network.join(host.name)
            waits["gets requests after"] = self._proxy.wait_state(host.name, "UP")
            waits["and knows the new price after another"] = self._wait_answers(
                host.name, "the price", lambda each: each.price == "1"
            )
            self._pause()

    def kill(self) -> None:
        """All processes of a host are killed at once, and the host is started again."""
        host = self._hosts[2]
        with self._step(f"{host.name} is killed", may_lose="POST") as waits:
            host.kill()
            waits["noticed after"] = self._proxy.wait_state(host.name, "DOWN")
            self._pause()
        with self._step(f"{host.name} is started again") as waits:
            host.start()
            waits["gets requests after"] = self._proxy.wait_state(host.name, "UP")
            waits["and knows the price after another"] = self._wait_answers(
                host.name, "the price", lambda each: each.price == "1"
            )
            self._pause()

    def lose_redis(self) -> None:
        """Redis is killed, and started again without its data."""
        with self._step("Redis is killed"):
            self._redis.kill()
            self._lost_at = time.monotonic()
            self._pause()
        with self._step("Redis is back, and empty") as waits:
            self._redis.start()
            began = time.monotonic()
            wait_for(lambda: self._ran_since(began), "the periodic job runs again")
            waits["the periodic job runs after"] = time.monotonic() - began
            self._tell_price_soon(2)
            for host in self._hosts:
                waits[f"{host.name} knows a new price after"] = self._wait_answers(
                    host.name, "the price", lambda each: each.price == "2"
                )
            self._pause()

    def _ran_since(self, began: float) -> bool:
        return any(Run.of(line).began >= began for line in self._runs.read_text().splitlines())

    def _tell_price_soon(self, price: int) -> None:
        def tried() -> bool:
            with contextlib.suppress(subprocess.CalledProcessError):
                self._tell_price(price)
                return True
            return False

        wait_for(tried, "a price can be broadcast")


def run_drill(plan: Plan, say: Callable[[str], object]) -> Outcome:
    """Set up, run and clear up. Raises NotPossible, NotInTime."""
    check_possible(*PROGRAMS)
    with tempfile.TemporaryDirectory(prefix="three-hosts-") as name, Network() as network:
        try:
            return Drill(network, pathlib.Path(name), plan, say).run()
        except NotInTime:
            for log in sorted(pathlib.Path(name).glob("*/*.log")):
                say(f"--- {log.name}\n" + "\n".join(log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]))
            raise
