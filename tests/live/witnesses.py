"""Clients that ask all the time and remember each request that was not answered, and when that was."""

import dataclasses
import threading
import time

from tests.live.client import BrokenResponse, Connection


@dataclasses.dataclass(frozen=True)
class Loss:
    """A request without its answer; times are monotonic."""

    name: str
    sent_at: float
    lost_at: float
    how: str


class Witnesses:
    """Clients that ask all the time and remember what was not answered; every second one keeps its connection."""

    def __init__(self, port: int, clients: int) -> None:
        self.answered = 0
        self.losses: list[Loss] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(clients)]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self, number: int) -> None:
        connection: Connection | None = None
        count = 0
        while not self._stop.wait(0.01):
            count += 1
            name = f"{number}.{count}"
            if connection is not None and has_ended(connection):
                connection.close()
                connection = None
            sent_at = time.monotonic()
            try:
                connection = connection or Connection(self._port, 30)
                path = f"{'/slow/0.05' if count % 5 == 0 else '/'}?{name}"
                extra = "" if number % 2 else "Connection: close\r\n"
                response = connection.exchange(path, "POST", b"0123456789", extra)
                if response.status == 200:
                    self.answered += 1
                else:
                    self.losses.append(Loss(name, sent_at, time.monotonic(), f"{response.status} {response.body!r}"))
                ended = response.closes
            except (OSError, BrokenResponse) as error:
                self.losses.append(Loss(name, sent_at, time.monotonic(), repr(error)))
                ended = True
            if ended and connection is not None:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


def has_ended(connection: Connection) -> bool:
    """Whether the server has closed a connection on which nothing was asked."""
    connection.sock.setblocking(False)
    try:
        return not connection.sock.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.sock.settimeout(30)
