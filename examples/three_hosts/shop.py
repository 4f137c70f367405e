"""A shop that runs on several hosts: its visits, its price and its hourly job belong to all of them together."""

import os
import pathlib
import time
from collections.abc import Callable, Iterable
from typing import Any

from wsgicluster import cluster

HOST = os.environ["WSGICLUSTER_NODE_NAME"]
VERSION = pathlib.Path("version.txt").read_text("ascii").strip()
RUNS = pathlib.Path(os.environ["SHOP_RUNS"])

visits = cluster.counter("visits")
price = {"now": "0"}


@cluster.on_message("price")
def take_price(message: cluster.Message) -> None:
    """Called in every worker of every host, also with the newest price that was broadcast while it was not there."""
    price["now"] = str(message.value)


@cluster.every(1, name="send invoices")
def send_invoices() -> None:
    """In one worker of one host each second; each run notes where it was, and from when to when."""
    began = time.monotonic()
    time.sleep(0.2)
    with RUNS.open("a") as file:
        file.write(f"{began} {time.monotonic()} {HOST}\n")


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """``/`` shows the visits, ``/slow`` takes a moment, a POST to ``/price`` tells a new price to all hosts."""
    status, body = "200 OK", b"ok\n"
    try:
        if environ["PATH_INFO"] == "/price":
            value = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode("ascii")
            cluster.broadcast("price", value, retain=True)
        elif environ["PATH_INFO"] == "/slow":
            time.sleep(0.1)
        else:
            visits.add()
    except cluster.BusDown:
        # What the page is for does not need Redis; only a change of the price does.
        body = b"ok, and not counted\n"
        if environ["PATH_INFO"] == "/price":
            status = "503 Service Unavailable"
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response(status, [*headers, ("X-Host", HOST), ("X-Version", VERSION), ("X-Price", price["now"])])
    return [body]
