"""Makes the pictures of the dashboard that the pages show, of a server under load.

``PYTHONPATH=. .venv/bin/python docs/screenshots.py``, with Chromium installed.
"""

import base64
import contextlib
import pathlib
import tempfile
import threading
import time
from collections.abc import Iterator

from tests.conftest import LiveServer, find_free_ports, wait_until
from tests.live.browser import LONGEST_S, opened
from tests.live.client import Connection

HERE = pathlib.Path(__file__).parent
SIZES = {"dashboard": (1440, 900), "dashboard-phone": (390, 844)}
CLIENTS = 6
SHOWN_S = 25
"""How long the figures run before the picture is taken, so that their lines have something to show."""

SOURCE = """
import random, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/report":
        time.sleep(20)
    time.sleep(random.expovariate(100))
    if path == "/missing":
        start_response("404 Not Found", [("Content-Length", "0")])
        return [b""]
    if path == "/fail":
        raise ValueError("on purpose")
    body = b"x" * random.randrange(100, 20_000)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
PATHS = (*["/", "/catalogue", "/basket"] * 30, "/missing", "/missing", "/fail")


def browse(port: int, stop: threading.Event, first: int) -> None:
    """Ask for one page after the other, as one client does."""
    turn = first
    while not stop.is_set():
        with contextlib.suppress(OSError), Connection(port) as client:
            closes = False
            while not (closes or stop.wait(0.01)):
                turn += 7
                closes = client.exchange(PATHS[turn % len(PATHS)]).closes


@contextlib.contextmanager
def busy_server(folder: pathlib.Path, admin: int) -> Iterator[LiveServer]:
    """A server with clients."""
    (folder / "shop.py").write_text(SOURCE, "utf-8")
    arguments = ["-b", "127.0.0.1:0", "shop", "-k", "gthread", "--threads", "4", "-w", "4", "--admin", str(admin)]
    live = LiveServer(folder, [*arguments, "--timeout", "60"], {})
    stop = threading.Event()
    try:
        live.start().wait_log("Started: ", 30)
        for number in range(CLIENTS):
            threading.Thread(target=browse, args=(live.port, stop, number), daemon=True).start()
        yield live
    finally:
        stop.set()
        live.end()


def main() -> None:
    """Take each picture."""
    (admin,) = find_free_ports(1)
    with tempfile.TemporaryDirectory() as name, busy_server(pathlib.Path(name), admin) as live:
        for picture, (width, height) in SIZES.items():
            with opened(pathlib.Path(name) / picture, width, height) as page, Connection(live.port, 60) as slow:
                page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                          mobile=False)  # fmt: skip
                page.call("Page.navigate", url=f"http://127.0.0.1:{admin}/")
                wait_until(lambda page=page: "ready: worker 4" in page.text("events"), LONGEST_S)  # type: ignore[misc]
                time.sleep(SHOWN_S - 5)
                slow.ask("/report")
                time.sleep(5)
                found = page.call("Page.captureScreenshot", format="webp", quality=80)
                (HERE / "howto" / f"{picture}.webp").write_bytes(base64.b64decode(found["data"]))


if __name__ == "__main__":
    main()
