"""Requests with names, in every kind of worker: in environ, response, access log and error log."""

import re
from collections.abc import Sequence

import pytest

from tests.conftest import StartServer
from tests.live.client import Connection, Patron

pytestmark = pytest.mark.live

SOURCE = """
import time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fail":
        raise ValueError("on purpose")
    if path == "/hang":
        time.sleep(60)
    own = [("X-Request-ID", "own")] if path == "/own" else []
    start_response("200 OK", [("Content-Type", "text/plain"), *own])
    return [environ["wsgicluster.request_id"].encode()]
"""
FORMAT = "%(U)s %({x-request-id}i)s %({x-request-id}o)s %({wsgicluster.request_id}e)s."
NAME = "X-Request-ID: abc\r\n"


@pytest.mark.parametrize(
    "arguments",
    [("sync",), ("gthread", "--threads", "2"), ("gevent",)],
    ids=["sync", "gthread", "gevent"],
)
def test_from_end_to_end(server: StartServer, arguments: Sequence[str]) -> None:
    if arguments[0] == "gevent":
        pytest.importorskip("gevent")
    live = server(
        "app", "-k", *arguments, "--request-id", "accept", "--timeout", "2", "--access-logfile", "-",
        "--access-logformat", FORMAT, source=SOURCE,
    )  # fmt: skip
    with Patron(lambda: Connection(live.port)) as client:
        for path, name, sent in (("/given", "abc", "abc"), ("/own", "abc", "own")):
            (response,) = client.exchange(path, NAME)
            assert (response.body.decode(), response.headers["x-request-id"]) == (name, sent)
            live.wait_log(f"{path} abc {sent} abc\\.")
        made = client.exchange("/made")[0].headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", made)
        live.wait_log(f"/made {made} {made} {made}\\.")
        (failed,) = client.exchange("/fail", NAME)
        assert (failed.status, failed.headers["x-request-id"]) == (500, "abc")
    live.wait_log(r"the application failed in GET /fail HTTP/1\.1 \[abc\]")
    with Connection(live.port) as client:
        client.ask("/hang", extra=NAME)
        live.wait_log(r"(?:stuck|hung) in GET /hang HTTP/1\.1 \[abc\]")
