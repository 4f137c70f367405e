"""What becomes of clients under each scheduling policy while workers are replaced, added and killed."""

import contextlib
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator

from scheduling_servers import Server, answer_of, connect, nginx, serving, wait_for

FORMS = {
    "address": ("--sticky", "address", "--forwarded-hops", "1"),
    "header": ("--sticky", "header:X-User"),
    "cookie": ("--sticky", "cookie"),
}
STICKY_CLIENTS = 200
THREADS = 6
PASSES_AT_ONCE = 40


class Clients:
    """Many clients, each with its own connection for each request, and the slot that has served each first."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._home: dict[int, bytes] = {}
        self._cookies: dict[int, bytes] = {}
        self.asked = self.moved = 0

    def ask_all(self) -> None:
        """One request of each."""
        for number in range(STICKY_CLIENTS):
            fields = b"X-User: u%d\r\nX-Forwarded-For: 203.0.113.%d\r\n" % (number, number)
            if number in self._cookies:
                fields += b"Cookie: " + self._cookies[number] + b"\r\n"
            client = connect(self._port)
            with contextlib.closing(client):
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + fields + b"Connection: close\r\n\r\n")
                head, slot = answer_of(client)
            cookie = head.lower().partition(b"\r\nset-cookie: ")[2].partition(b";")[0]
            if cookie:
                self._cookies[number] = cookie
            self.asked += 1
            self.moved += slot != self._home.setdefault(number, slot)

    def settle(self) -> None:
        """Whoever serves a client now is where it belongs."""
        self._home.clear()
        self.ask_all()
        self.asked = self.moved = 0


def reload(server: Server, clients: Clients) -> None:
    """HUP, with requests all the while."""
    server_pid = server.pid
    done = server.said("Reload complete")
    os.kill(server_pid, signal.SIGHUP)
    while server.said("Reload complete") == done:
        clients.ask_all()


def kill(server: Server, clients: Clients) -> None:
    """KILL one worker, with requests until there is another one."""
    victim = server.workers[0]
    os.kill(victim, signal.SIGKILL)
    while victim in server.workers or len(server.workers) < 4:
        clients.ask_all()
    clients.ask_all()


def upgrade(server: Server, clients: Clients) -> None:
    """USR2 and TERM, with requests all the while."""
    server.upgrade(clients.ask_all)
    clients.ask_all()


def scale_up(server: Server, clients: Clients) -> None:
    """TTIN, and requests once there is one worker more."""
    before = server.said("is ready after")
    os.kill(server.pid, signal.SIGTTIN)
    wait_for(lambda: server.said("is ready after") > before, "one worker more is ready")
    clients.ask_all()


PHASES: dict[str, Callable[[Server, Clients], None]] = {
    "a reload": reload,
    "a worker's KILL": kill,
    "a USR2 upgrade": upgrade,
    "scaling up by one": scale_up,
}


def stickiness() -> Iterator[str]:
    """How many requests were served elsewhere than a client's first ones, by form and event."""
    ways = [False, True] if shutil.which("nginx") else [False]
    for form, arguments in FORMS.items():
        for through_nginx in ways:
            with contextlib.ExitStack() as owned:
                server = owned.enter_context(serving(*arguments))
                port = owned.enter_context(nginx(server.port)) if through_nginx else server.port
                clients = Clients(port)
                found = []
                for name, phase in PHASES.items():
                    clients.settle()
                    phase(server, clients)
                    found.append(f"{name} {clients.moved} of {clients.asked}")
            where = "behind nginx" if through_nginx else "direct"
            yield f"sticky by {form}, {where}: requests that were served elsewhere: {'; '.join(found)}"


class Load:
    """Clients that connect anew for each request; how each ended, and the longest that one has waited."""

    def __init__(self, port: int) -> None:
        self.answers = self.ends = 0
        self.waits: list[float] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(THREADS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, thread: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            fields = b"X-User: u%d-%d\r\nConnection: close\r\n" % (thread, number)
            began = time.monotonic()
            try:
                with contextlib.closing(connect(self._port)) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n")
                    answer_of(client)
                self.answers += 1
            except ConnectionError:
                self.ends += 1
            self.waits.append(time.monotonic() - began)


def kills(policies: dict[str, tuple[str, ...]], count: int) -> Iterator[str]:
    """How clients end, and how long they wait, while random workers are killed."""
    chance = random.Random(7)
    for name, arguments in policies.items():
        with serving(*arguments) as server:
            with Load(server.port) as load:
                for _ in range(count):
                    os.kill(chance.choice(server.workers), signal.SIGKILL)
                    ready = server.said("is ready after")
                    time.sleep(chance.uniform(0, 0.1))
                    wait_for(lambda: server.said("is ready after") > ready, "another worker is ready")  # noqa: B023
                wait_for(lambda: len(server.workers) == 4, "all workers are there again")
        late = sum(wait > 1 for wait in load.waits)
        yield (
            f"{name}: {count} workers killed: {load.answers} answers, {load.ends} ends without one; "
            f"longest wait {max(load.waits):.2f} s, {late} longer than 1 s"
        )


def passes(count: int) -> Iterator[str]:
    """Whether descriptors stay as many as they are, however many connections are passed on."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with serving("--scheduling", "round-robin") as server:

        def some(passed: int) -> None:
            for _ in range(passed // PASSES_AT_ONCE):
                clients = [connect(server.port) for _ in range(PASSES_AT_ONCE)]
                for client in clients:
                    client.sendall(request)
                for client in clients:
                    while client.recv(4096):
                        pass
                    client.close()

        some(1000)
        before = server.descriptors()
        some(count)
        after = server.descriptors()
    yield f"round-robin: descriptors of all processes before and after {count} connections: {before}, {after}"


def stopped(policies: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """How long clients wait while one of the workers is stopped by a signal."""
    for name, arguments in policies.items():
        with serving(*arguments, "--timeout", "0") as server:
            victim = server.workers[0]
            with Load(server.port) as load:
                wait_for(lambda: load.answers > 100, "clients are served")
                os.kill(victim, signal.SIGSTOP)
                time.sleep(5)
            os.kill(victim, signal.SIGCONT)
        late = sum(wait > 0.5 for wait in load.waits)
        yield (
            f"{name}: one of 4 workers stopped for 5 s: {load.answers} answers, {load.ends} ends without one; "
            f"{late} have waited for longer than 0.5 s, at most {max(load.waits):.2f} s"
        )
