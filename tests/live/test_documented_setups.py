"""The setups of the pages, with their own commands and configuration: only ports and folders are the test's."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import simple_websocket

from tests.conftest import ROOT, StartServer, find_free_ports, wait_until
from tests.live.client import fetch
from tests.live.proxies import CLIENT, NGINX_BEGINNING, Client, Proxy, listens, program

pytestmark = pytest.mark.live

WHO = """
import flask, flask_sock

app = flask.Flask(__name__)
sock = flask_sock.Sock(app)

@app.get("/")
def index():
    return f"{flask.request.environ['REMOTE_ADDR']} {flask.request.script_root}"

app.get("/who")(index)

@sock.route("/echo")
def echo(ws):
    while True:
        ws.send(ws.receive())
"""


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.rst").read_text("utf-8")


def nginx_blocks(name: str) -> list[str]:
    """The pieces of nginx's configuration on a page."""
    return re.findall(r"code-block:: nginx\n\n((?:(?: {4}.*)?\n)+)", page(name))


def arguments_on(name: str) -> list[str]:
    """Those of the first command of the server on a page, for any application and address."""
    found = re.search(r"^    wsgicluster ((?:.*\\\n)*.*)$", page(name), re.MULTILINE)
    assert found
    words = shlex.split(found[1].replace("\\\n", " "))
    for flag in ("--chdir", "-w", "-b"):
        place = words.index(flag)
        del words[place : place + 2]
    return [word for word in words if not word.startswith("flask_app")]


def test_nginx_as_its_page_has_it(server: StartServer, tmp_path: pathlib.Path) -> None:
    nginx = program("nginx")
    socket_file = tmp_path / "shop.sock"
    site, below = nginx_blocks("howto/nginx")[:2]
    (upgrades,) = nginx_blocks("howto/websockets")
    (port,) = find_free_ports(1)
    end = site.rstrip().rindex("}")
    text = (site[:end] + below + upgrades + site[end:]).replace("/run/shop/shop.sock", str(socket_file))
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    (tmp_path / "nginx.conf").write_text(f"{NGINX_BEGINNING}{text}}}\n", "utf-8")
    arguments = ("-w", "1", "--threads", "4", "--raw-socket", *arguments_on("howto/nginx"))
    server("app:app", *arguments, source=WHO, bind=f"unix:{socket_file}", listening=False).wait_log("is ready")
    with Proxy(tmp_path, [nginx, "-p", f"{tmp_path}/", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]) as proxy:
        proxy.wait(lambda: listens(port), "nginx listens")
        with Client(port) as client:
            assert client.exchange("/").decode() == f"{CLIENT} "
            # Written by the client itself, in front of what nginx writes.
            assert client.exchange("/", headers={"X-Forwarded-For": "192.0.2.9"}).decode() == f"{CLIENT} "
            assert client.exchange("/shop/who").decode() == f"{CLIENT} /shop"
        for _ in range(2):
            socket = simple_websocket.Client(f"ws://127.0.0.1:{port}/echo")
            socket.send("through nginx")
            assert socket.receive(timeout=10) == "through nginx"
            socket.close()


def test_the_tutorial_from_its_application_to_its_end(server: StartServer, tmp_path: pathlib.Path) -> None:
    text = page("tutorial/flask")
    source = re.search(r"code-block:: python\n\n((?:(?: {4}.*)?\n)+)", text)
    assert source
    folder = tmp_path / "shop"
    folder.mkdir()
    application = folder / "app.py"
    application.write_text(re.sub("^    ", "", source[1], flags=re.MULTILINE), "utf-8")
    command = re.search(r"^    wsgicluster (--chdir shop .*)$", text, re.MULTILINE)
    assert command
    live = server(*shlex.split(command[1]))
    assert fetch(live.port).body.startswith(b"Version 1")

    def type_in(pattern: str) -> str:
        found = re.search(rf"^    ({pattern}.*)$", text, re.MULTILINE)
        assert found
        line = found[1].replace("127.0.0.1:8000", f"127.0.0.1:{live.port}")
        environ = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}
        return subprocess.run(
            line, shell=True, cwd=tmp_path, env=environ, check=True, capture_output=True
        ).stdout.decode()

    application.write_text(application.read_text("utf-8").replace("Version 1", "Version 2"), "utf-8")
    type_in("kill -HUP")
    waited_for = re.search(r"When the log says ``(.+?)``", text)
    assert waited_for
    live.wait_log(waited_for[1])
    # The last of the old workers may still be about to close its listener: nobody types as fast as that.
    wait_until(lambda: all(fetch(live.port).body.startswith(b"Version 2") for _ in range(20)), 10)
    application.write_text(application.read_text("utf-8").replace("Flask(__", "Flusk(__"), "utf-8")
    type_in("kill -HUP")
    live.wait_log("Reload aborted")
    assert fetch(live.port).body.startswith(b"Version 2")
    type_in("kill -TERM")
    assert live.wait_end() == 0
