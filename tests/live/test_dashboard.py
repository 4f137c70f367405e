"""The dashboard in a real browser: it shows what happens, reloads, and asks nobody else for anything."""

import contextlib
import json
import pathlib
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import simple_websocket

from tests.conftest import StartServer, wait_until
from tests.live.test_admin import APP, TOKEN, admin_port, wait_admin

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LONGEST_S = 90
"""A browser takes long to start on a busy machine."""

pytestmark = [pytest.mark.live, pytest.mark.skipif(BROWSER is None, reason="needs Chromium")]


class Page:
    """One page of a browser, by the Chrome DevTools Protocol; ``messages`` are the events that have come."""

    def __init__(self, address: str) -> None:
        self._socket = simple_websocket.Client.connect(address)
        self._number = 0
        self.messages: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            received = self._socket.receive(timeout=LONGEST_S)
            assert received is not None, f"no answer to {method}"
            message: dict[str, Any] = json.loads(received)
            if message.get("id") == self._number:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found
            self.messages.append(message)

    def value(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def text(self, name: str) -> str:
        return str(self.value(f"document.getElementById({json.dumps(name)})?.textContent ?? ''"))

    def of(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all events of a method so far."""
        return [each["params"] for each in self.messages if each.get("method") == method]

    def close(self) -> None:
        self._socket.close()


def _first_page(port: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as response:
            found = json.load(response)
    except OSError:
        return None
    return next((str(each["webSocketDebuggerUrl"]) for each in found if each["type"] == "page"), None)


@pytest.fixture
def open_page(tmp_path: pathlib.Path) -> Iterator[Callable[[int, int], Page]]:
    """Opens the one empty page of a browser with this width and height."""
    with contextlib.ExitStack() as owned:

        def start(width: int, height: int) -> Page:
            assert BROWSER is not None
            profile = tmp_path / "browser"
            command = [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--remote-debugging-port=0", "--remote-allow-origins=*",
                f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank",
            ]  # fmt: skip
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            owned.callback(process.wait, 30)
            owned.callback(process.kill)
            told = profile / "DevToolsActivePort"
            wait_until(lambda: told.exists() and "\n" in told.read_text(), LONGEST_S, "the browser has started")
            port = told.read_text().splitlines()[0]
            address = wait_until(lambda: _first_page(port), LONGEST_S, "the browser has a page")
            assert address
            page = Page(address)
            owned.callback(page.close)
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.call(f"{domain}.enable")
            return page

        yield start


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)], ids=["desk", "phone"])
def test_it_shows_what_happens_and_reloads(
    server: StartServer, open_page: Callable[[int, int], Page], width: int, height: int
) -> None:
    live = server("app:app", "-w", "2", "--admin", "0", "--admin-token", TOKEN, source=APP)
    live.wait_log("Started: 2 workers serve")
    wait_admin(live)
    page = open_page(width, height)
    page.call("Page.navigate", url=f"http://127.0.0.1:{admin_port(live)}/")

    def wait_text(name: str, words: str) -> None:
        wait_until(lambda: words in page.text(name), LONGEST_S, f"{name}: {words}")

    wait_text("state", "serving")
    wait_text("about", "2 of 2 workers ready")
    wait_text("events", "ready: worker 2")
    assert page.value("document.querySelectorAll('#workers tr').length") == 2
    assert page.value("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off"
    page.value(f"document.getElementById('token').value = {json.dumps(TOKEN)}")
    page.value("document.getElementById('count').value = 3; document.getElementById('scale').click()")
    wait_text("about", "3 of 3 workers ready")
    wait_text("events", "scale: server, 3 workers")
    page.value("document.getElementById('reload').click()")
    wait_text("result", "Reload complete: generation 2 serves.")
    wait_text("about", "generation 2")
    wait_until(lambda: page.value("document.getElementById('lost').hidden"), LONGEST_S, "it is connected again")
    page.value("document.getElementById('token').value = 'wrong-but-long-enough'")

    def is_refused() -> bool:
        # The connection that it uses may be one that the admin worker before this one has closed.
        if page.text("result") != "Reload requested …":
            page.value("document.getElementById('reload').click()")
        return "the token is wrong" in page.text("result")

    wait_until(is_refused, LONGEST_S, "a wrong token is refused")

    hosts = {urllib.parse.urlsplit(each["request"]["url"]).netloc for each in page.of("Network.requestWillBeSent")}
    assert hosts <= {f"127.0.0.1:{admin_port(live)}", ","}, "it asks nobody else"
    assert not page.of("Runtime.exceptionThrown")
    # A response of 401 is logged by the browser, and so is a connection that a reload has ended.
    violations = [each["entry"]["text"] for each in page.of("Log.entryAdded") if each["entry"]["source"] == "security"]
    assert not violations
