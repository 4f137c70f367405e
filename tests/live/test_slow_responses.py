"""What a client may do behind a response that took long: its time begins with the response, not with the request."""

import importlib.util
import socket

import pytest

from tests.conftest import LiveServer, StartServer
from tests.live.client import Connection, fetch

pytestmark = pytest.mark.live

SOURCE = """
import time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/slow"):
        time.sleep(2.3)
    body = b"x" * (SIZE if path == "/slow/large" else 2)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
""".replace("SIZE", "12_000_000")
LARGE_BYTES = 12_000_000

KINDS = ("sync", "sync plain", "gthread", "gevent")
SHORT = ("--keep-alive", "2", "--write-timeout", "2", "--keepalive-slow", "0")
"""Less than a slow response takes."""


@pytest.fixture(params=KINDS)
def live(request: pytest.FixtureRequest, server: StartServer) -> LiveServer:
    kind, _, plain = request.param.partition(" ")
    if kind == "gevent" and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    return server(
        "app", "-w", "1", "-k", kind, *SHORT, source=SOURCE, environ={"WSGICLUSTER_PURE": "1" if plain else "0"}
    )


def have_it_look_at_its_clients(live: LiveServer) -> None:
    """Responses to others come from later turns of its loop."""
    for _ in range(3):
        assert fetch(live.port, "/").status == 200


def test_a_connection_is_kept_as_long_as_it_says(live: LiveServer) -> None:
    with Connection(live.port) as connection:
        for _ in range(2):
            response = connection.exchange("/slow")
            assert (response.status, response.closes) == (200, False)
            have_it_look_at_its_clients(live)


def test_a_client_has_all_its_time_to_take_a_response(live: LiveServer) -> None:
    with Connection(live.port) as connection:
        for _ in range(2):
            connection.ask("/slow/large")
            assert connection.sock.recv(1, socket.MSG_PEEK)
            have_it_look_at_its_clients(live)
            assert len(connection.response().body) == LARGE_BYTES
