"""The listener for HAProxy's agent-check: what it sends, and that the real HAProxy acts on it."""

import contextlib
import pathlib
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import LiveServer, StartServer, find_free_ports, wait_until
from tests.live.test_admin import ask, wait_admin

pytestmark = pytest.mark.live

SOURCE = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


def check(port: int, said: bytes = b"") -> str:
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        if said:
            sock.sendall(said)
        with sock.makefile("rb") as file:
            return file.read().decode()


def start(server: StartServer, port: int, *arguments: str) -> LiveServer:
    live = server("app", "--admin", "0", "--haproxy-agent", str(port), *arguments, source=SOURCE)
    live.wait_log("Started: ")
    wait_admin(live)
    return live


def test_what_is_sent(server: StartServer, free_port: int) -> None:
    live = start(server, free_port, "-w", "2", "--drain-delay", "60")
    live.wait_log(rf"HAProxy agent at: tcp://127\.0\.0\.1:{free_port}")
    for said in (b"", b"state?\n", b"x" * 10_000):
        assert check(free_port, said) == "up ready 100%\n"
    with contextlib.ExitStack() as silent:
        for _ in range(100):  # more than it keeps
            silent.enter_context(socket.create_connection(("127.0.0.1", free_port), 20))
        assert check(free_port) == "up ready 100%\n"
    assert ask(live, "/livez").status == 200
    live.send(signal.SIGTERM)
    live.wait_log("SIGTERM")
    wait_until(lambda: check(free_port) == "drain\n", 10, "it drains")


def test_a_reload_moves_it(server: StartServer, tmp_path: pathlib.Path) -> None:
    first, second = find_free_ports(2)
    settings = "admin = '127.0.0.1:0'\nhaproxy_agent = '127.0.0.1:{}'\n"
    (tmp_path / "settings.py").write_text(settings.format(first))
    live = server("app", "-c", "settings.py", source=SOURCE)
    wait_admin(live)
    assert check(first) == "up ready 100%\n"
    (tmp_path / "settings.py").write_text(settings.format(second))
    live.send(signal.SIGHUP)
    wait_admin(live, 2)
    wait_until(lambda: check(second) == "up ready 100%\n", 20, "it responds at the new address")
    live.wait_log(f"No admin worker any more at: 127.0.0.1:{first}")


@pytest.fixture
def proxied(server: StartServer, tmp_path: pathlib.Path) -> Iterator[tuple[LiveServer, pathlib.Path, int]]:
    """A server behind HAProxy; the socket of its statistics, and its port."""
    if HAPROXY is None:
        pytest.skip("needs HAProxy")
    agent, front = find_free_ports(2)
    live = start(server, agent, "-w", "2", "--drain-delay", "60")
    stats = tmp_path / "stats.sock"
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(
        f"""
global
    stats socket {stats} mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend front
    bind 127.0.0.1:{front}
    default_backend shop
backend shop
    default-server weight 100 check inter 100ms agent-inter 100ms
    server one 127.0.0.1:{live.port} agent-check agent-addr 127.0.0.1 agent-port {agent}
"""
    )
    process = subprocess.Popen(
        [HAPROXY, "-db", "-f", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield live, stats, front
    finally:
        process.terminate()
        process.wait(20)


def states(stats: pathlib.Path) -> dict[str, str]:
    """The fields of the server in HAProxy's statistics; empty before it listens."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(stats))
        sock.sendall(b"show stat\n")
        with sock.makefile() as file:
            names, *rows = [line.removeprefix("# ").rstrip(",\n").split(",") for line in file if line.strip()]
        return next(dict(zip(names, row, strict=False)) for row in rows if row[:2] == ["shop", "one"])
    return {}


def test_haproxy_acts_on_it(proxied: tuple[LiveServer, pathlib.Path, int]) -> None:
    live, stats, _ = proxied
    wait_until(lambda: states(stats).get("agent_status") in ("L7OK", "L4OK"), 20, "HAProxy has asked")
    wait_until(lambda: (states(stats)["status"], states(stats)["weight"]) == ("UP", "100"), 20, "it is up")
    live.send(signal.SIGTERM)
    wait_until(lambda: states(stats)["status"].startswith("DRAIN"), 20, "HAProxy sends no new clients")
