"""A real Redis server for tests, to be stopped, slowed and started again; and a way to it that can be cut."""

import contextlib
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.conftest import find_free_ports, wait_until

PROGRAM = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(PROGRAM is None, reason="there is no redis-server on this machine")


class RedisServer:
    """One server; its data last as long as it runs."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self.port = find_free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *arguments: str) -> "RedisServer":
        """Start it and wait until it responds."""
        assert PROGRAM is not None
        command = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command += ["--save", "", "--enable-debug-command", "yes", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self._responds, 10, "redis-server responds")
        return self

    def _responds(self) -> bool:
        with contextlib.suppress(redis.exceptions.ConnectionError), self.client() as client:
            return bool(client.ping())
        return False

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """A client of the test's own."""
        client: Any = redis.Redis(port=self.port)
        try:
            yield client
        finally:
            client.close()

    def slow(self, seconds: float) -> None:
        """Have it respond to nothing for so long; returns at once."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.sendall(f"DEBUG SLEEP {seconds}\r\n".encode())
        connection.close()

    def freeze(self) -> None:
        """Have it accept and not respond, until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it respond again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


class Sentinel:
    """One that decides alone, about the primary at a port, which it calls ``shop``; ``more`` are lines of its file."""

    def __init__(self, folder: pathlib.Path, primary: int, *more: str, password: str = "") -> None:
        assert PROGRAM is not None
        self.port = find_free_ports(1)[0]
        configuration = folder / "sentinel.conf"
        lines = [
            f"port {self.port}", "bind 127.0.0.1", f"dir {folder}", f"sentinel monitor shop 127.0.0.1 {primary} 1",
            "sentinel down-after-milliseconds shop 500", "sentinel failover-timeout shop 5000", *more,
        ]  # fmt: skip
        if password:
            lines.append(f"requirepass {password}")
        configuration.write_text("\n".join(lines))
        self._password = password or None
        self._process = subprocess.Popen([PROGRAM, str(configuration), "--sentinel"], stdout=subprocess.DEVNULL)
        wait_until(self._responds, 10, "the Sentinel responds")

    def _responds(self) -> bool:
        with contextlib.suppress(redis.exceptions.ConnectionError):
            return bool(self.ask("PING"))
        return False

    def ask(self, *command: str) -> Any:
        """The response to a command."""
        client: Any = redis.Redis(port=self.port, password=self._password, protocol=2)
        try:
            return client.execute_command(*command)
        finally:
            client.close()

    def wait_replica(self) -> None:
        """Wait until it knows a replica that it can promote."""

        def is_there() -> bool:
            known = [dict(zip(each[::2], each[1::2], strict=True)) for each in self.ask("SENTINEL", "REPLICAS", "shop")]
            return any((each[b"flags"], each[b"master-link-status"]) == (b"slave", b"ok") for each in known)

        wait_until(is_there, 30, "the Sentinel knows the replica")

    def stop(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(10)


@contextlib.contextmanager
def running_redis(folder: pathlib.Path) -> Iterator[RedisServer]:
    """A server for as long as the context lasts."""
    server = RedisServer(folder)
    try:
        yield server.start()
    finally:
        server.stop()


class Way:
    """A port that leads to another one, until it is cut; what it forwards may take ``delay_s`` longer each way."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.delay_s = 0.0
        self._open: list[socket.socket] = []
        self._is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def lead_to(self, target: int) -> None:
        """Lead new connections to another port; those that are open stay where they are."""
        self._target = target

    def cut(self) -> None:
        """Close all connections, and each new one at once."""
        self._is_cut = True
        for sock in self._open:
            with contextlib.suppress(OSError):  # closed by the other end
                sock.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    def close(self) -> None:
        """Close everything."""
        self.cut()
        self._listener.close()
        for sock in self._open:
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                if self._is_cut:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):  # cut
            while data := one.recv(65536):
                if self.delay_s:
                    threading.Event().wait(self.delay_s)
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
