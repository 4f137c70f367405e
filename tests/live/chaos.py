"""Random faults under load, from a seed, and what must be true afterwards.

The faults are a fixed sequence for each seed; whom they meet depends on the moment. Used by
``test_chaos.py`` for some seconds and by ``benchmarks/chaos.py`` for as long as one likes.
"""

import contextlib
import os
import pathlib
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.conftest import (
    LiveServer,
    children_of,
    descriptors_of,
    has_at_most,
    is_alive,
    process_state,
    steady_descriptors,
    wait_until,
)
from tests.live.client import BrokenResponse, Connection
from tests.live.witnesses import Witnesses

KINDS: dict[str, tuple[str, ...]] = {
    "sync": ("-k", "sync"),
    "preload": ("-k", "sync", "--preload"),
    "gthread": ("-k", "gthread", "--threads", "3"),
    "gevent": ("-k", "gevent"),
}
WORKERS = 3
ARGUMENTS = ("app", "-w", str(WORKERS), "-t", "3", "--graceful-timeout", "20", "--max-memory", "150M")

SOURCE = '''
"""Writes down who has which request, then answers with its version and process."""
import os
import time

VERSION = "@VERSION@"
kept = []


def application(environ, start_response):
    name, _, argument = environ["PATH_INFO"].lstrip("/").partition("/")
    journal = os.open("journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(journal, f"{environ['QUERY_STRING']} {os.getpid()}\\n".encode())
    os.close(journal)
    if name == "slow":
        time.sleep(float(argument))
    elif name == "hang":
        time.sleep(3600)
    elif name == "grow":
        kept.append(b"x" * (int(argument) << 20))
    environ["wsgi.input"].read()
    body = f"{VERSION} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
'''
BROKEN = "raise RuntimeError('no database today')\n"

DEATH = re.compile(
    r"\(pid (\d+), generation \d+\) (?:was killed from outside|was killed by the kernel|crashed|exited without|hung|"
    r"did not become ready|was cut off|did not fork)"
)
GONE = re.compile(r"\(pid (\d+), generation \d+\) exited: ")
SEEN_S = 1.5
"""Between a death and its record that is read here there is at most so much, on a busy machine."""


class Records:
    """The deaths that the server's log tells of, with the monotonic time at which they were read."""

    def __init__(self, live: LiveServer) -> None:
        self.deaths: list[tuple[float, int]] = []
        self._live = live
        self._offset = 0

    def read(self) -> None:
        """Take in what is new."""
        with self._live.log_path.open("rb") as log:
            log.seek(self._offset)
            data = log.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        now = time.monotonic()
        self.deaths += [(now, int(pid)) for pid in DEATH.findall(whole.decode("utf-8", "replace"))]

    def pids(self) -> set[int]:
        return {pid for _, pid in self.deaths}

    def moments(self) -> list[float]:
        return [moment for moment, _ in self.deaths]


def memory_kib(pid: int) -> int:
    """Memory of a process that is its own."""
    found = re.search(r"^RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found.group(1)) if found else 0


def heartbeat_files() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if re.fullmatch(r"wsgicluster-\w{8}", name)}


