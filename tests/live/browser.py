"""A real browser for tests: headless Chromium, spoken to by the Chrome DevTools Protocol."""

import contextlib
import json
import pathlib
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import simple_websocket

from tests.conftest import wait_until

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LONGEST_S = 90
"""A browser takes long to start on a busy machine."""


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


@contextlib.contextmanager
def opened(profile: pathlib.Path, width: int, height: int) -> Iterator[Page]:
    """The one empty page of a browser with this width and height, which uses the folder ``profile``."""
    assert BROWSER is not None
    with contextlib.ExitStack() as owned:
        command = [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--remote-debugging-port=0", "--remote-allow-origins=*",
            "--hide-scrollbars", f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank",
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
        yield page
