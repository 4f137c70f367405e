"""Clients that keep their connections and clients that make new ones; each request becomes a line of a file.

    python -m examples.three_hosts.load 10.77.0.1 8000 requests.tsv

Runs until TERM, and lets requests in progress end.
"""

import argparse
import dataclasses
import http.client
import pathlib
import signal
import threading
import time
from typing import TextIO

PAUSE_S = 0.04
"""Between two requests of a client: of interest is what is lost, not how much fits."""
KINDS = ("kept", "new")
CLIENTS = 12
"""Half of them of each kind."""
TIMEOUT_S = 20.0
PLAN = (("GET", "/"), ("GET", "/slow"), ("GET", "/"), ("POST", "/"), ("GET", "/slow"))


@dataclasses.dataclass(frozen=True)
class Request:
    """One request and what became of it; ``host`` is empty where the proxy has responded, or nothing has."""

    began: float
    seconds: float
    client: int
    kind: str
    method: str
    result: str
    host: str = ""
    version: str = ""
    price: str = ""

    def line(self) -> str:
        """As it is written."""
        return "\t".join(str(value) for value in dataclasses.astuple(self)) + "\n"

    @staticmethod
    def of(line: str) -> "Request":
        """As it was written."""
        began, seconds, client, *words = line.rstrip("\n").split("\t")
        return Request(float(began), float(seconds), int(client), *words)

    @property
    def is_lost(self) -> bool:
        """Whether its client has no response of the application."""
        return self.result != "200"


class Client(threading.Thread):
    """One client, with a number of its own; ``kind`` is ``kept`` or ``new``, as its connections are."""

    def __init__(self, address: tuple[str, int], kind: str, number: int, file: TextIO) -> None:
        super().__init__()
        self._address = address
        self._kind = kind
        self._number = number
        self._file = file
        self.stopping = threading.Event()

    def run(self) -> None:
        """Send one request after another."""
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
        count = self._number // len(KINDS)
        while not self.stopping.wait(PAUSE_S):
            count += 1
            request = self._send(connection, *PLAN[count % len(PLAN)])
            self._file.write(request.line())
            if self._kind == "new" or request.is_lost:
                connection.close()
        connection.close()

    def _send(self, connection: http.client.HTTPConnection, method: str, path: str) -> Request:
        began = time.monotonic()
        found = dict.fromkeys(("X-Host", "X-Version", "X-Price"), "")
        try:
            connection.request(method, path, b"one book" if method == "POST" else None)
            response = connection.getresponse()
            response.read()
            result = str(response.status)
            found = {name: response.headers.get(name, "") for name in found}
        except (OSError, http.client.HTTPException) as error:
            result = type(error).__name__
        return Request(began, time.monotonic() - began, self._number, self._kind, method, result, *found.values())


def main() -> None:
    """Start the clients, and end them on TERM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=pathlib.Path)
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with options.file.open("a", buffering=1) as file:
        address = (options.host, options.port)
        clients = [Client(address, KINDS[number % 2], number, file) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()


if __name__ == "__main__":
    main()
