"""What tests with the programs of others share: the programs themselves, and a client with an address of its own."""

import http.client
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.conftest import descriptors_of, wait_until

NGINX_FOLDERS = """
    access_log off;
    client_body_temp_path bodies;
    proxy_temp_path answers;
    fastcgi_temp_path others;
    uwsgi_temp_path others;
    scgi_temp_path others;
"""
NGINX_BEGINNING = f"""
daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 256; }}
http {{{NGINX_FOLDERS}"""
"""How a test's configuration of nginx begins, up to what is in ``http``.

One process, without a master: it keeps the user that may read the test's folder, and is ended by one signal. Every
folder that nginx would make in the system's places is made below its prefix instead.
"""

CLIENT = "127.0.0.2"
"""Not a proxy's own address, so that nobody can take the one for the other."""


def program(*names: str) -> str:
    """The path of the first of these programs that is installed; without any of them the test is skipped."""
    # Those for system administration are not on everybody's path.
    folders = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    found = filter(None, (shutil.which(name, path=folders) for name in names))
    return next(found, "") or pytest.skip(f"needs the program {names[0]}, which is not installed here")


class Proxy:
    """A proxy as a process in the foreground; its words go to a file in its folder.

    ``environ`` has variables that its configuration uses.
    """

    def __init__(self, folder: pathlib.Path, command: list[str], environ: Mapping[str, str] | None = None) -> None:
        self.log_path = folder / f"{pathlib.Path(command[0]).name}.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, however it is, and show its log."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        print(f"--- {self.process.args!r} (pid {self.process.pid}, exit {self.process.returncode})\n{self.log()}")

    def log(self) -> str:
        """All that the proxy has said so far."""
        return self.log_path.read_text("utf-8", "replace")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; a proxy that ends first is not waited for."""
        wait_until(lambda: condition() or self.process.poll() is not None, 10, what)
        assert self.process.poll() is None, f"the proxy ended ({self.process.returncode}): {self.log()}"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def sockets_of(pid: int) -> set[str]:
    """The sockets of a process, each with its inode's number: a renewed connection is another one."""
    return {name for name in descriptors_of(pid).values() if name.startswith("socket:")}


class Client:
    """A client with an address of its own, which keeps its connection."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, address: str = CLIENT) -> None:
        source = (address, 0)
        self.connection = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=source)
            if context is None
            else http.client.HTTPSConnection("127.0.0.1", port, timeout=20, source_address=source, context=context)
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def exchange(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
        """The body of the answer, which has to be 200; a body that is an iterable is sent in chunks."""
        self.connection.request("GET" if body is None else "POST", path, body, headers or {})
        response = self.connection.getresponse()
        answer = response.read()
        assert response.status == 200, (response.status, answer[:200])
        return answer

    def environ(self, path: str = "/environ", headers: dict[str, str] | None = None) -> dict[str, Any]:
        """What the application was told about a request."""
        found: dict[str, Any] = json.loads(self.exchange(path, None, headers))
        return found