class Chaos:
    """One run against a server that was started with `ARGUMENTS` and a kind, in ``live.folder`` and with ``TMPDIR``
    set to ``temporary``.
    """

    def __init__(self, live: LiveServer, kind: str, seed: int, temporary: pathlib.Path) -> None:
        self.live = live
        self.answered = self.excused = 0
        self.faults: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.records = Records(live)
        self.memory_before_kib = self.memory_after_kib = 0
        self._children = WORKERS + (kind == "preload")
        self._random = random.Random(seed)
        self._temporary = temporary
        self._shared_before = heartbeat_files()
        self._version = 1
        self._killed: dict[int, float] = {}
        self._stopped: list[tuple[float, int]] = []
        self._own: list[Connection] = []
        self._pace = threading.Event()
        self._asked = 0

    @staticmethod
    def source(version: int) -> str:
        return SOURCE.replace("@VERSION@", str(version))

    def run(self, seconds: float) -> None:
        """Do it, and say in ``complaints`` what should not have been."""
        live = self.live
        live.wait_log(f"{WORKERS} workers serve", 20)
        self._reload()
        live.wait_children(self._children)
        descriptors = steady_descriptors(live.pid)
        self.memory_before_kib = memory_kib(live.pid)
        witnesses = Witnesses(live.port, 6)
        witnesses.begin()
        try:
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                self._one_fault()
                self._watch(self._random.uniform(0.05, 0.5))
            self._calm(descriptors)
        finally:
            witnesses.end()
            for connection in self._own:
                connection.close()
        self.memory_after_kib = memory_kib(live.pid)
        self._judge(witnesses)

    # Faults

    def _one_fault(self) -> None:
        choices: list[tuple[Callable[[], None], int]] = [
            (self._kill, 6), (self._stop_worker, 3), (self._stop_arbiter, 2), (self._storm, 4), (self._grow, 3),
            (self._hang, 2), (self._break, 2), (self._deploy, 4),
        ]  # fmt: skip
        (fault,) = self._random.choices([f for f, _ in choices], [w for _, w in choices])
        self.faults[fault.__name__.lstrip("_")] += 1
        fault()

    def _victim(self) -> int | None:
        """A child of the arbiter that is what it is for by now."""
        found = []
        for pid in self.live.children():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
                title = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
                if title.startswith((b"wsgicluster: worker", b"wsgicluster: mold")):
                    found.append(pid)
        index = self._random.random()
        return found[int(index * len(found))] if found else None

    def _kill(self) -> None:
        pid = self._victim()
        if pid is not None and is_alive(pid):
            self._killed[pid] = time.monotonic()
            self._signal(pid, signal.SIGKILL)

    def _stop_worker(self) -> None:
        span_s = self._random.choice([0.2, 0.5, 1.0, 5.0])
        pid = self._victim()
        if pid is not None:
            self._signal(pid, signal.SIGSTOP)
            self._stopped.append((time.monotonic() + span_s, pid))

    def _stop_arbiter(self) -> None:
        self._signal(self.live.pid, signal.SIGSTOP)
        self._stopped.append((time.monotonic() + self._random.uniform(0.1, 1.5), self.live.pid))

    def _storm(self) -> None:
        numbers = [signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGCHLD]
        for number in self._random.choices(numbers, k=self._random.randint(2, 10)):
            self._signal(self.live.pid, number)

    def _grow(self) -> None:
        self._send_own(f"/grow/{self._random.choice([30, 80, 160])}")

    def _hang(self) -> None:
        self._send_own("/hang")

    def _send_own(self, path: str) -> None:
        """Ask something whose answer nobody waits for."""
        self._asked += 1
        with contextlib.suppress(OSError):  # nobody is there to accept now, and the queue is full
            connection = Connection(self.live.port, 1)
            self._own.append(connection)
            connection.ask(f"{path}?own.{self._asked}", extra="Connection: close\r\n")

    def _break(self) -> None:
        """New code that cannot boot; for a moment, since whoever dies meanwhile is not replaced."""
        self._write(BROKEN)
        self._signal(self.live.pid, signal.SIGHUP)
        self._watch(0.3)
        self._kill()
        self._watch(self._random.uniform(0.3, 1.0))
        self._write(self.source(self._version))

    def _deploy(self) -> None:
        self._version += 1
        self._write(self.source(self._version))
        self._signal(self.live.pid, signal.SIGHUP)

    def _write(self, source: str) -> None:
        new = self.live.folder / "app.py.new"
        new.write_text(source)
        new.replace(self.live.folder / "app.py")

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # ended by itself
            os.kill(pid, number)

    def _watch(self, seconds: float) -> None:
        """Let time pass, continue who was stopped, read the log."""
        ends = time.monotonic() + seconds
        while (now := time.monotonic()) < ends:
            due = [pid for moment, pid in self._stopped if moment <= now]
            self._stopped = [(moment, pid) for moment, pid in self._stopped if moment > now]
            for pid in due:
                self._go_on(pid)
            self.records.read()
            self._pace.wait(min(0.05, max(0.0, ends - now)))

    def _go_on(self, pid: int) -> None:
        state = process_state(pid)
        # The number may be somebody else's by now, who does not mind.
        if state is not None and state[0] in "Tt":
            self._signal(pid, signal.SIGCONT)

    # Afterwards

    def _reload(self) -> None:
        said = self.live.log().count("Reload complete")
        self._signal(self.live.pid, signal.SIGHUP)
        self.live.wait_log("Reload complete", 30, count=said + 1)

    def _calm(self, descriptors: int) -> None:
        """Back to what it should be: as many workers as were wanted, all of the newest code; nothing left over."""
        for _, pid in self._stopped:
            self._go_on(pid)
        self._version += 1
        self._write(self.source(self._version))
        live = self.live
        self._watch(1.0)
        self._signal(live.pid, signal.SIGHUP)

        def whole() -> bool:
            self.records.read()
            return (
                len(live.children()) == self._children
                and has_at_most(live.pid, descriptors)
                and not children_of(live.pid, zombies=True)
                and self._all_new()
            )

        try:
            wait_until(whole, 40, "full strength, newest code, no zombie, no descriptor more than before")
        except AssertionError as error:
            state = [len(live.children()), len(descriptors_of(live.pid)) - descriptors]
            self.complaints.append(f"{error}; children and descriptors too many: {state}")
        self._watch(SEEN_S)

    def _all_new(self) -> bool:
        for _ in range(5):
            try:
                with Connection(self.live.port, 5) as connection:
                    answer = connection.exchange("/?own.0", extra="Connection: close\r\n").body.split()
            except (OSError, BrokenResponse):
                return False
            if answer[:1] != [str(self._version).encode()]:
                return False
        return True

    def _judge(self, witnesses: Witnesses) -> None:
        journal = dict(
            line.split()[:2]
            for line in (self.live.folder / "journal").read_text().splitlines()
            if len(line.split()) > 1
        )
        dead = self.records.pids()
        self.answered = witnesses.answered
        for loss in witnesses.losses:
            holder = journal.get(loss.name)
            if holder is not None:
                excused = int(holder) in dead
            else:
                # It was read, or waited, in a worker that never got to it.
                first, last = loss.sent_at - SEEN_S, loss.lost_at + SEEN_S
                # Its record may be late: the arbiter may have been stopped.
                excused = any(first <= moment <= last for moment in [*self.records.moments(), *self._killed.values()])
            self.excused += excused
            if not excused:
                self.complaints.append(f"lost without a death: {loss}, worker {holder}")
        log = self.live.log()
        told = dead | {int(pid) for pid in GONE.findall(log)}
        self.complaints += [f"no record of the death of {pid}" for pid in set(self._killed) - told]
        if "internal error" in log:
            self.complaints.append("an internal error is in the log")
        if not witnesses.answered:
            self.complaints.append("nothing was answered")

    def end(self) -> None:
        """Stop the server, and look at what it leaves."""
        code = self.live.stop(timeout_s=30)
        if code:
            self.complaints.append(f"exit code {code}")
        with contextlib.suppress(AssertionError):  # complained about in the next line
            wait_until(lambda: not self.live.members(), 5)
        left = [*map(str, self.live.members()), *os.listdir(self._temporary)]
        left += sorted(heartbeat_files() - self._shared_before)
        if left:
            self.complaints.append(f"left behind: {left}")

    def summary(self) -> str:
        """The figures in one line."""
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        memory = f"{self.memory_before_kib} -> {self.memory_after_kib} KiB"
        return (
            f"{sum(self.faults.values())} faults ({faults}); {len(self.records.deaths)} deaths recorded; "
            f"{self.answered} requests answered, {self.excused} lost with their workers; arbiter's memory {memory}"
        )
