"""Applications that misbehave: their request suffers, the worker and the other clients do not."""

from collections.abc import Iterator

import pytest

from tests.conftest import LiveServer, SharedServers, StartServer
from tests.live.client import BrokenResponse, Connection

pytestmark = pytest.mark.live

SOURCE = """
import asyncio, io, os, socket

class Own(BaseException):
    pass

class Unclean:
    def __iter__(self):
        return iter([b"abc"])
    def close(self):
        raise SystemExit(3)

RAISED = {kind.__name__: kind for kind in (
    SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, MemoryError, RecursionError,
    StopIteration, Own)}

def late(kind):
    yield b"first"
    raise kind("late")

def file_like(name):
    if name == "pipe":
        reading, writing = os.pipe()
        os.write(writing, b"content")
        os.close(writing)
        return os.fdopen(reading, "rb")
    if name == "memory":
        return io.BytesIO(b"content")
    file = open("content.bin", "w+b")
    file.write(b"some content")
    file.seek(5)
    if name == "closed":
        file.close()
    return file

def application(environ, start_response):
    name, _, argument = environ["PATH_INFO"].lstrip("/").partition("/")
    if name == "raise":
        raise RAISED[argument]("mistake")
    if name == "status":
        start_response(argument + " Reason", [("Content-Length", "7")])
        return iter([b"con", b"tent"])
    if name == "headers":
        start_response("200 OK", [(f"X-Number-{n}", "value") for n in range(int(argument))])
        return [b"content"]
    body = b"%d" % os.getpid()
    if name == "timeout":
        socket.setdefaulttimeout(0.05)
    elif name == "chdir":
        os.chdir("/")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if name == "late":
        return late(RAISED[argument])
    if name == "unclean":
        return Unclean()
    if name == "nothing":
        return iter([b"", b""])
    if name == "text":
        return ["text"]
    if name == "none":
        return None
    if name == "file":
        return environ["wsgi.file_wrapper"](file_like(argument))
    return [body]
"""

RAISED = [
    "SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError", "MemoryError", "RecursionError",
    "StopIteration", "Own",
]  # fmt: skip


@pytest.fixture
def live(shared_servers: SharedServers) -> Iterator[LiveServer]:
    """One worker with the application above."""
    with shared_servers.lend("app", source=SOURCE) as lent:
        yield lent


def ask(live: LiveServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Status and body; a connection that stays must be in step with its client."""
    with Connection(live.port) as connection:
        response = connection.exchange(path, method)
        if not response.closes:
            assert connection.exchange("/").body.isdigit()
    return response.status, response.body


def test_whatever_is_raised_ends_its_request_only(live: LiveServer) -> None:
    worker = ask(live, "/")
    for kind in RAISED:
        assert ask(live, f"/raise/{kind}")[0] == 500
        with Connection(live.port) as connection:
            with pytest.raises((BrokenResponse, ConnectionResetError, ValueError)):
                connection.exchange(f"/late/{kind}")
    assert ask(live, "/") == worker


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_bodies(live: LiveServer, method: str) -> None:
    def expected(body: bytes) -> tuple[int, bytes]:
        return 200, b"" if method == "HEAD" else body

    assert ask(live, "/unclean", method) == expected(b"abc")
    assert ask(live, "/nothing", method) == expected(b"")
    assert ask(live, "/headers/10000", method) == expected(b"content")
    assert ask(live, "/file/pipe", method) == expected(b"content")
    assert ask(live, "/file/memory", method) == expected(b"content")
    assert ask(live, "/file/position", method) == expected(b"content")
    for path in ("/file/closed", "/text", "/none", "/status/101"):
        assert ask(live, path, method)[0] == 500


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("status", "length"), [("204", None), ("205", "0"), ("304", "7")])
def test_bodies_that_a_status_forbids(live: LiveServer, status: str, length: str | None, method: str) -> None:
    """RFC 9110, sections 8.6, 15.3.5, 15.3.6 and 15.4.5; the client's next request finds the connection in step."""
    with Connection(live.port) as connection:
        response = connection.exchange(f"/status/{status}", method)
        assert response.status == int(status)
        assert response.headers.get("content-length") == length or (method, status) == ("HEAD", "205")
        assert "transfer-encoding" not in response.headers
        assert connection.exchange("/").body.isdigit()


@pytest.mark.parametrize("path", ["/timeout", "/chdir"])
def test_state_of_the_process_that_an_application_changes(server: StartServer, path: str) -> None:
    live = server("app", source=SOURCE)
    worker = ask(live, path)
    with Connection(live.port) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert ask(live, "/") == worker
        connection.send(b"\r\n")
        assert connection.response().body == worker[1]
